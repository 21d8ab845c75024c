//! Stream to a trapper, and the reasons for not receiving a response.

use tokio::io::{AsyncRead, AsyncWrite};

/// Reason for not receiving a usable response. A retry is useful in all cases.
#[derive(Debug)]
pub enum Error {
    /// No connection could be established.
    Connect(std::io::Error),
    /// The TLS connection failed, with the reason.
    Tls(String),
    /// The connection was lost.
    Io(std::io::Error),
    /// A timeout expired.
    Timeout(&'static str),
    /// The data received is not a trapper response.
    Answer(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) | Self::Io(error) => write!(f, "{error}"),
            Self::Tls(what) => write!(f, "TLS: {what}"),
            Self::Timeout(what) => write!(f, "{what} took too long"),
            Self::Answer(what) => write!(f, "not a response of a Zabbix trapper: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// Connection to a trapper, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
