//! `script`: runs a function body of the scenario in the page.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::Command;
use super::errors::CommandError;
use super::locate::LocatorQuery;
use super::page::{PROMPT, Page, SavedValue};
use super::world;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Value;
use crate::values::Values;

/// Converts a value for sending. An object with a JSON form of its own, such as a rectangle, is converted to it. Runs
/// in the page's own world and therefore uses only language keywords and operators.
const PLAIN: &str = "const wachtaPlain = (value, deep) => {
  if (value === null || typeof value !== 'object' || deep > 20 || value.nodeType) return value;
  if (value[Symbol.toStringTag] !== undefined) return typeof value.toJSON === 'function' ? value.toJSON() : value;
  if (typeof value.length === 'number') {
    const copy = [];
    for (let at = 0; at < value.length; at++) copy[at] = wachtaPlain(value[at], deep + 1);
    return copy;
  }
  if (value.constructor && value.constructor !== Object) return value;
  const copy = {}, keys = Object.keys(value);
  for (let at = 0; at < keys.length; at++) copy[keys[at]] = wachtaPlain(value[keys[at]], deep + 1);
  return copy;
};";

/// Converts a thrown value to text.
const CATCH: &str = "catch (error) { return [null, error instanceof Error || typeof error !== 'object' ? `${error}` : JSON.stringify(error)]; }";

/// Default timeout of the driver for scripts.
const USUAL: Duration = Duration::from_secs(10);

impl Page {
    /// Runs the script once. A returned promise is awaited, and a thrown value becomes the failure.
    pub(super) async fn run_script(
        &mut self,
        script: &Spanned<String>,
        args: &[Value],
        save: Option<&Spanned<String>>,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<SavedValue>, Failure> {
        let since = Instant::now();
        let args = args.iter().map(|value| values.fill_value(value)).collect::<Result<Vec<_>, _>>();
        let args = args.map_err(|failure| failure.at(script.span))?;
        if !self.place.path.is_empty() {
            self.poll(&[LocatorQuery::page()], deadline, |_| Ok(())).await?;
        }
        let left = Duration::from_secs(deadline.saturating_duration_since(Instant::now()).as_secs() + 1);
        let other = (left != USUAL && !self.has_realms()).then_some(left);
        if let Some(left) = other {
            self.script_time(left).await.map_err(CommandError::failure)?;
        }
        let result = self.evaluate(&script.value, &args, deadline).await;
        if other.is_some() {
            self.script_time(USUAL).await.map_err(CommandError::failure)?;
        }
        let failed = |reason, text: String| Failure::new(reason, text).waited(since.elapsed()).at(script.span);
        let value = match result {
            Ok(answer) => match answer["threw"].as_str() {
                Some(text) => return Err(failed(Reason::Script, format!("the script threw {text}"))),
                None => answer["value"].clone(),
            },
            // The script has sent the browser to another page.
            Err(CommandError::Again(_)) if save.is_none() => Json::Null,
            Err(CommandError::Timeout(_)) => {
                return Err(failed(Reason::Timeout, "the script did not end in time".into()));
            }
            Err(CommandError::Other(text) | CommandError::Inspection(text)) => {
                return Err(failed(Reason::Script, format!("the script failed: {text}")));
            }
            Err(trouble) => return Err(trouble.failure().at(script.span)),
        };
        Ok(save.map(|name| (name.value.clone(), value, false)).into_iter().collect())
    }

    /// Returns the result of a function body under `value`, or the thrown value under `threw`.
    pub(super) async fn evaluate(
        &mut self,
        body: &str,
        args: &[Json],
        deadline: Instant,
    ) -> Result<Json, CommandError> {
        // The body is inserted literally into the script, because a page's security policy may forbid creating
        // functions from text.
        if !self.has_realms() {
            let script = format!(
                "return (async function () {{\n{body}\n}}).apply(window, arguments[0]).then(
                   value => ({{value: value === undefined ? null : value}}),
                   error => ({{threw: error instanceof Error ? String(error) : typeof error === 'object' ? JSON.stringify(error) : String(error)}}));"
            );
            let left = deadline.saturating_duration_since(Instant::now());
            return self.call(Command::script(&script, &Json::from(args)), left).await;
        }
        let declaration = format!(
            "async function () {{\n{PLAIN}\ntry {{ return [wachtaPlain(await (async () => {{\n{body}\n}})(), 0)]; }} {CATCH} }}"
        );
        let params = json!({
            "functionDeclaration": declaration,
            "awaitPromise": true,
            "arguments": args.iter().map(world::local).collect::<Vec<_>>(),
            "target": {"context": self.document()},
        });
        self.hold_back(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = self.call_function(params, left).await?;
        if let Some(text) = world::thrown(&answer) {
            return Err(CommandError::Other(text));
        }
        let parts = &answer["result"]["value"];
        Ok(match parts[1]["value"].as_str() {
            Some(text) => json!({"threw": text}),
            None => json!({"value": world::plain(&parts[0])}),
        })
    }

    async fn script_time(&mut self, limit: Duration) -> Result<(), CommandError> {
        self.call(Command::post("timeouts", json!({"script": limit.as_secs() * 1000})), PROMPT).await.map(drop)
    }
}
