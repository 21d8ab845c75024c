//! A small shop with faults to switch on: what `wachta demo` watches and the tests use as their site.
//!
//! Everything is in memory; it listens on loopback only.

mod fault;
mod lookup;
mod pages;
pub mod receiver;
mod shop;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use fault::{FAULTS, Fault};
pub use lookup::Surroundings;
pub use shop::{PASSWORD, Shop, USER};
pub use tls::Authority;

/// A shop that is open.
pub struct Demo {
    /// Its state: orders, faults.
    pub shop: Arc<Shop>,
    /// Where it listens for HTTP.
    pub http: SocketAddr,
    /// Where it listens for TLS.
    pub https: SocketAddr,
    /// The authority that signs its certificates.
    pub authority: Authority,
}

impl Demo {
    /// Opens a shop on loopback; port 0 takes a free one. It closes when `stop` is cancelled.
    pub async fn open(http: u16, https: u16, stop: &CancellationToken) -> std::io::Result<Self> {
        let authority = Authority::new().map_err(std::io::Error::other)?;
        let shop = Arc::new(Shop::default());
        let listener = TcpListener::bind(("127.0.0.1", http)).await?;
        let tls_listener = TcpListener::bind(("127.0.0.1", https)).await?;
        let demo = Self {
            shop: Arc::clone(&shop),
            http: listener.local_addr()?,
            https: tls_listener.local_addr()?,
            authority: authority.clone(),
        };
        let router = pages::router(Arc::clone(&shop));
        let until = stop.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(until.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the shop closed");
            }
        });
        tokio::spawn(tls::serve(tls_listener, authority, shop, stop.clone()));
        Ok(demo)
    }
}
