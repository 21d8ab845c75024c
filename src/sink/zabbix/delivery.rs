//! The way that rows take, and which of them arrive.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::WHY_REFUSED;
use super::client::Client;
use super::items::Row;
use super::push::Push;

/// How long it is found out which rows of a request were refused. What is not known by then is sent again later.
const SEARCH: Duration = Duration::from_secs(30);
/// What is said of a row of which it was not found out in time.
const NOT_KNOWN: &str = "the server refuses others of its request, and answers too slowly to find out which";

/// Why a row was refused; `None` for one that was taken.
pub type Refused = Option<Cow<'static, str>>;

/// The way that rows take.
pub enum Delivery {
    /// The trapper protocol.
    Trapper(Client),
    /// `history.push` of the API.
    Api(Push),
    /// `history.push` where the server has it, which is asked at the first batch; else the trapper protocol.
    Auto(Box<(Client, Push)>),
}

impl Delivery {
    /// Sends rows, and returns for each whether and why it was refused.
    ///
    /// # Errors
    ///
    /// When there is no usable answer: the server may have none, some or all of them.
    pub async fn send(&mut self, rows: &[Row]) -> Result<Vec<Refused>, String> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Trapper(client) => search(client, rows).await,
            Self::Api(push) => by_api(push, rows).await,
            Self::Auto(both) => {
                let (client, push) = &mut **both;
                // Asked for each batch, since a server may be replaced by another version; the answer is remembered for
                // as long as the API does.
                if push.is_possible().await? { by_api(push, rows).await } else { search(client, rows).await }
            }
        }
    }
}

async fn by_api(push: &mut Push, rows: &[Row]) -> Result<Vec<Refused>, String> {
    Ok(push.send(rows).await?.into_iter().map(|refused| refused.map(Cow::Owned)).collect())
}

/// Sends rows to a trapper, which only counts what it took: what is taken in part is sent again in halves.
async fn search(client: &mut Client, rows: &[Row]) -> Result<Vec<Refused>, String> {
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
