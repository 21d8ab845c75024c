//! The page of one run: the session as its steps see it. One command at a time, each with a deadline of its own.

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
use super::browsers::Browsers;
use super::command::Command;
use super::filmstrip::Filmstrip;
use super::frame::Place;
use super::locate::{Answer, Query};
use super::observe::ConsoleError;
use super::overlay::Overlays;
use super::picture::Typed;
use super::session::{Context, Session};
use super::verdict::{self, Trouble};
use super::watch::Watch;
use super::world::{self, Called};
use super::{engine, processes};
use crate::names::Reason;
use crate::outcome::PageTotals;
use crate::outcome::{BrowserResult, Failure, PageResult};
use crate::scenario::{Engine, PageAction, Target, Viewport, WindowChange};
use crate::secret::Masker;
use crate::values::Values;

/// How long the measures of a page are waited for after its run.
const SETTLING: Duration = Duration::from_millis(300);

/// How long a command may still take once a dialog has opened.
const DIALOG_LOOK: Duration = Duration::from_millis(200);

/// How long to wait for the event that says a window has closed, after the driver reports that it is missing.
const CLOSE_NOTICE: Duration = Duration::from_millis(500);
/// What `BiDi` says of a command to a window or frame that is gone.
const NO_SUCH_FRAME: &str = "no such frame";

/// So many requests of a run are compared with those of another one.
const MOST_REQUESTS: usize = 2000;

/// How long a window may take to show that it answers by `BiDi`. One that is only slow is asked in the classic way.
const PROBE: Duration = Duration::from_millis(700);

/// More is not said of what happened at a step besides.
const MOST_REMARKS: usize = 20;

/// More dialogs than a page opens by mistake.
const MANY_DIALOGS: u32 = 3;

/// How much later than the driver we lose patience.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long a command may take that has nothing to wait for.
pub(super) const PROMPT: Duration = Duration::from_secs(10);

/// What a step keeps for later ones: name, value, whether it is a secret.
pub type Saved = (String, Json, bool);

/// A run's own user in a browser. Dropping it ends the whole session; [`Page::close`] gives it back.
pub struct Page {
    pub(super) browsers: Browsers,
    /// Always there, but for the moment when it is given back.
    session: Option<Session>,
    pub(super) context: Context,
    pub(super) watch: Arc<Watch>,
    http: reqwest::Client,
    warm: bool,
    /// The window that commands are about.
    pub(super) window: String,
    /// Windows that were current before, the last one at the end.
    pub(super) before: Vec<String>,
    /// Whether the flow is in this window because a page has closed the one it was in.
    pub(super) came_back: bool,
    /// Whether the next step answers a dialog; else one that opens is sent away at once.
    pub(super) dialog_is_awaited: bool,
    /// How many dialogs were sent away, and what the last one said.
    pub(super) dialogs: (u32, String),
    /// Origins that may know where the browser is, where it says that it is somewhere.
    pub(super) located: Option<HashSet<String>>,
    /// Why the session is of no use any more.
    lost: Option<Trouble>,
    /// When the document that the last `goto` opened began, by the browser's clock.
    pub(super) origin: f64,
    /// The document that the driver is in.
    pub(super) place: Place,
    /// Where another element was found than the one that a target means first.
    drifts: Vec<String>,
    /// What happened at the step besides.
    remarks: Vec<String>,
    /// Windows that do not answer by `BiDi`.
    mute: HashSet<String>,
    /// What may get in the way.
    pub(super) overlays: Overlays,
    /// Fields that a secret was typed into.
    pub(super) typed: Vec<Typed>,
    /// Where files can be put for the browser to read; none: it runs elsewhere.
    pub(super) folder: Option<PathBuf>,
    /// How many files were put there.
    pub(super) uploads: u32,
    /// Where one is taken.
    pub(super) filmstrip: Option<Filmstrip>,
}

/// What was heard of the pages of a run.
pub struct Account {
    /// Documents, each with the step that opened it.
    pub pages: Vec<(usize, PageResult)>,
    /// Sums over all of them.
    pub totals: PageTotals,
    /// Pictures, and when they were taken.
    pub frames: Vec<(Duration, Vec<u8>)>,
    /// Requests: the step during which each was sent, its method, its URL and the status of its answer. Not masked.
    pub requests: Vec<(usize, String, String, Option<u16>)>,
    /// Errors on the console.
    pub console: Vec<ConsoleError>,
}

impl Page {
    pub(super) fn new(
        browsers: Browsers,
        session: Session,
        context: Context,
        watch: Arc<Watch>,
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
            place: Place::default(),
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

    /// Which browser it is.
    pub fn browser(&self) -> BrowserResult {
        let session = self.session();
        BrowserResult { engine: session.engine, version: session.version.clone(), warm: self.warm }
    }

    /// A step begins. `dialog_next`: the step after it answers a dialog.
    pub fn step(&mut self, index: usize, span: &str, dialog_next: bool) {
        self.dialog_is_awaited = dialog_next;
        self.watch.step(index, span);
        // The first step opens a page, and the browser does one thing after the other.
        if index > 0
            && let Some(session) = &mut self.session
        {
            self.browsers.look_ahead(session);
        }
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
        if let PageAction::Window(WindowChange::Close) = action
            && self.window_is_gone()
        {
            return self.come_back().await.map(|()| Vec::new()).map_err(Trouble::failure);
        }
        self.come_back().await.map_err(Trouble::failure)?;
        self.overlays.begin_step();
        self.go_into(within_frame, values).await?;
        let done = self.do_action(action, values, deadline).await;
        // The next step begins at the top. A session that is lost says so when it is asked for more.
        let back = match self.leave_frames().await {
            // The next step goes where the flow goes on.
            Err(Trouble::Closed) => Ok(()),
            left => left.map_err(Trouble::failure),
        };
        if let Some(url) = self.watch.trespass() {
            let text =
                format!("the page led to `{url}`, which no scenario may see; only http: and https: can be opened");
            let trouble = Trouble::Gone(Reason::Configuration, text.clone());
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
    ) -> Result<Vec<Saved>, Failure> {
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

    /// Where a step's targets were found by another alternative than the first; since it was last asked.
    pub fn take_drifts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.drifts)
    }

    /// What happened at a step besides what it asked for; since it was last asked.
    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Remembers what happened besides.
    pub(super) fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) && self.remarks.len() < MOST_REMARKS {
            self.remarks.push(remark);
        }
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

    /// Takes small pictures from now on.
    pub(super) fn film(&mut self, tasks: &TaskTracker) {
        self.filmstrip = self.bidi().map(|bidi| Filmstrip::begin(bidi, &self.window, tasks));
    }

    /// Waits a moment for the measures of a page that has just been opened.
    pub async fn settle(&self) {
        let end = Instant::now() + SETTLING;
        let measured = || self.watch.observed().pages().last().is_none_or(|(_, page)| page.timing.lcp.is_some());
        while self.bidi().is_some() && !measured() && Instant::now() < end {
            tokio::time::sleep(SETTLING / 10).await;
        }
    }

    /// What was heard so far.
    pub fn account(&self) -> Account {
        let observed = self.watch.observed();
        let frames = self.filmstrip.as_ref().map(Filmstrip::frames).unwrap_or_default();
        let asked = observed.asked().take(MOST_REQUESTS);
        let requests = asked.map(|asked| (asked.step, asked.method.to_owned(), asked.url.to_owned(), asked.status));
        Account {
            pages: observed.pages(),
            totals: observed.totals(),
            frames,
            requests: requests.collect(),
            console: observed.console_errors(),
        }
    }

    /// HAR 1.2 of all requests, masked; none without `BiDi`.
    pub fn har(&self, masker: &Masker) -> Option<Vec<u8>> {
        self.bidi()?;
        serde_json::to_vec(&self.watch.observed().har(&self.browser(), masker)).ok()
    }

    /// Gives the session back, or ends it when it is of no more use, and waits until that is done.
    pub async fn close(self) {
        if let Some(done) = self.release() {
            let _ = done.await;
        }
    }

    /// Gives the session back in the background.
    pub fn release(mut self) -> Option<tokio::task::JoinHandle<()>> {
        let session = self.session.take()?;
        let fine = self.lost.is_none();
        Some(self.browsers.release(session, self.context.clone(), fine))
    }

    /// A step was cut off while a command was under way: nothing more can be asked of the session. Gives what lies
    /// behind it where that is ours.
    pub async fn abandon(&mut self) -> Option<Failure> {
        let trouble = self.silence().await;
        trouble.is_final().then(|| trouble.failure())
    }

    /// Gives the page its size where there is no `BiDi` to do it: of the page, not of a window around it. Chromium's own
    /// way; another browser without `BiDi` keeps its size.
    pub(super) async fn resize_alone(&mut self, size: Viewport) {
        if self.session().bidi.is_some() || self.session().engine != Engine::Chromium {
            return;
        }
        let metrics = json!({"width": size.width, "height": size.height, "deviceScaleFactor": 1, "mobile": false});
        let command = Command::cdp("Emulation.setDeviceMetricsOverride", &metrics);
        if let Err(trouble) = self.call(command, PROMPT).await {
            tracing::debug!(?trouble, "the page has the size of its window");
        }
    }

    /// Tells the driver how long a page may load, where that is news to it.
    pub(super) async fn patience(&mut self, deadline: Instant) -> Result<(), Trouble> {
        // Rounded up, so that steps with the same timeout need not say it again.
        let wanted = Duration::from_secs(deadline.saturating_duration_since(Instant::now()).as_secs() + 1);
        if self.session().patience != Some(wanted) {
            let body = json!({"pageLoad": wanted.as_secs() * 1000});
            self.call(Command::post("timeouts", body), PROMPT).await?;
            self.session_mut().patience = Some(wanted);
        }
        Ok(())
    }

    /// Runs a command. A driver that does not come back is asked how it is: one that answers is kept busy by the page.
    pub(super) async fn call(&mut self, command: Command, limit: Duration) -> Result<Json, Trouble> {
        let client = self.session().client.clone();
        let since = Instant::now();
        match self.heed(client.issue_cmd(command), limit).await? {
            Heard::Answer(Ok(answer)) => Ok(answer),
            // It opened before the command came.
            Heard::Answer(Err(error)) if self.dialog_is_awaited && is_for_a_dialog(&error) => Ok(Json::Null),
            Heard::Answer(Err(error)) => {
                let trouble = match Trouble::from(error) {
                    // Some changes of the page under a script are called so as well, long before its time is up.
                    Trouble::Timeout(text) => match self.autopsy().await {
                        Some(trouble) => trouble,
                        None if since.elapsed() < limit / 2 => Trouble::Again(text),
                        None => Trouble::Timeout(text),
                    },
                    trouble => trouble,
                };
                if matches!(trouble, Trouble::Again(_)) {
                    self.place.entered = false;
                }
                if let Trouble::Gone(Reason::Browser, text) = &trouble {
                    if self.closes_now().await {
                        return Err(Trouble::Closed);
                    }
                    if self.only_the_frame_is_gone().await {
                        return Err(Trouble::Again(text.clone()));
                    }
                }
                Err(self.look_into(trouble))
            }
            // What the command has led to is for the next step.
            Heard::Dialog => Ok(Json::Null),
            Heard::Nothing => Err(self.silence().await),
        }
    }

    /// Whether the window is gone or goes in a moment: the driver may know of it before the events say so.
    async fn closes_now(&self) -> bool {
        self.bidi().is_some_and(|bidi| !bidi.is_closed())
            && self.watch.closes(&self.window, Instant::now() + CLOSE_NOTICE).await
    }

    /// As [`Page::call`], by `BiDi`.
    pub(super) async fn ask(&mut self, method: &str, params: Json, limit: Duration) -> Result<Json, Trouble> {
        let Some(bidi) = self.bidi() else {
            return Err(Trouble::Other("this browser session has no WebDriver BiDi".into()));
        };
        match self.heed(bidi.call(method, params, limit), limit).await? {
            Heard::Answer(Ok(answer)) => Ok(answer),
            Heard::Answer(Err(BidiError::Refused(code, message))) => {
                if self.window_is_gone() || code == NO_SUCH_FRAME && self.closes_now().await {
                    return Err(Trouble::Closed);
                }
                let trouble = verdict::refused(&code, &message);
                Err(self.look_into(trouble))
            }
            Heard::Answer(Err(BidiError::Timeout)) if self.is_stopped() => Err(self.silence().await),
            Heard::Answer(Err(BidiError::Timeout)) => {
                // A server that does not answer leaves the page as it was. The navigation that is under way is given
                // up, since classic commands would wait for it.
                if engine::stop_loading(self.session().engine, &bidi, &self.window, 3 * GRACE).await {
                    return Err(Trouble::Timeout("the page does not get ready".into()));
                }
                // A dead page answers nothing; the classic commands know it.
                Err(match self.autopsy().await {
                    Some(trouble) => self.look_into(trouble),
                    None => Trouble::Timeout("the page does not answer".into()),
                })
            }
            Heard::Answer(Err(BidiError::Closed)) | Heard::Nothing => Err(self.silence().await),
            Heard::Dialog => Ok(Json::Null),
        }
    }

    /// Waits for an answer and answers dialogs meanwhile: a browser may say nothing else while one is open.
    async fn heed<T>(&mut self, answer: impl Future<Output = T>, limit: Duration) -> Result<Heard<T>, Trouble> {
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
                    // What was asked for may have been done already, or wait for the dialog.
                    return Ok(match timeout(DIALOG_LOOK, &mut answer).await {
                        Ok(answer) => Heard::Answer(answer),
                        Err(_) => Heard::Dialog,
                    });
                }
                self.send_away(&open).await;
            }
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(Heard::Answer(answer)),
                changed = prompt.changed() => if changed.is_err() { return Ok(Heard::Nothing) },
                () = tokio::time::sleep_until(end) => return Ok(Heard::Nothing),
                () = closed(closing.clone()) => {
                    // The driver may know why.
                    return Ok(match timeout(GRACE, &mut answer).await {
                        Ok(answer) => Heard::Answer(answer),
                        Err(_) => Heard::Nothing,
                    });
                }
            }
        }
    }

    /// What it means that there is no answer. The session is of no more use: the client sends one command after the
    /// other, so that another one would only wait behind this one.
    pub(super) async fn silence(&mut self) -> Trouble {
        let trouble = self.why_silent().await;
        let trouble = self.look_into(trouble);
        self.lost.get_or_insert(trouble).clone()
    }

    /// Whether a process of the session is stopped: then nothing need be asked.
    fn is_stopped(&self) -> bool {
        self.session().group.and_then(processes::stopped_member).is_some()
    }

    async fn why_silent(&mut self) -> Trouble {
        if let Some(pid) = self.session().group.and_then(processes::stopped_member) {
            let of_driver = Some(pid) == self.session().group;
            let (reason, who) = if of_driver { (Reason::Driver, "driver") } else { (Reason::Browser, "browser") };
            return Trouble::Gone(reason, format!("a process of the {who} is stopped (process {pid})"));
        }
        if !self.driver_is_there().await {
            return Trouble::Gone(Reason::Driver, "the WebDriver endpoint does not answer".into());
        }
        if self.bidi().is_some_and(|bidi| bidi.is_closed()) {
            return Trouble::Gone(Reason::Browser, "the browser went away".into());
        }
        let (dialogs, message) = &self.dialogs;
        if *dialogs > MANY_DIALOGS {
            return Trouble::Timeout(format!("the page has opened {dialogs} dialogs, the last one: {message}"));
        }
        verdict::no_answer(processes::processor_pressure())
    }

    /// Whether the driver is there, busy or not.
    async fn driver_is_there(&self) -> bool {
        let session = self.session();
        if session.group.is_none() || engine::kind(session.engine).answers_while_busy {
            return self.http.get(session.status.clone()).timeout(2 * GRACE).send().await.is_ok();
        }
        let address = session.status.socket_addrs(|| None).unwrap_or_default();
        let connected = timeout(2 * GRACE, tokio::net::TcpStream::connect(address.as_slice())).await;
        connected.is_ok_and(|connected| connected.is_ok())
    }

    /// What lies behind a trouble that ends the session.
    fn look_into(&mut self, trouble: Trouble) -> Trouble {
        if !trouble.is_final() {
            return trouble;
        }
        // The owner of the session may be about to tell that it has ended it.
        let trouble = match self.session().lease.too_large() {
            Some(bytes) => Trouble::Crash(format!("its processes had taken {} MiB of memory", bytes >> 20)),
            None => match trouble {
                // One dead page is the end of the whole browser there.
                Trouble::Gone(Reason::Browser, text)
                    if engine::kind(self.session().engine).dies_with_its_page && !text.contains("is stopped") =>
                {
                    Trouble::Crash(text)
                }
                trouble => trouble,
            },
        };
        self.lost.get_or_insert(trouble).clone()
    }

    /// A command whose failure says something of the session, and is not its end.
    pub(super) async fn raw(&mut self, command: Command) -> Result<Json, Trouble> {
        match timeout(2 * GRACE, self.session().client.issue_cmd(command)).await {
            Ok(answer) => answer.map_err(Trouble::from),
            Err(_) => Err(Trouble::Timeout("the page does not answer".into())),
        }
    }

    /// Whether a page that did not get ready is dead: the driver waits for it all the same, and only says so when it is
    /// asked for something else. Sometimes not even then: a renderer that died while it was loading a page looks like
    /// one that is kept busy, and is of no more use.
    async fn autopsy(&mut self) -> Option<Trouble> {
        let client = self.session().client.clone();
        if let Ok(answer) = timeout(2 * GRACE, client.issue_cmd(Command::get("title"))).await {
            return answer.err().map(Trouble::from).filter(Trouble::is_final);
        }
        Some(self.silence().await)
    }

    /// Whether the window that commands are about can be asked by `BiDi`; else the driver's classic commands do, whose scripts run
    /// in the page's own world.
    pub(super) fn has_realms(&self) -> bool {
        self.bidi().is_some() && !self.mute.contains(&self.window)
    }

    /// Finds out whether a window that a page has opened answers by `BiDi`: in Chromium one that knows its opener does not
    /// until it has gone to another page.
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

    /// Runs a script of ours in the document that the step is in, within the time that is left, unseen by the page.
    pub(super) async fn script(&mut self, script: &str, argument: &Json, deadline: Instant) -> Result<Json, Trouble> {
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

    /// As [`Page::script`], in any document of the page, by `BiDi`.
    pub(super) async fn in_document(
        &mut self,
        document: &str,
        script: &str,
        argument: &Json,
        deadline: Instant,
    ) -> Result<Json, Trouble> {
        let (mut installed, mut again) = (false, false);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let params = world::call(document, script, argument);
            let answer = self.call_function(params, left).await?;
            if answer.is_null() {
                // A dialog that the next step answers.
                return Ok(Json::Null);
            }
            match world::result(&answer) {
                Called::Result(value) => return Ok(value),
                Called::NotInstalled if !installed => {
                    self.call_function(world::install(document), left).await?;
                    installed = true;
                }
                Called::NotInstalled => return Err(Trouble::Again("the document has changed".into())),
                // A document that goes away under a script may make it throw once.
                Called::Threw(_) if !again => again = true,
                Called::Threw(text) => {
                    let url = self.call(Command::get("url"), PROMPT).await.unwrap_or_default();
                    let text = format!("wachta's own script failed on {}: {text}", url.as_str().unwrap_or("the page"));
                    return Err(Trouble::Inspection(text));
                }
            }
        }
    }

    /// Waits for a navigation that has begun, where the driver keeps commands back until then: what is asked by `BiDi` would
    /// still meet the page before. The command lets go of keys, of which none is held, and runs no script. True when a dialog
    /// is in the way that the next step answers.
    pub(super) async fn hold_back(&mut self, deadline: Instant) -> Result<bool, Trouble> {
        if engine::kind(self.session().engine).holds_back {
            let left = deadline.saturating_duration_since(Instant::now());
            self.call(Command::delete("actions"), left).await?;
        }
        Ok(self.dialog_is_awaited && self.watch.prompt.borrow().is_some())
    }

    /// Calls a function in a document by `BiDi`; null when a dialog opened that the next step answers.
    pub(super) async fn call_function(&mut self, params: Json, limit: Duration) -> Result<Json, Trouble> {
        let Some(bidi) = self.bidi() else {
            return Err(Trouble::Other("this browser session has no WebDriver BiDi".into()));
        };
        // As long as the driver has for a classic command.
        match self.heed(bidi.call("script.callFunction", params, limit + GRACE / 2), limit).await? {
            Heard::Answer(Ok(answer)) => Ok(answer),
            Heard::Answer(Err(BidiError::Refused(code, message))) => {
                let trouble = verdict::refused(&code, &message);
                if matches!(trouble, Trouble::Again(_)) {
                    if self.place.context.is_none() {
                        // The classic command knows whether the window is gone. A page that was rendered ahead comes with
                        // a window of its own, which takes the place of the one before.
                        let handle = self.call(Command::get("window"), PROMPT).await?;
                        if let Some(handle) = handle.as_str() {
                            handle.clone_into(&mut self.window);
                        }
                    }
                    self.place.entered = false;
                }
                Err(self.look_into(trouble))
            }
            Heard::Answer(Err(BidiError::Timeout)) if self.is_stopped() => Err(self.silence().await),
            Heard::Answer(Err(BidiError::Timeout)) => Err(match self.autopsy().await {
                Some(trouble) => self.look_into(trouble),
                None => verdict::no_answer(processes::processor_pressure()),
            }),
            Heard::Answer(Err(BidiError::Closed)) | Heard::Nothing => Err(self.silence().await),
            Heard::Dialog => Ok(Json::Null),
        }
    }
}

/// What came of waiting for an answer.
enum Heard<T> {
    Answer(T),
    /// A dialog opened that the next step answers.
    Dialog,
    /// No answer in time, or the browser is gone.
    Nothing,
}

/// Whether a command was refused because a dialog is open.
fn is_for_a_dialog(error: &CmdError) -> bool {
    matches!(error, CmdError::Standard(error) if error.error == ErrorStatus::UnexpectedAlertOpen)
}

async fn closed(closing: Option<CancellationToken>) {
    match closing {
        Some(closing) => closing.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Decodes what the driver sends as base64.
pub(super) fn decode(answer: &Json) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(answer.as_str()?).ok()
}
