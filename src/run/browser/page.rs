//! The page of one run: the session as its steps see it. One command at a time, each with a deadline of its own.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout};
use url::Url;

use super::command::Command;
use super::frame::Place;
use super::lease::{End, Lease};
use super::locate::{Answer, Query};
use super::metrics::Cause;
use super::picture::Typed;
use super::verdict::Trouble;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::{PageAction, Target, Viewport};

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
    /// The document that the driver is in.
    pub(super) place: Place,
    /// Where another element was found than the one that a target means first.
    drifts: Vec<String>,
    /// Fields that a secret was typed into.
    pub(super) typed: Vec<Typed>,
    /// Where files can be put for the browser to read; none: it runs elsewhere.
    pub(super) folder: Option<PathBuf>,
    /// How many files were put there.
    pub(super) uploads: u32,
}

impl Page {
    pub(super) fn new(client: Client, lease: Lease, http: reqwest::Client, status: Url) -> Self {
        Self {
            client,
            lease: Some(lease),
            http,
            status,
            patience: None,
            lost: None,
            origin: 0.0,
            place: Place::default(),
            drifts: Vec::new(),
            typed: Vec::new(),
            folder: None,
            uploads: 0,
        }
    }

    /// Says where files can be put for the browser to read.
    pub(super) fn share(mut self, folder: PathBuf) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Does one action of a scenario in a frame, outermost first; returns what it saves. `timeout` bounds all of it.
    /// Waiting is built in: an action waits for its element, an expectation until it holds.
    pub async fn act(
        &mut self,
        action: &PageAction,
        within_frame: &[Target],
        values: &Values,
        timeout: Duration,
    ) -> Result<Vec<Saved>, Failure> {
        let deadline = Instant::now() + timeout;
        self.go_into(within_frame, values).await?;
        let done = self.do_action(action, values, deadline).await;
        // The next step begins at the top. A session that is lost says so when it is asked for more.
        let back = self.leave_frames().await.map_err(Trouble::failure);
        let saved = done?;
        back.map(|()| saved)
    }

    async fn do_action(
        &mut self,
        action: &PageAction,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<Saved>, Failure> {
        match action {
            PageAction::Goto { url, status } => self.goto(url, status.as_ref(), values, deadline).await?,
            PageAction::Click { target, button, position } => {
                self.click(target, *button, *position, values, deadline).await?;
            }
            PageAction::DoubleClick(target) => self.double_click(target, values, deadline).await?,
            PageAction::Hover(target) => self.hover(target, values, deadline).await?,
            PageAction::Clear(target) => self.clear(target, values, deadline).await?,
            PageAction::Check { target, on } => self.check(target, *on, values, deadline).await?,
            PageAction::Fill { target, with, append } => self.fill(target, with, *append, values, deadline).await?,
            PageAction::Select { target, options } => self.select(target, options, values, deadline).await?,
            PageAction::Press { keys, into } => self.press(keys, into.as_ref(), values, deadline).await?,
            PageAction::Upload { target, files } => self.upload(target, files, values, deadline).await?,
            PageAction::Drag { target, to } => self.drag(target, to, values, deadline).await?,
            PageAction::Scroll(scroll) => self.scroll(scroll, values, deadline).await?,
            PageAction::Script { script, args, save } => {
                return self.run_script(script, args, save.as_ref(), values, deadline).await;
            }
            PageAction::Expect(expectations) => self.expect(expectations, values, deadline).await?,
            PageAction::Save(saves) => return self.save(saves, values, deadline).await,
            PageAction::Screenshot { of, full_page, .. } => {
                self.picture(of.as_ref(), *full_page, values, deadline).await?;
            }
            PageAction::Dialog { .. } | PageAction::Window(_) => {
                return Err(Failure::new(Reason::Configuration, format!("not supported yet: {action:?}")));
            }
        }
        Ok(Vec::new())
    }

    /// Where a step's targets were found by another alternative than the first; since it was last asked.
    pub fn take_drifts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.drifts)
    }

    /// Remembers it where an answer needed another alternative than the first.
    pub(super) fn note_drift(&mut self, query: &Query, answer: &Answer) {
        for drift in query.drift(answer) {
            if !self.drifts.contains(&drift) {
                tracing::warn!(drift, "a target is not what it was");
                self.drifts.push(drift);
            }
        }
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
                    if matches!(trouble, Trouble::Again(_)) {
                        self.place.entered = false;
                    }
                    return Err(trouble);
                }
                if let Trouble::Gone(Reason::Browser, text) = &trouble
                    && self.only_the_frame_is_gone().await
                {
                    return Err(Trouble::Again(text.clone()));
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

    /// A command whose failure says something of the session, and is not its end.
    pub(super) async fn raw(&mut self, command: Command) -> Result<Json, Trouble> {
        match timeout(2 * GRACE, self.client.issue_cmd(command)).await {
            Ok(answer) => answer.map_err(Trouble::from),
            Err(_) => Err(Trouble::Timeout("the page does not answer".into())),
        }
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
