//! The page of one run: its session as the steps use it. Commands run one at a time, each with its own deadline.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fantoccini::error::{CmdError, ErrorStatus};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bidi::{Bidi, BidiError};
use super::command::Command;
use super::errors::{self, CommandError};
use super::event_tracker::EventTracker;
use super::filmstrip::Filmstrip;
use super::locate::{LocatorQuery, LocatorResult};
use super::observe::ConsoleError;
use super::overlay::Overlays;
use super::place::FrameState;
use super::pool::BrowserPool;
use super::session::{Session, UserContext};
use super::typed::SecretField;
use super::world::{self, Called};
use super::{engine, processes};
use crate::names::Reason;
use crate::outcome::PageTotals;
use crate::outcome::{BrowserResult, Failure, PageResult};
use crate::scenario::{Engine, Locator, PageAction, Viewport, WindowChange};
use crate::secret::Masker;
use crate::values::Values;

/// Time to wait for the measurements of a page after its run.
const SETTLING: Duration = Duration::from_millis(300);

/// Time within which a command may still complete after a dialog has opened.
const DIALOG_LOOK: Duration = Duration::from_millis(200);

/// Time to wait for the event of a closed window after the driver reports that it is missing.
const CLOSE_NOTICE: Duration = Duration::from_millis(500);
/// `BiDi` error code for a window or frame that is gone.
const NO_SUCH_FRAME: &str = "no such frame";

/// Maximum number of requests of a run that are compared with those of another run.
const MOST_REQUESTS: usize = 2000;

/// Time within which a window must respond to `BiDi`. Otherwise classic commands are used, even if it is only slow.
const PROBE: Duration = Duration::from_millis(700);

/// Maximum number of remarks on a step.
const MOST_REMARKS: usize = 20;

/// Number of dialogs that a page may open by mistake; more are reported.
const MANY_DIALOGS: u32 = 3;

/// Additional time after which the agent gives up later than the driver.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Maximum time of a command that has nothing to wait for.
pub(super) const PROMPT: Duration = Duration::from_secs(10);

/// A value saved for later steps: name, value, and whether it is a secret.
pub type SavedValue = (String, Json, bool);

/// The user context of a run in a browser. Dropping it ends the whole session; [`Page::close`] returns the session to
/// the pool.
pub struct Page {
    pub(super) browsers: BrowserPool,
    /// Browser session. `None` only while it is returned to the pool.
    session: Option<Session>,
    pub(super) context: UserContext,
    pub(super) watch: Arc<EventTracker>,
    http: reqwest::Client,
    warm: bool,
    /// Window that commands refer to.
    pub(super) window: String,
    /// Windows that were current before, the latest one last.
    pub(super) before: Vec<String>,
    /// Whether the current window was chosen because a page closed the previous one.
    pub(super) came_back: bool,
    /// Whether the next step answers a dialog. Otherwise a dialog that opens is dismissed at once.
    pub(super) dialog_is_awaited: bool,
    /// Number of dismissed dialogs, and the message of the last one.
    pub(super) dialogs: (u32, String),
    /// Origins that have access to the emulated geolocation, if there is one.
    pub(super) located: Option<HashSet<String>>,
    /// Cause if the session can no longer be used.
    lost: Option<CommandError>,
    /// Time at which the document of the last `goto` started, by the browser's clock.
    pub(super) origin: f64,
    /// Frame of the step, and position of the driver.
    pub(super) place: FrameState,
    /// Locator drifts: elements that were found by a fallback locator.
    drifts: Vec<String>,
    /// Remarks on the step.
    remarks: Vec<String>,
    /// Windows that do not respond to `BiDi`.
    mute: HashSet<String>,
    /// Overlays that may appear.
    pub(super) overlays: Overlays,
    /// Fields into which a secret was typed.
    pub(super) typed: Vec<SecretField>,
    /// Folder for files that the browser reads. `None` if the browser runs on another machine.
    pub(super) folder: Option<PathBuf>,
    /// Number of files in that folder.
    pub(super) uploads: u32,
    /// Filmstrip, if one is recorded.
    pub(super) filmstrip: Option<Filmstrip>,
}

/// Observations of the pages of a run.
pub struct PageReport {
    /// Documents, each with the step that opened it.
    pub pages: Vec<(usize, PageResult)>,
    /// Totals of all documents.
    pub totals: PageTotals,
    /// Pictures with the time at which they were taken.
    pub frames: Vec<(Duration, Vec<u8>)>,
    /// Requests: step during which it was sent, method, URL and status of the response. Not masked.
    pub requests: Vec<(usize, String, String, Option<u16>)>,
    /// Errors on the console.
    pub console: Vec<ConsoleError>,
}

impl Page {
    pub(super) fn new(
        browsers: BrowserPool,
        session: Session,
        context: UserContext,
        watch: Arc<EventTracker>,
        http: reqwest::Client,
        warm: bool,
    ) -> Self {
        let folder = session.folder.clone();
        Self {
            browsers,
            window: context.top.clone(),
            before: Vec::new(),
            came_back: false,
            session: Some(session),
            context,
            watch,
            http,
            warm,
            dialog_is_awaited: false,
            dialogs: (0, String::new()),
            located: None,
            lost: None,
            origin: 0.0,
            place: FrameState::default(),
            drifts: Vec::new(),
            remarks: Vec::new(),
            mute: HashSet::new(),
            overlays: Overlays::default(),
            typed: Vec::new(),
            folder,
            uploads: 0,
            filmstrip: None,
        }
    }

    pub(super) fn session(&self) -> &Session {
        self.session.as_ref().expect("it is only taken when the page is given back")
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is only taken when the page is given back")
    }

    pub(super) fn bidi(&self) -> Option<Bidi> {
        self.session().bidi.clone()
    }

    /// Returns the properties of the browser.
    pub fn browser(&self) -> BrowserResult {
        let session = self.session();
        BrowserResult { engine: session.engine, version: session.version.clone(), warm: self.warm }
    }

    /// Prepares the page for a step. `dialog_next` means that the step after it answers a dialog.
    pub fn step(&mut self, index: usize, span: &str, dialog_next: bool) {
        self.dialog_is_awaited = dialog_next;
        self.watch.step(index, span);
        // During the first step, which opens a page, preparing a context would slow down the browser.
        if index > 0
            && let Some(session) = &mut self.session
        {
            self.browsers.prepare_next_context(session);
        }
    }

    /// Executes one action of a scenario in a frame, given by its locators, outermost first. Returns the values that it
    /// saves. `timeout` limits the whole action, which includes waiting for its element or expectation.
    pub async fn act(
        &mut self,
        action: &PageAction,
        within_frame: &[Locator],
        values: &Values,
        timeout: Duration,
    ) -> Result<Vec<SavedValue>, Failure> {
        let deadline = Instant::now() + timeout;
        if let PageAction::Window(WindowChange::Close) = action
            && self.window_is_gone()
        {
            return self.come_back().await.map(|()| Vec::new()).map_err(CommandError::failure);
        }
        self.come_back().await.map_err(CommandError::failure)?;
        self.overlays.begin_step();
        self.go_into(within_frame, values).await?;
        let done = self.do_action(action, values, deadline).await;
        // The next step starts in the page itself. A lost session is reported by the next command.
        let back = match self.leave_frames().await {
            // The next step chooses the window in which the flow continues.
            Err(CommandError::Closed) => Ok(()),
            left => left.map_err(CommandError::failure),
        };
        if let Some(url) = self.watch.trespass() {
            let text =
                format!("the page led to `{url}`, which scenarios must not open; only http: and https: are allowed");
            let trouble = CommandError::Gone(Reason::Configuration, text.clone());
            self.lost.get_or_insert(trouble);
            return Err(Failure::new(Reason::Configuration, text));
        }
        let saved = done?;
        back.map(|()| saved)
    }

    async fn do_action(
        &mut self,
        action: &PageAction,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<SavedValue>, Failure> {
        match action {
            PageAction::Goto { url, status } => self.goto(url, status.as_ref(), values, deadline).await?,
            PageAction::Travel(travel) => self.travel(*travel, deadline).await?,
            PageAction::Click { target, button, position, force } => {
                self.click(target, *button, *position, *force, values, deadline).await?;
            }
            PageAction::DoubleClick(target) => self.double_click(target, values, deadline).await?,
            PageAction::Hover(target) => self.hover(target, values, deadline).await?,
            PageAction::Clear(target) => self.clear(target, values, deadline).await?,
            PageAction::Check { target, on } => self.check(target, *on, values, deadline).await?,
            PageAction::Fill { target, with, append, becomes } => {
                self.fill(target, with, *append, becomes.as_ref(), values, deadline).await?;
            }
            PageAction::Select { target, options } => self.select(target, options, values, deadline).await?,
            PageAction::Press { keys, into } => self.press(keys, into.as_ref(), values, deadline).await?,
            PageAction::Dialog { answer, expect } => self.dialog(answer, expect.as_ref(), values, deadline).await?,
            PageAction::Window(change) => self.change_window(change, values, deadline).await?,
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
        }
        Ok(Vec::new())
    }

    /// Returns the locator drifts since the last call.
    pub fn take_drifts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.drifts)
    }

    /// Returns the remarks on a step since the last call.
    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Adds a remark on the step.
    pub(super) fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) && self.remarks.len() < MOST_REMARKS {
            self.remarks.push(remark);
        }
    }

    /// Records a locator drift if a query needed another alternative than the first one.
    pub(super) fn note_drift(&mut self, query: &LocatorQuery, answer: &LocatorResult) {
        for drift in query.drift(answer) {
            if !self.drifts.contains(&drift) {
                tracing::warn!(drift, "locator drift: fallback used");
                self.drifts.push(drift);
            }
        }
    }

    /// Starts the filmstrip.
    pub(super) fn film(&mut self, tasks: &TaskTracker) {
        self.filmstrip = self.bidi().map(|bidi| Filmstrip::begin(bidi, &self.window, tasks));
    }

    /// Waits briefly for the measurements of a page that was just opened.
    pub async fn settle(&self) {
        let end = Instant::now() + SETTLING;
        let measured = || self.watch.observed().pages().last().is_none_or(|(_, page)| page.timing.lcp.is_some());
        while self.bidi().is_some() && !measured() && Instant::now() < end {
            tokio::time::sleep(SETTLING / 10).await;
        }
    }

    /// Returns the observations so far.
    pub fn account(&self) -> PageReport {
        let observed = self.watch.observed();
        let frames = self.filmstrip.as_ref().map(Filmstrip::frames).unwrap_or_default();
        let asked = observed.asked().take(MOST_REQUESTS);
        let requests = asked.map(|asked| (asked.step, asked.method.to_owned(), asked.url.to_owned(), asked.status));
        PageReport {
            pages: observed.pages(),
            totals: observed.totals(),
            frames,
            requests: requests.collect(),
            console: observed.console_errors(),
        }
    }

    /// Returns a HAR 1.2 document of all requests, masked. `None` without `BiDi`.
    pub fn har(&self, masker: &Masker) -> Option<Vec<u8>> {
        self.bidi()?;
        serde_json::to_vec(&self.watch.observed().har(&self.browser(), masker)).ok()
    }

    /// Returns the session to the pool, or ends it if it can no longer be used, and waits until that is done.
    pub async fn close(self) {
        if let Some(done) = self.release() {
            let _ = done.await;
        }
    }

    /// Returns the session to the pool in the background.
    pub fn release(mut self) -> Option<tokio::task::JoinHandle<()>> {
        let session = self.session.take()?;
        let fine = self.lost.is_none();
        Some(self.browsers.release(session, self.context.clone(), fine))
    }

    /// Marks the session as unusable after a step was aborted during a command. Returns the agent fault that caused it,
    /// if any.
    pub async fn abandon(&mut self) -> Option<Failure> {
        let trouble = self.on_no_response().await;
        trouble.is_final().then(|| trouble.failure())
    }

    /// Sets the size of the page, not of its window, if there is no `BiDi`. This is specific to Chromium; another
    /// browser without `BiDi` keeps its size.
    pub(super) async fn resize_alone(&mut self, size: Viewport) {
        if self.session().bidi.is_some() || self.session().engine != Engine::Chromium {
            return;
        }
        let metrics = json!({"width": size.width, "height": size.height, "deviceScaleFactor": 1, "mobile": false});
        let command = Command::cdp("Emulation.setDeviceMetricsOverride", &metrics);
        if let Err(trouble) = self.call(command, PROMPT).await {
            tracing::debug!(?trouble, "cannot set the viewport size: using the window size");
        }
    }

    /// Sets the page load timeout of the driver if it differs from the last one.
    pub(super) async fn patience(&mut self, deadline: Instant) -> Result<(), CommandError> {
        // Rounded up, so that steps with the same timeout do not have to set it again.
        let wanted = Duration::from_secs(deadline.saturating_duration_since(Instant::now()).as_secs() + 1);
        if self.session().patience != Some(wanted) {
            let body = json!({"pageLoad": wanted.as_secs() * 1000});
            self.call(Command::post("timeouts", body), PROMPT).await?;
            self.session_mut().patience = Some(wanted);
        }
        Ok(())
    }

    /// Runs a command. If the driver does not respond, its status is requested; if that succeeds, the page keeps it
    /// busy.
    pub(super) async fn call(&mut self, command: Command, limit: Duration) -> Result<Json, CommandError> {
        let client = self.session().client.clone();
        let since = Instant::now();
        match self.wait_for(client.issue_cmd(command), limit).await? {
            WaitResult::Answer(Ok(answer)) => Ok(answer),
            // The dialog opened before the command arrived.
            WaitResult::Answer(Err(error)) if self.dialog_is_awaited && is_for_a_dialog(&error) => Ok(Json::Null),
            WaitResult::Answer(Err(error)) => {
                let trouble = match CommandError::from(error) {
                    // Some changes of the page during a script are reported in the same way, long before the timeout.
                    CommandError::Timeout(text) => match self.detect_page_crash().await {
                        Some(trouble) => trouble,
                        None if since.elapsed() < limit / 2 => CommandError::Again(text),
                        None => CommandError::Timeout(text),
                    },
                    trouble => trouble,
                };
                if matches!(trouble, CommandError::Again(_)) {
                    self.place.entered = false;
                }
                if let CommandError::Gone(Reason::Browser, text) = &trouble {
                    if self.closes_now().await {
                        return Err(CommandError::Closed);
                    }
                    if self.only_the_frame_is_gone().await {
                        return Err(CommandError::Again(text.clone()));
                    }
                }
                Err(self.look_into(trouble))
            }
            // The next step handles what the command has caused.
            WaitResult::Dialog => Ok(Json::Null),
            WaitResult::Nothing => Err(self.on_no_response().await),
        }
    }

    /// Returns whether the window is gone or closes shortly, as the driver may report it before the event arrives.
    async fn closes_now(&self) -> bool {
        self.bidi().is_some_and(|bidi| !bidi.is_closed())
            && self.watch.closes(&self.window, Instant::now() + CLOSE_NOTICE).await
    }

    /// Runs a command with `BiDi`, in the same way as [`Page::call`].
    pub(super) async fn ask(&mut self, method: &str, params: Json, limit: Duration) -> Result<Json, CommandError> {
        let Some(bidi) = self.bidi() else {
            return Err(CommandError::Other("this browser session has no WebDriver BiDi".into()));
        };
        match self.wait_for(bidi.call(method, params, limit), limit).await? {
            WaitResult::Answer(Ok(answer)) => Ok(answer),
            WaitResult::Answer(Err(BidiError::Refused(code, message))) => {
                if self.window_is_gone() || code == NO_SUCH_FRAME && self.closes_now().await {
                    return Err(CommandError::Closed);
                }
                let trouble = errors::refused(&code, &message);
                Err(self.look_into(trouble))
            }
            WaitResult::Answer(Err(BidiError::Timeout)) if self.is_stopped() => Err(self.on_no_response().await),
            WaitResult::Answer(Err(BidiError::Timeout)) => {
                // A server that does not respond leaves the page unchanged. The navigation is stopped, because classic
                // commands would wait for it.
                if engine::stop_loading(self.session().engine, &bidi, &self.window, 3 * GRACE).await {
                    return Err(CommandError::Timeout("the page does not become ready".into()));
                }
                // A dead page does not respond to BiDi, but classic commands report it.
                Err(match self.detect_page_crash().await {
                    Some(trouble) => self.look_into(trouble),
                    None => CommandError::Timeout("the page does not respond".into()),
                })
            }
            WaitResult::Answer(Err(BidiError::Closed)) | WaitResult::Nothing => Err(self.on_no_response().await),
            WaitResult::Dialog => Ok(Json::Null),
        }
    }

    /// Awaits a response and answers dialogs in the meantime, because a browser may not respond while one is open.
    async fn wait_for<T>(
        &mut self,
        answer: impl Future<Output = T>,
        limit: Duration,
    ) -> Result<WaitResult<T>, CommandError> {
        if let Some(trouble) = &self.lost {
            return Err(trouble.clone());
        }
        let end = Instant::now() + limit + GRACE;
        let closing = self.bidi().map(|bidi| bidi.closing());
        let mut prompt = self.watch.prompt.subscribe();
        tokio::pin!(answer);
        loop {
            let open = prompt.borrow_and_update().clone();
            if let Some(open) = open {
                if self.dialog_is_awaited {
                    // The command may already be complete, or wait for the dialog.
                    return Ok(match timeout(DIALOG_LOOK, &mut answer).await {
                        Ok(answer) => WaitResult::Answer(answer),
                        Err(_) => WaitResult::Dialog,
                    });
                }
                self.dismiss_dialog(&open).await;
            }
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(WaitResult::Answer(answer)),
                changed = prompt.changed() => if changed.is_err() { return Ok(WaitResult::Nothing) },
                () = tokio::time::sleep_until(end) => return Ok(WaitResult::Nothing),
                () = closed(closing.clone()) => {
                    // The driver may report the cause.
                    return Ok(match timeout(GRACE, &mut answer).await {
                        Ok(answer) => WaitResult::Answer(answer),
                        Err(_) => WaitResult::Nothing,
                    });
                }
            }
        }
    }

    /// Determines the cause of a missing response. The session can no longer be used, because its client sends one
    /// command after the other and would wait for this one.
    pub(super) async fn on_no_response(&mut self) -> CommandError {
        let trouble = self.diagnose_no_response().await;
        let trouble = self.look_into(trouble);
        self.lost.get_or_insert(trouble).clone()
    }

    /// Returns whether a process of the session is stopped, in which case no command is necessary.
    fn is_stopped(&self) -> bool {
        self.session().group.and_then(processes::stopped_member).is_some()
    }

    async fn diagnose_no_response(&mut self) -> CommandError {
        if let Some(pid) = self.session().group.and_then(processes::stopped_member) {
            let of_driver = Some(pid) == self.session().group;
            let (reason, who) = if of_driver { (Reason::Driver, "driver") } else { (Reason::Browser, "browser") };
            return CommandError::Gone(reason, format!("a process of the {who} is stopped (process {pid})"));
        }
        if !self.driver_is_there().await {
            return CommandError::Gone(Reason::Driver, "the WebDriver endpoint does not respond".into());
        }
        if self.bidi().is_some_and(|bidi| bidi.is_closed()) {
            return CommandError::Gone(Reason::Browser, "lost the connection to the browser".into());
        }
        let (dialogs, message) = &self.dialogs;
        if *dialogs > MANY_DIALOGS {
            return CommandError::Timeout(format!("the page has opened {dialogs} dialogs, the last one: {message}"));
        }
        errors::no_answer(processes::processor_pressure())
    }

    /// Returns whether the driver exists, busy or not.
    async fn driver_is_there(&self) -> bool {
        let session = self.session();
        if session.group.is_none() || engine::kind(session.engine).answers_while_busy {
            return self.http.get(session.status.clone()).timeout(2 * GRACE).send().await.is_ok();
        }
        let address = session.status.socket_addrs(|| None).unwrap_or_default();
        let connected = timeout(2 * GRACE, tokio::net::TcpStream::connect(address.as_slice())).await;
        connected.is_ok_and(|connected| connected.is_ok())
    }

    /// Determines the cause of an error that ends the session.
    fn look_into(&mut self, trouble: CommandError) -> CommandError {
        if !trouble.is_final() {
            return trouble;
        }
        // The owner of the session may have ended it because of its memory.
        let trouble = match self.session().lease.too_large() {
            Some(bytes) => CommandError::Crash(format!("its processes used {} MiB of memory", bytes >> 20)),
            None => match trouble {
                // In this browser, one dead page terminates everything.
                CommandError::Gone(Reason::Browser, text)
                    if engine::kind(self.session().engine).dies_with_its_page && !text.contains("is stopped") =>
                {
                    CommandError::Crash(text)
                }
                trouble => trouble,
            },
        };
        self.lost.get_or_insert(trouble).clone()
    }

    /// Runs a command whose failure indicates the state of the session without ending it.
    pub(super) async fn raw(&mut self, command: Command) -> Result<Json, CommandError> {
        match timeout(2 * GRACE, self.session().client.issue_cmd(command)).await {
            Ok(answer) => answer.map_err(CommandError::from),
            Err(_) => Err(CommandError::Timeout("the page does not respond".into())),
        }
    }

    /// Returns an error if a page that did not become ready is dead. The driver keeps waiting for such a page and only
    /// reports its death to another command, and sometimes not even then: a renderer that died while loading a page
    /// cannot be distinguished from a busy one, and can no longer be used.
    async fn detect_page_crash(&mut self) -> Option<CommandError> {
        let client = self.session().client.clone();
        if let Ok(answer) = timeout(2 * GRACE, client.issue_cmd(Command::get("title"))).await {
            return answer.err().map(CommandError::from).filter(CommandError::is_final);
        }
        Some(self.on_no_response().await)
    }

    /// Returns whether the current window responds to `BiDi`. Otherwise the driver's classic commands are used, whose
    /// scripts run in the page's own world.
    pub(super) fn has_realms(&self) -> bool {
        self.bidi().is_some() && !self.mute.contains(&self.window)
    }

    /// Detects whether a window that a page has opened responds to `BiDi`. In Chromium, a window with access to its
    /// opener does not until it has navigated to another page.
    pub(super) async fn probe_realms(&mut self) {
        let Some(bidi) = self.bidi().filter(|_| engine::kind(self.session().engine).acts_by_script) else { return };
        let params = json!({
            "functionDeclaration": "function () { return 1; }",
            "awaitPromise": false,
            "target": {"context": self.window},
        });
        match bidi.call("script.callFunction", params, PROBE).await {
            Err(BidiError::Timeout) => drop(self.mute.insert(self.window.clone())),
            _ => drop(self.mute.remove(&self.window)),
        }
    }

    /// Runs an agent script in the document of the step, within the remaining time and invisibly to the page.
    pub(super) async fn script(
        &mut self,
        script: &str,
        argument: &Json,
        deadline: Instant,
    ) -> Result<Json, CommandError> {
        if !self.has_realms() {
            let left = deadline.saturating_duration_since(Instant::now());
            return self.call(Command::script(&world::classic(script), argument), left).await;
        }
        if self.hold_back(deadline).await? {
            return Ok(Json::Null);
        }
        let document = self.document();
        self.in_document(&document, script, argument, deadline).await
    }

    /// Runs an agent script in any document of the page with `BiDi`, in the same way as [`Page::script`].
    pub(super) async fn in_document(
        &mut self,
        document: &str,
        script: &str,
        argument: &Json,
        deadline: Instant,
    ) -> Result<Json, CommandError> {
        let (mut installed, mut again) = (false, false);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let params = world::call(document, script, argument);
            let answer = self.call_function(params, left).await?;
            if answer.is_null() {
                // A dialog is open that the next step answers.
                return Ok(Json::Null);
            }
            match world::result(&answer) {
                Called::Result(value) => return Ok(value),
                Called::NotInstalled if !installed => {
                    self.call_function(world::install(document), left).await?;
                    installed = true;
                }
                Called::NotInstalled => return Err(CommandError::Again("the document has changed".into())),
                // A script may throw once because its document is being replaced.
                Called::Threw(_) if !again => again = true,
                Called::Threw(text) => {
                    let url = self.call(Command::get("url"), PROMPT).await.unwrap_or_default();
                    let text = format!("wachta's own script failed on {}: {text}", url.as_str().unwrap_or("the page"));
                    return Err(CommandError::Inspection(text));
                }
            }
        }
    }

    /// Awaits a navigation that has begun if the driver delays commands until then, because `BiDi` commands would still
    /// reach the previous page. The command releases keys, of which none is pressed, and runs no script. Returns true
    /// if a dialog is open that the next step answers.
    pub(super) async fn hold_back(&mut self, deadline: Instant) -> Result<bool, CommandError> {
        if engine::kind(self.session().engine).holds_back {
            let left = deadline.saturating_duration_since(Instant::now());
            self.call(Command::delete("actions"), left).await?;
        }
        Ok(self.dialog_is_awaited && self.watch.prompt.borrow().is_some())
    }

    /// Calls a function in a document with `BiDi`. Returns null if a dialog opened that the next step answers.
    pub(super) async fn call_function(&mut self, params: Json, limit: Duration) -> Result<Json, CommandError> {
        let Some(bidi) = self.bidi() else {
            return Err(CommandError::Other("this browser session has no WebDriver BiDi".into()));
        };
        // The same time as the driver has for a classic command.
        match self.wait_for(bidi.call("script.callFunction", params, limit + GRACE / 2), limit).await? {
            WaitResult::Answer(Ok(answer)) => Ok(answer),
            WaitResult::Answer(Err(BidiError::Refused(code, message))) => {
                let trouble = errors::refused(&code, &message);
                if matches!(trouble, CommandError::Again(_)) {
                    if self.place.context.is_none() {
                        // The classic command reports whether the window is gone. A prerendered page has a window of
                        // its own, which replaces the previous one.
                        let handle = self.call(Command::get("window"), PROMPT).await?;
                        if let Some(handle) = handle.as_str() {
                            handle.clone_into(&mut self.window);
                        }
                    }
                    self.place.entered = false;
                }
                Err(self.look_into(trouble))
            }
            WaitResult::Answer(Err(BidiError::Timeout)) if self.is_stopped() => Err(self.on_no_response().await),
            WaitResult::Answer(Err(BidiError::Timeout)) => Err(match self.detect_page_crash().await {
                Some(trouble) => self.look_into(trouble),
                None => errors::no_answer(processes::processor_pressure()),
            }),
            WaitResult::Answer(Err(BidiError::Closed)) | WaitResult::Nothing => Err(self.on_no_response().await),
            WaitResult::Dialog => Ok(Json::Null),
        }
    }
}

/// Result of waiting for a response.
enum WaitResult<T> {
    Answer(T),
    /// A dialog opened that the next step answers.
    Dialog,
    /// There was no response in time, or the browser is gone.
    Nothing,
}

/// Returns whether a command was rejected because a dialog is open.
fn is_for_a_dialog(error: &CmdError) -> bool {
    matches!(error, CmdError::Standard(error) if error.error == ErrorStatus::UnexpectedAlertOpen)
}

async fn closed(closing: Option<CancellationToken>) {
    match closing {
        Some(closing) => closing.cancelled().await,
        None => std::future::pending().await,
    }
}
