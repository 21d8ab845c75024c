//! A relay for clients that can only open their own connections: a Unix socket in a private folder whose bytes are
//! forwarded over a connection that the dialer opened. The number of bytes from the server is limited.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};

use super::connection::broken;
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::wire::of_io;

/// Maximum number of bytes that a server may send in one conversation, the same as for HTTP bodies.
const MAX_BYTES: usize = 10 << 20;
/// Port that a client has to specify, as its number is part of the socket's name.
pub const PORT: u16 = 5432;
/// Name of the socket under which a PostgreSQL client expects that port.
const SOCKET: &str = ".s.PGSQL.5432";

/// A Unix socket that accepts one connection. The folder is removed when the relay is dropped.
pub struct Relay {
    listener: UnixListener,
    folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Files left in the temporary folder do no harm.
        let _ = std::fs::remove_file(self.0.join(SOCKET));
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Relay {
    /// Creates a socket in a new folder that only this user can enter. Fails if the temporary folder is not writable.
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

    /// Returns the folder of the socket.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Accepts one connection and copies bytes until either side has closed it. Fails if the server breaks the
    /// connection or sends more than `MAX_BYTES` bytes.
    pub async fn run(self, server: TcpStream) -> Result<(), Failure> {
        let (client, _) = self.listener.accept().await.map_err(|error| broken(&error))?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async {
            let sent = tokio::io::copy(&mut from_client, &mut to_server).await.map(drop);
            // The client has sent everything, but the server may still respond.
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
                // A client that has closed the connection needs no more data.
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
