//! A way to a server that a test can close, block and slow down.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They reach the server.
    Open,
    /// They are closed at once, also those that were there.
    Closed,
    /// They are taken, and nothing comes back.
    Silent,
    /// What comes back takes this much longer.
    Slow(Duration),
}

/// A port in front of a server.
pub struct Gate {
    /// Where it listens, as `ADDRESS:PORT`.
    pub address: String,
    way: Arc<watch::Sender<Way>>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// An open one in front of `server`, an `ADDRESS:PORT`.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (way, server) = (Arc::new(watch::Sender::new(Way::Open)), server.to_owned());
        let ways = Arc::clone(&way);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, way) = (server.clone(), ways.subscribe());
                tokio::spawn(connection(client, server, way));
            }
        });
        Self { address, way, task }
    }

    /// Changes what becomes of connections; those that are there end.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(mut client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let now = *way.borrow_and_update();
    let pass = async {
        let delay = match now {
            Way::Closed => return,
            Way::Silent => {
                let mut bytes = [0; 4096];
                while client.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                return;
            }
            Way::Open => Duration::ZERO,
            Way::Slow(delay) => delay,
        };
        let Ok(server) = TcpStream::connect(server).await else { return };
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.split(), server.into_split());
        let there = async {
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            let _ = to_server.shutdown().await;
        };
        let back = async {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(read) = from_server.read(&mut bytes).await
                && read > 0
            {
                tokio::time::sleep(delay).await;
                if to_client.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
            let _ = to_client.shutdown().await;
        };
        tokio::join!(there, back);
    };
    tokio::select! {
        () = pass => {}
        _ = way.changed() => {}
    }
}
