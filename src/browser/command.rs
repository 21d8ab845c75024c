//! WebDriver commands as plain requests: the same for those that fantoccini knows and those that it does not
//! (Chromium's logs, CDP, computed answers of scripts with elements in them).

use fantoccini::wd::WebDriverCompatibleCommand;
use reqwest::Method;
use serde_json::{Value as Json, json};
use url::Url;

/// The key under which W3C WebDriver hands out elements.
pub(super) const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One command of a session. fantoccini sends it as `application/json; charset=utf-8`, which Selenium Grid insists on.
#[derive(Debug, Clone)]
pub(super) struct Command {
    method: Method,
    path: String,
    body: Option<Json>,
}

impl Command {
    /// Asks for something.
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    /// Does something.
    pub(super) fn post(path: impl Into<String>, body: Json) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body) }
    }

    /// Undoes something.
    pub(super) fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: None }
    }

    /// What the mouse does, one thing after the other (W3C WebDriver, section 15).
    pub(super) fn mouse(actions: &[Json]) -> Self {
        let mouse =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        Self::post("actions", json!({"actions": [mouse]}))
    }

    /// Presses keys, as [`super::keys::typed`] writes them down.
    pub(super) fn keys(actions: Json) -> Self {
        Self::post("actions", actions)
    }

    /// Whether it presses keys.
    pub(super) fn is_keys(&self) -> bool {
        self.actions().is_some_and(|actions| actions[0]["type"] == "key")
    }

    /// What mouse or keyboard do, where the command is that.
    pub(super) fn actions(&self) -> Option<&Json> {
        self.body.as_ref().filter(|_| self.path == "actions").map(|body| &body["actions"])
    }

    /// Asks for something of an element.
    pub(super) fn of(element: &ElementId, what: &str) -> Self {
        Self::get(&format!("element/{}/{what}", element.0))
    }

    /// Runs a function body in the page; a promise it returns is awaited.
    pub(super) fn script(script: &str, argument: &Json) -> Self {
        Self::post("execute/sync", json!({"script": script, "args": [argument]}))
    }

    /// Does something with an element.
    pub(super) fn element(element: &ElementId, what: &str, body: Json) -> Self {
        Self::post(format!("element/{}/{what}", element.0), body)
    }

    /// A command of the Chrome `DevTools` Protocol.
    pub(super) fn cdp(name: &str, parameters: &Json) -> Self {
        Self::post("goog/cdp/execute", json!({"cmd": name, "params": parameters}))
    }
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        tracing::trace!(method = %self.method, path = self.path, "command");
        (self.method.clone(), self.body.as_ref().map(Json::to_string))
    }
}

/// An element of the page, as the driver knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ElementId(String);

impl ElementId {
    /// As the driver takes it.
    pub(super) fn json(&self) -> Json {
        json!({ELEMENT: self.0})
    }

    /// Reads one from a script's answer.
    pub(super) fn read(value: &Json) -> Option<Self> {
        value.get(ELEMENT)?.as_str().map(|id| Self(id.to_owned()))
    }
}
