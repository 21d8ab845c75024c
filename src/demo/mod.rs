//! Small shop with switchable faults: the target of `wachta demo` and the site used by tests.
//!
//! All data is in memory; the shop listens on loopback only.

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
pub use lookup::DemoLookup;
pub use shop::{PASSWORD, Shop, USER};
pub use tls::Authority;

/// Running shop.
pub struct Demo {
    /// State of the shop: orders and faults.
    pub shop: Arc<Shop>,
    /// Address of the HTTP server.
    pub http: SocketAddr,
    /// Address of the TLS server.
    pub https: SocketAddr,
    /// Certificate authority of the shop.
    pub authority: Authority,
}

impl Demo {
    /// Starts a shop on loopback; port 0 selects a free one. It stops when `stop` is cancelled.
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
