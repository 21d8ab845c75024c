//! `script`: a function body of the scenario in the page.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::Command;
use super::locate::Query;
use super::page::{PROMPT, Page, Saved};
use super::verdict::Trouble;
use crate::diagnostic::At;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::Value;

/// How long the driver lets a script run when it was told nothing else.
const USUAL: Duration = Duration::from_secs(10);

impl Page {
    /// Runs it once. A promise is awaited; what it throws is the failure.
    pub(super) async fn run_script(
        &mut self,
        script: &At<String>,
        args: &[Value],
        save: Option<&At<String>>,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<Saved>, Failure> {
        let since = Instant::now();
        let args = args.iter().map(|value| values.fill_value(value)).collect::<Result<Vec<_>, _>>();
        let args = args.map_err(|failure| failure.at(script.span))?;
        if !self.place.path.is_empty() {
            self.poll(&[Query::page()], deadline, |_| Ok(())).await?;
        }
        let left = Duration::from_secs(deadline.saturating_duration_since(Instant::now()).as_secs() + 1);
        let other = (left != USUAL).then_some(left);
        if let Some(left) = other {
            self.script_time(left).await.map_err(Trouble::failure)?;
        }
        let result = self.evaluate(&script.value, &args, deadline).await;
        if other.is_some() {
            self.script_time(USUAL).await.map_err(Trouble::failure)?;
        }
        let failed = |reason, text: String| Failure::new(reason, text).waited(since.elapsed()).at(script.span);
        let value = match result {
            Ok(answer) => match answer["threw"].as_str() {
                Some(text) => return Err(failed(Reason::Script, format!("the script threw {text}"))),
                None => answer["value"].clone(),
            },
            // It has sent the browser to another page.
            Err(Trouble::Again(_)) if save.is_none() => Json::Null,
            Err(Trouble::Timeout(_)) => return Err(failed(Reason::Timeout, "the script did not end in time".into())),
            Err(Trouble::Other(text)) => return Err(failed(Reason::Script, format!("the script failed: {text}"))),
            Err(trouble) => return Err(trouble.failure().at(script.span)),
        };
        Ok(save.map(|name| (name.value.clone(), value, false)).into_iter().collect())
    }

    /// The result of a function body under `value`, or what it threw under `threw`.
    pub(super) async fn evaluate(&mut self, body: &str, args: &[Json], deadline: Instant) -> Result<Json, Trouble> {
        // The body stands in the script as it is: a page's security policy may forbid to make functions of texts.
        let script = format!(
            "return (async function () {{\n{body}\n}}).apply(window, arguments[0]).then(
               value => ({{value: value === undefined ? null : value}}),
               error => ({{threw: error instanceof Error ? String(error) : typeof error === 'object' ? JSON.stringify(error) : String(error)}}));"
        );
        self.script(&script, &Json::from(args), deadline).await
    }

    async fn script_time(&mut self, limit: Duration) -> Result<(), Trouble> {
        self.call(Command::post("timeouts", json!({"script": limit.as_secs() * 1000})), PROMPT).await.map(drop)
    }
}
