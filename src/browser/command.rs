//! WebDriver commands as plain requests, including those that fantoccini does not support (Chromium's logs, CDP, and
//! script results that contain elements).

use fantoccini::wd::WebDriverCompatibleCommand;
use reqwest::Method;
use serde_json::{Value as Json, json};
use url::Url;

/// Key of element references in W3C WebDriver.
pub(super) const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A command of a session. fantoccini sends it as `application/json; charset=utf-8`, which Selenium Grid requires.
#[derive(Debug, Clone)]
pub(super) struct Command {
    method: Method,
    path: String,
    body: Option<Json>,
}

impl Command {
    /// Creates a query.
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    /// Creates a command with a body.
    pub(super) fn post(path: impl Into<String>, body: Json) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body) }
    }

    /// Creates a command that deletes something.
    pub(super) fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: None }
    }

    /// Creates a sequence of mouse actions (W3C WebDriver, section 15).
    pub(super) fn mouse(actions: &[Json]) -> Self {
        let mouse =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        Self::post("actions", json!({"actions": [mouse]}))
    }

    /// Presses keys in the format of [`super::keys::typed`].
    pub(super) fn keys(actions: Json) -> Self {
        Self::post("actions", actions)
    }

    /// Returns whether the command presses keys.
    pub(super) fn is_keys(&self) -> bool {
        self.actions().is_some_and(|actions| actions[0]["type"] == "key")
    }

    /// Returns the mouse or keyboard actions of the command, if there are any.
    pub(super) fn actions(&self) -> Option<&Json> {
        self.body.as_ref().filter(|_| self.path == "actions").map(|body| &body["actions"])
    }

    /// Creates a query for a property of an element.
    pub(super) fn of(element: &ElementId, what: &str) -> Self {
        Self::get(&format!("element/{}/{what}", element.0))
    }

    /// Runs a function body in the page. A returned promise is awaited.
    pub(super) fn script(script: &str, argument: &Json) -> Self {
        Self::post("execute/sync", json!({"script": script, "args": [argument]}))
    }

    /// Creates a command for an element.
    pub(super) fn element(element: &ElementId, what: &str, body: Json) -> Self {
        Self::post(format!("element/{}/{what}", element.0), body)
    }

    /// Creates a command of the Chrome `DevTools` Protocol.
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

/// Reference to an element of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ElementId(String);

impl ElementId {
    /// Returns the reference in WebDriver's format.
    pub(super) fn json(&self) -> Json {
        json!({ELEMENT: self.0})
    }

    /// Reads a reference from the result of a script.
    pub(super) fn read(value: &Json) -> Option<Self> {
        value.get(ELEMENT)?.as_str().map(|id| Self(id.to_owned()))
    }
}

/// Decodes base64 data from the driver.
pub(super) fn decode(answer: &Json) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(answer.as_str()?).ok()
}
