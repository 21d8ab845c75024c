//! A receiver of notices that writes down what it hears, and can kill who tells it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the receiver does to the agent at each notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Takes it.
    Polite,
    /// Kills the agent before it answers.
    KillBefore,
    /// Answers, then kills the agent.
    KillAfter,
    /// Is not there: answers 503, and notes nothing but that.
    Refuse,
}

#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Value>>>,
    refused: Arc<Mutex<usize>>,
    aim: Arc<Mutex<Aim>>,
}

/// How it behaves, and whom it kills; 0 is nobody. One notice kills one agent. Under one lock, so that nobody is killed
/// any more once it behaves otherwise.
struct Aim {
    manners: Manners,
    victim: i32,
}

impl Receiver {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::default(),
            refused: Arc::default(),
            aim: Arc::new(Mutex::new(Aim { manners: Manners::Polite, victim: 0 })),
        };
        let server = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().take(stream));
            }
        });
        receiver
    }

    pub fn behave(&self, manners: Manners) {
        self.aim.lock().unwrap().manners = manners;
    }

    pub fn aim_at(&self, pid: i32) {
        self.aim.lock().unwrap().victim = pid;
    }

    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// How many attempts it has refused.
    pub fn refused(&self) -> usize {
        *self.refused.lock().unwrap()
    }

    async fn take(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 8192];
        let body = loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                break body.to_owned();
            }
        };
        let mut notification: Value = serde_json::from_str(&body).unwrap();
        // What tests compare is the key without the store that it is of; a trial has none.
        if let Some((key, store)) = notification["dedup_key"].as_str().and_then(|key| key.rsplit_once('@')) {
            assert_eq!(store.len(), 8, "{notification}");
            notification["dedup_key"] = key.into();
        }
        if self.aim.lock().unwrap().manners == Manners::Refuse {
            *self.refused.lock().unwrap() += 1;
            let _ = stream.write_all(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return;
        }
        self.heard.lock().unwrap().push(notification);
        if self.strike(Manners::KillBefore) {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        let _ = stream.flush().await;
        self.strike(Manners::KillAfter);
    }

    /// Kills if it behaves so, and says whether it did.
    fn strike(&self, manners: Manners) -> bool {
        let mut aim = self.aim.lock().unwrap();
        if aim.manners != manners {
            return false;
        }
        let pid = std::mem::take(&mut aim.victim);
        pid != 0 && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
    }
}
