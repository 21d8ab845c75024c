//! Delivery by the API method `history.push` (7.0 and later), for agents that can reach only the frontend by HTTPS, and
//! for hosts behind proxies, which this method ignores.
//!
//! Each row has a separate result. A row that was sent before is accepted but not stored again, as with the trapper;
//! therefore a row with the same time as another one in the call also counts as accepted. The server checks types
//! later, so a value of a wrong type is accepted as well.

use serde::Serialize;
use serde_json::Value;

use super::api::{self, Api, Version};
use super::items::ItemValue;

/// Maximum number of rows in a call.
const MAX_ROWS: usize = 1_000;
/// Maximum size of the values in a call, in bytes. By default, web servers reject bodies above 1 MB.
const MAX_BYTES: usize = 600_000;
/// First version with the method.
const FIRST_VERSION: Version = Version::new(7, 0);
/// Result of a row with the same time as another one in the call.
const DUPLICATE: &str = "Duplicate timestamp found";

/// API client that sends values of one host.
pub struct Push {
    host: String,
    config: api::Config,
    http: reqwest::Client,
    /// API client, present after the first response.
    api: Option<Api>,
}

impl Push {
    /// Creates a client that sends values of `host` through an API.
    pub fn new(host: &str, config: api::Config, http: reqwest::Client) -> Self {
        Self { host: host.to_owned(), config, http, api: None }
    }

    /// Returns whether the server has the method.
    ///
    /// # Errors
    ///
    /// The API does not respond.
    pub async fn is_possible(&mut self) -> Result<bool, String> {
        self.api().await.map(|api| api.version() >= FIRST_VERSION).map_err(|error| error.to_string())
    }

    async fn api(&mut self) -> Result<&Api, api::Error> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::connect(&self.config, self.http.clone()).await?,
        };
        Ok(self.api.insert(api))
    }

    /// Sends rows, and returns for each the reason for its rejection, or `None` if it was accepted.
    ///
    /// # Errors
    ///
    /// A call has no usable response.
    pub async fn send(&mut self, rows: &[ItemValue]) -> Result<Vec<Option<String>>, String> {
        let mut refusals = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            let (call, behind) = rest.split_at(calls_rows(rest));
            rest = behind;
            match self.call(call).await {
                Ok(answers) => refusals.extend(answers),
                Err(error) => {
                    // A session may have expired, or a token may have been renewed.
                    self.api = None;
                    return Err(error.to_string());
                }
            }
        }
        Ok(refusals)
    }

    async fn call(&mut self, rows: &[ItemValue]) -> Result<Vec<Option<String>>, api::Error> {
        #[derive(Serialize)]
        struct Value<'a> {
            host: &'a str,
            #[serde(flatten)]
            row: &'a ItemValue,
        }
        let values: Vec<_> = rows.iter().map(|row| Value { host: &self.host, row }).collect();
        let values = serde_json::to_value(values).expect("strings and integers always serialize");
        let result = self.api().await?.call("history.push", &values).await?;
        answers(&result, rows.len()).map_err(api::Error::NotApi)
    }
}

/// Returns the number of leading rows that fit into one call.
fn calls_rows(rows: &[ItemValue]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(MAX_ROWS).take_while(|row| {
        bytes += row.key.len() + row.value.len() + 100;
        bytes <= MAX_BYTES
    });
    fitting.count().max(1)
}

/// Parses the results of `count` rows.
fn answers(result: &Value, count: usize) -> Result<Vec<Option<String>>, String> {
    let data = result["data"].as_array().filter(|data| result["response"] == "success" && data.len() == count);
    let data = data.ok_or_else(|| {
        let shown: String = result.to_string().chars().take(200).collect();
        format!("history.push did not return a result for each of {count} values: {shown}")
    })?;
    let refusal = |answer: &Value| {
        let error = answer["error"].as_str()?.trim_end_matches('.');
        (error != DUPLICATE).then(|| error.to_owned())
    };
    Ok(data.iter().map(refusal).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sink::zabbix::items::ValueClass;

    #[test]
    fn a_row_is_taken_unless_its_answer_says_why_not() {
        let result = json!({"response": "success", "data": [
            {"itemid": 51145}, {"itemid": "51146", "error": "Item is disabled."},
            {"error": "No permissions to referred object or it does not exist."},
            {"itemid": 51145, "error": "Duplicate timestamp found."},
        ]});
        let disabled = Some("Item is disabled".to_owned());
        let unknown = Some("No permissions to referred object or it does not exist".to_owned());
        assert_eq!(answers(&result, 4), Ok(vec![None, disabled, unknown, None]));
        assert!(
            answers(&result, 3).unwrap_err().starts_with("history.push did not return a result for each of 3 values")
        );
        assert!(answers(&json!({"response": "failed"}), 1).is_err());
    }

    #[test]
    fn calls_are_bounded_by_rows_and_by_bytes() {
        let row = |length| ItemValue { key: "k".into(), value: "v".repeat(length), at: None, weight: ValueClass::Run };
        let check = |rows: &[ItemValue], expected: usize| assert_eq!(calls_rows(rows), expected);
        check(&vec![row(1); 2_500], 1_000);
        check(&vec![row(60_000); 20], 9);
        check(&[row(2_000_000), row(1)], 1);
        check(&[row(1)], 1);
    }
}
