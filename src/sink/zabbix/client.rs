//! Trapper client: sends one request per connection, to the first address that responds.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::{Connector, Error, Security};
use super::items::ItemValue;
use super::nodes::{Next, Nodes};
use super::protocol::{self, Answer, HEADER};

/// Timeout of closing an encrypted connection. The server logs a missing closure.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Client of one Zabbix installation, for one host.
#[derive(Debug)]
pub struct Client {
    host: String,
    nodes: Nodes,
    connector: Connector,
    connect: Duration,
    answer: Duration,
}

impl Client {
    /// Creates a client that sends values of `host` to one of the nodes (`host:port`), with these timeouts for a
    /// connection and for a response.
    pub fn new(host: &str, nodes: Vec<String>, security: Security, connect: Duration, answer: Duration) -> Self {
        Self { host: host.to_owned(), nodes: Nodes::new(nodes), connector: Connector::new(security), connect, answer }
    }

    /// Sends rows and returns the number of accepted ones. If an address cannot be connected to, the next is tried. If
    /// a connection breaks later, no other address is tried, because the rows may have been accepted, but the next
    /// attempt begins with another one.
    ///
    /// # Errors
    ///
    /// No address returned a usable response; the text contains the reason for each.
    pub async fn send(&mut self, rows: &[ItemValue]) -> Result<usize, String> {
        let request = protocol::request(&self.host, rows);
        let mut addresses: VecDeque<_> = self.nodes.addresses().into_iter().map(|address| (address, false)).collect();
        let mut problems = Vec::new();
        while let Some((address, is_followed)) = addresses.pop_front() {
            let answer = match self.exchange(&address, &request).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.nodes.failed(&address);
                    let is_without_connection = matches!(error, Error::Connect(_) | Error::Timeout("connecting"));
                    problems.push(format!("{address}: {error}"));
                    if is_without_connection {
                        continue;
                    }
                    break;
                }
            };
            match self.nodes.redirected(&address, &answer, is_followed) {
                Some(Next::Follow(member)) => addresses.push_front((member, true)),
                Some(Next::Another) => {
                    problems.push(format!("{address}: another member of its proxy group has the host"));
                }
                None => self.nodes.succeeded(&address),
            }
            match answer {
                Answer::Processed(count) => return Ok(count),
                Answer::Rejected(words) => {
                    problems.push(format!("{address}: the server rejected the request: {words}"));
                    break;
                }
                Answer::Redirect { .. } | Answer::Reset => {}
            }
        }
        Err(problems.join("; "))
    }

    async fn exchange(&mut self, address: &str, request: &[u8]) -> Result<Answer, Error> {
        let mut stream = self.connector.open(address, self.connect).await?;
        let exchange = async {
            stream.write_all(request).await.map_err(Error::Io)?;
            stream.flush().await.map_err(Error::Io)?;
            let mut header = [0; HEADER];
            stream.read_exact(&mut header).await.map_err(Error::Io)?;
            let header = protocol::header(&header).map_err(Error::Answer)?;
            let mut payload = vec![0; header.length];
            stream.read_exact(&mut payload).await.map_err(Error::Io)?;
            protocol::answer(header, &payload).map_err(Error::Answer)
        };
        let answer = timeout(self.answer, exchange).await.map_err(|_| Error::Timeout("the response"))??;
        let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
        Ok(answer)
    }
}
