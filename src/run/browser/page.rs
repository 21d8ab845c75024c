//! The page of one run: the session as its steps see it. One command at a time, each with a deadline of its own.

use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout};
use url::Url;

use super::act::Pauses;
use super::command::Command;
use super::lease::{End, Lease};
use super::metrics::Cause;
use super::verdict::Trouble;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::{PageAction, PageExpectation, Viewport};

/// How much later than the driver we lose patience.
const GRACE: Duration = Duration::from_secs(1);

/// How long a command may take that has nothing to wait for.
pub(super) const PROMPT: Duration = Duration::from_secs(10);

/// What a step keeps for later ones: name, value, whether it is a secret.
pub type Saved = (String, Json, bool);

/// A browser with one page. Dropping it ends the session; [`Page::close`] also waits for that.
pub struct Page {
    client: Client,
    lease: Option<Lease>,
    http: reqwest::Client,
    /// Where the driver says how it is.
    status: Url,
    /// What the driver was last told to wait for pages.
    patience: Option<Duration>,
    /// Why the session is of no use any more.
    lost: Option<Trouble>,
    /// When the document that the last `goto` opened began, by the browser's clock.
    pub(super) origin: f64,
}

impl Page {
    pub(super) fn new(client: Client, lease: Lease, http: reqwest::Client, status: Url) -> Self {
        Self { client, lease: Some(lease), http, status, patience: None, lost: None, origin: 0.0 }
    }

    /// Does one action of a scenario; returns what it saves. `timeout` bounds all of it. Waiting is built in: an action
    /// waits for its element, an expectation until it holds.
    pub async fn act(
        &mut self,
        action: &PageAction,
        values: &Values,
        timeout: Duration,
    ) -> Result<Vec<Saved>, Failure> {
        let deadline = Instant::now() + timeout;
        match action {
            PageAction::Goto { url, .. } => self.goto(url, values, deadline).await?,
            PageAction::Click { target, .. } => self.click(target, values, deadline).await?,
            PageAction::Fill { target, with, .. } => self.fill(target, with, values, deadline).await?,
            PageAction::Select { target, options } => self.select(target, options, values, deadline).await?,
            PageAction::Press { keys, into } => self.press(keys, into.as_ref(), values, deadline).await?,
            PageAction::Expect(expectations) => self.expect(expectations, values, deadline).await?,
            PageAction::Save(saves) => return self.save(saves, values, deadline).await,
            PageAction::Screenshot { .. } => {
                self.screenshot().await?;
            }
            other => return Err(Failure::new(Reason::Configuration, format!("not supported yet: {other:?}"))),
        }
        Ok(Vec::new())
    }

    /// Whether all of these hold now: looked at once, again only where the page changed under it, up to `timeout`.
    pub async fn holds(
        &mut self,
        when: &[PageExpectation],
        values: &Values,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        let mut pauses = Pauses::new();
        loop {
            match self.expect(when, values, Instant::now()).await {
                Ok(()) => return Ok(true),
                Err(failure) if matches!(failure.reason, Reason::Assertion | Reason::NotFound | Reason::Ambiguous) => {
                    return Ok(false);
                }
                Err(failure) if failure.reason == Reason::Timeout && pauses.wait(deadline).await => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// A picture of what is visible: PNG.
    pub async fn screenshot(&mut self) -> Result<Vec<u8>, Failure> {
        let answer = self.call(Command::get("screenshot"), PROMPT).await.map_err(Trouble::failure)?;
        decode(&answer).ok_or_else(|| Failure::new(Reason::Driver, "the driver's screenshot is not one"))
    }

    /// Ends the session, its processes and its folder, and waits until they are gone.
    pub async fn close(mut self) {
        let how = if self.lost.is_some() { End::Because(Cause::Crashed) } else { End::Done };
        if let Some(lease) = self.lease.take() {
            lease.end(how).await;
        }
    }

    /// Gives the page its size: of the page, not of a window around it.
    pub(super) async fn resize(&mut self, size: Viewport) -> Result<(), Failure> {
        let metrics = json!({"width": size.width, "height": size.height, "deviceScaleFactor": 1, "mobile": false});
        let command = Command::cdp("Emulation.setDeviceMetricsOverride", &metrics);
        self.call(command, PROMPT).await.map(drop).map_err(Trouble::failure)
    }

    /// Tells the driver how long a page may load, where that is news to it.
    pub(super) async fn patience(&mut self, deadline: Instant) -> Result<(), Trouble> {
        // Rounded up, so that steps with the same timeout need not say it again.
        let wanted = Duration::from_secs(deadline.saturating_duration_since(Instant::now()).as_secs() + 1);
        if self.patience != Some(wanted) {
            let body = json!({"pageLoad": wanted.as_secs() * 1000});
            self.call(Command::post("timeouts", body), PROMPT).await?;
            self.patience = Some(wanted);
        }
        Ok(())
    }

    /// Runs a command. A driver that does not come back is asked how it is: one that answers is kept busy by the page.
    pub(super) async fn call(&mut self, command: Command, limit: Duration) -> Result<Json, Trouble> {
        if let Some(trouble) = &self.lost {
            return Err(trouble.clone());
        }
        let trouble = match timeout(limit + GRACE, self.client.issue_cmd(command)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => {
                let trouble = match Trouble::from(error) {
                    Trouble::Timeout(text) => self.autopsy().await.unwrap_or(Trouble::Timeout(text)),
                    trouble => trouble,
                };
                if !trouble.is_final() {
                    return Err(trouble);
                }
                trouble
            }
            Err(_) => {
                let answer = self.http.get(self.status.clone()).timeout(2 * GRACE).send().await;
                if answer.is_ok() {
                    Trouble::Timeout("the page does not answer: its scripts keep it busy".into())
                } else {
                    Trouble::Gone(Reason::Driver, "the WebDriver endpoint does not answer".into())
                }
            }
        };
        // The client sends one command after the other, so that another one would only wait behind this one.
        self.lost = Some(trouble.clone());
        Err(trouble)
    }

    /// Whether a page that did not get ready is dead: the driver waits for it all the same, and only says so when it is
    /// asked for something else. Sometimes not even then: a renderer that died while it was loading a page looks like
    /// one that is kept busy, and is of no more use.
    async fn autopsy(&mut self) -> Option<Trouble> {
        if let Ok(answer) = timeout(2 * GRACE, self.client.issue_cmd(Command::get("title"))).await {
            return answer.err().map(Trouble::from).filter(Trouble::is_final);
        }
        self.lost = Some(Trouble::Timeout("the page does not answer".into()));
        None
    }

    /// Runs a script within the time that is left.
    pub(super) async fn script(&mut self, script: &str, argument: &Json, deadline: Instant) -> Result<Json, Trouble> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.call(Command::script(script, argument), left).await
    }
}

/// Decodes what the driver sends as base64.
pub(super) fn decode(answer: &Json) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(answer.as_str()?).ok()
}
