//! Delivery of rows, and detection of rejected ones.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::items::ItemValue;
use super::push::Push;

/// Time limit of finding the rejected rows of a request. Rows whose state is still unknown are sent again later.
const SEARCH: Duration = Duration::from_secs(30);
/// Reason reported for a row whose state was not determined in time.
const NOT_KNOWN: &str =
    "the server rejects other values of the same request, and responds too slowly to find out which";
/// Possible reasons for rejected values.
pub const WHY_REFUSED: &str = "is the template linked to the host, the host enabled and not behind a proxy, the item not \
     disabled, this agent among the item's allowed hosts, the host's encryption that of the connection";

/// Reason for the rejection of a row, or `None` for an accepted one.
pub type Refused = Option<Cow<'static, str>>;

/// Delivery method of rows.
pub enum Delivery {
    /// Trapper protocol.
    Trapper(Client),
    /// API method `history.push`.
    Api(Push),
    /// `history.push` if the server supports it, which is determined with the first batch, otherwise the trapper
    /// protocol.
    Auto(Box<(Client, Push)>),
}

impl Delivery {
    /// Sends rows, and returns for each the reason if it was rejected.
    ///
    /// # Errors
    ///
    /// There is no usable response: the server may have accepted nothing, a part, or everything.
    pub async fn send(&mut self, rows: &[ItemValue]) -> Result<Vec<Refused>, String> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Trapper(client) => search(client, rows).await,
            Self::Api(push) => by_api(push, rows).await,
            Self::Auto(both) => {
                let (client, push) = &mut **both;
                // Checked for each batch, because the server may be replaced by another version. The API client caches
                // the version.
                if push.is_possible().await? { by_api(push, rows).await } else { search(client, rows).await }
            }
        }
    }
}

async fn by_api(push: &mut Push, rows: &[ItemValue]) -> Result<Vec<Refused>, String> {
    Ok(push.send(rows).await?.into_iter().map(|refused| refused.map(Cow::Owned)).collect())
}

/// Sends rows to a trapper, which only reports the number of accepted ones: a partially accepted request is split in
/// halves and sent again.
async fn search(client: &mut Client, rows: &[ItemValue]) -> Result<Vec<Refused>, String> {
    let started = Instant::now();
    let mut refused: Vec<Refused> = vec![Some(Cow::Borrowed(NOT_KNOWN)); rows.len()];
    let mut parts: Vec<_> = std::iter::once(0..rows.len()).collect();
    while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
        if started.elapsed() > SEARCH {
            break;
        }
        let count = client.send(&rows[part.clone()]).await?;
        if count >= part.len() {
            refused[part].fill(None);
        } else if count == 0 {
            refused[part].fill(Some(Cow::Borrowed(WHY_REFUSED)));
        } else {
            let middle = part.start + part.len() / 2;
            parts.extend([middle..part.end, part.start..middle]);
        }
    }
    Ok(refused)
}
