//! A site that takes its time: it counts who asks and answers when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A site that answers nobody until [`Slow::answer`].
pub struct Slow {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    status: watch::Sender<Option<u16>>,
}

impl Slow {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let slow =
            Self { address: listener.local_addr().unwrap(), asked: Arc::default(), status: watch::Sender::new(None) };
        let (asked, status) = (Arc::clone(&slow.asked), slow.status.subscribe());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (asked, mut status) = (Arc::clone(&asked), status.clone());
                tokio::spawn(async move {
                    let mut buffer = [0_u8; 8192];
                    if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        return;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    let Ok(status) = status.wait_for(Option::is_some).await.map(|status| status.unwrap_or(200)) else {
                        return;
                    };
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        slow
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Answers all that wait and all that come, with this status.
    pub fn answer(&self, status: u16) {
        self.status.send_replace(Some(status));
    }
}
