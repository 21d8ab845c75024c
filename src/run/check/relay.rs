//! A way for a client that only connects by itself: a Unix socket in a private folder, whose bytes go over a connection
//! that the dialer made. What the server sends is bounded on the way.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};

use super::connection::broken;
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::wire::of_io;

/// Maximum number of bytes that a server may send in one conversation, as with bodies of HTTP.
const MAX_BYTES: usize = 10 << 20;
/// The port that a client has to name: its number is a part of the socket's name.
pub const PORT: u16 = 5432;
/// The name of the socket, as a client of PostgreSQL looks for it on that port.
const SOCKET: &str = ".s.PGSQL.5432";

/// A Unix socket that takes one connection. Its folder is removed with it.
pub struct Relay {
    listener: UnixListener,
    folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = std::fs::remove_file(self.0.join(SOCKET));
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Relay {
    /// Listens in a new folder that only this user can enter. Fails when the temporary folder cannot be written to.
    pub fn open() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("wachta-relay-{}", RunId::new()));
        let failed = |error: std::io::Error| {
            let message = format!("cannot make a socket in `{}`: {error}", path.display());
            of_io(&error, Reason::Configuration, message)
        };
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let folder = Folder(path.clone());
        let listener = UnixListener::bind(path.join(SOCKET)).map_err(failed)?;
        Ok(Self { listener, folder })
    }

    /// The folder that the socket is in.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Takes one connection and moves its bytes until either side has hung up. Fails when the server breaks off or sends
    /// more than may be kept.
    pub async fn run(self, server: TcpStream) -> Result<(), Failure> {
        let (client, _) = self.listener.accept().await.map_err(|error| broken(&error))?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async {
            let sent = tokio::io::copy(&mut from_client, &mut to_server).await.map(drop);
            // The client has said all that it will; the server may have something to say yet.
            let _ = to_server.shutdown().await;
            sent.map_err(|error| broken(&error))
        };
        let down = async {
            let (mut buffer, mut came) = (vec![0; 16 << 10], 0);
            loop {
                let length = from_server.read(&mut buffer).await.map_err(|error| broken(&error))?;
                came += length;
                if came > MAX_BYTES {
                    return Err(Failure::new(
                        Reason::TooLarge,
                        format!(
                            "the server sent more than {} MiB; select less, such as `left(column, 1000)`",
                            MAX_BYTES >> 20
                        ),
                    ));
                }
                // Who hung up needs no more.
                if length == 0 || to_client.write_all(&buffer[..length]).await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut down => ended,
            ended = &mut up => match ended {
                Ok(()) => down.await,
                failed => failed,
            },
        }
    }
}
