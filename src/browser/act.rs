//! Common parts of all actions: each waits until its element is present, unique, visible, enabled, stable and
//! reachable, and then acts once. Also contains the actions that need no element or not only one: `goto`, `press`,
//! `select`.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::Command;
use super::element_command::{ElementCommand, NOTHING};
use super::errors::{self, CommandError};
use super::keys;
use super::locate::{LocatorQuery, LocatorResult};
use super::page::{PROMPT, Page};
use super::pointer::{is_own, left_click};
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Locator, Matcher, SelectOption, Template, Travel};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Additional time in which a loaded page must report the result of its navigation.
const ASKING: Duration = Duration::from_secs(2);

/// Time after an aborted navigation in which the event of a download may arrive.
const DOWNLOAD_NOTICE: Duration = Duration::from_millis(500);

/// Returns how the document was loaded. Chromium displays failed navigations as a page of its own, and its driver
/// reports some of them as successful.
const ARRIVED: &str = "
    const entry = performance.getEntriesByType('navigation')[0];
    const failed = document.URL.startsWith('chrome-error:');
    const shown = failed && document.querySelector('#error-code, .error-code');
    const data = failed && typeof loadTimeDataRaw !== 'undefined' ? loadTimeDataRaw.errorCode : null;
    return {url: document.URL, status: entry ? entry.responseStatus : 0, origin: performance.timeOrigin, failed,
            error: failed ? (shown && shown.textContent) || data || 'ERR_FAILED' : null};";

/// Returns the history entry and the document of the page.
const ENTRY: &str = "
    const entry = globalThis.navigation && navigation.currentEntry;
    return {url: document.URL, origin: performance.timeOrigin, key: entry ? entry.key : null};";

/// Maximum number of clicks to choose from a list, more than any choice needs.
const MOST_PICKED: usize = 200;

/// Growing pauses between attempts.
pub(super) struct PollBackoff(Duration);

impl PollBackoff {
    /// Creates a pause of 50 ms …
    pub(super) fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    /// Sleeps, and extends the next pause up to 200 ms. Returns false when the time is up.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        tokio::time::sleep_until((now + self.0).min(deadline)).await;
        self.0 = (self.0 * 3 / 2).min(Duration::from_millis(200));
        true
    }
}

impl Page {
    /// Opens a URL and checks the result of the navigation.
    pub(super) async fn goto(
        &mut self,
        url: &Spanned<Template>,
        wanted_status: Option<&Matcher>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        let wanted_status = wanted_status.map(|matcher| ResolvedMatcher::new(matcher, values)).transpose()?;
        let wanted = values.url(url).map_err(|failure| failure.at(url.span))?;
        if let Some(kept) = self.browsers.kept_ports(&wanted) {
            let text = format!(
                "`{wanted}` cannot be opened: ports {kept} are reserved for browser drivers; serve the page at another port, or restart the agent, which then reserves others"
            );
            return Err(Failure::new(Reason::Configuration, text).at(url.span));
        }
        let arrived = match self.navigate(wanted.as_str(), deadline).await {
            Ok(arrived) => arrived,
            Err(CommandError::Timeout(_)) => {
                return Err(
                    Failure::new(Reason::Timeout, format!("{wanted} did not load in time")).waited(since.elapsed())
                );
            }
            Err(trouble) => return Err(trouble.failure()),
        };
        if arrived["download"] == true {
            return Ok(());
        }
        if arrived.is_null() {
            // A dialog blocks the page, and the next step will answer it.
            return Ok(());
        }
        let origin = arrived["origin"].as_f64().unwrap_or_default();
        let same_document = (origin - self.origin).abs() < f64::EPSILON;
        self.origin = origin;
        let status = arrived["status"].as_u64().unwrap_or(0);
        if let Some(wanted_status) = &wanted_status
            && status > 0
        {
            if !wanted_status.holds(&Actual::One(status.into())) {
                return Err(Failure::new(Reason::Status, format!("{wanted} returned status {status}"))
                    .compared(wanted_status.show(), status.to_string()));
            }
        } else if status >= 400 {
            return Err(Failure::new(Reason::Status, format!("{wanted} returned status {status}"))
                .compared("a status below 400", status.to_string()));
        }
        // Chromium displays an empty response with such a status as an error of its own.
        let expected = wanted_status.is_some() && status >= 400;
        if let Some(error) = arrived["error"].as_str()
            && !expected
        {
            return Err(errors::net(error.trim().trim_start_matches("net::")));
        }
        let without_fragment = |url: &str| url.split('#').next().unwrap_or_default().to_owned();
        if same_document && without_fragment(arrived["url"].as_str().unwrap_or("")) != without_fragment(wanted.as_str())
        {
            return Err(Failure::new(
                Reason::Protocol,
                format!("{wanted} returned no page: a download, or an empty response"),
            ));
        }
        Ok(())
    }

    /// Goes back or forward, or reloads the page, in the same way as the buttons of the browser.
    pub(super) async fn travel(&mut self, travel: Travel, deadline: Instant) -> Result<(), Failure> {
        let since = Instant::now();
        let left = deadline.saturating_duration_since(since);
        let (delta, word, classic) = match travel {
            Travel::Back => (-1, "back", "back"),
            Travel::Forward => (1, "forward", "forward"),
            Travel::Reload => (0, "again", "refresh"),
        };
        let before = self.script(ENTRY, &Json::Null, deadline).await.map_err(CommandError::failure)?;
        let asked = match (self.bidi().is_some(), travel) {
            (true, Travel::Reload) => {
                let params = json!({"context": self.window, "wait": "interactive"});
                self.ask("browsingContext.reload", params, left).await
            }
            (true, _) => {
                let params = json!({"context": self.window, "delta": delta});
                self.ask("browsingContext.traverseHistory", params, left).await
            }
            (false, _) => {
                self.patience(deadline).await.map_err(CommandError::failure)?;
                self.call(Command::post(classic, json!({})), left).await
            }
        };
        let mut pauses = PollBackoff::new();
        match asked {
            Ok(_) | Err(CommandError::Again(_)) => {}
            Err(CommandError::Other(_)) if travel != Travel::Reload => {
                return Err(Failure::new(Reason::NotFound, format!("no page in the history to go {word} to")));
            }
            Err(trouble) => return Err(trouble.failure()),
        }
        loop {
            let now = match self.script(ENTRY, &Json::Null, deadline).await {
                Ok(now) => now,
                Err(CommandError::Again(_)) => before.clone(),
                Err(trouble) => return Err(trouble.failure()),
            };
            // A dialog blocks the page, and the next step will answer it.
            if now.is_null() && self.dialog_is_awaited {
                return Ok(());
            }
            if !now.is_null() && now != before {
                break;
            }
            if !pauses.wait(deadline).await {
                let text = format!("the page did not load {word}");
                let text = if travel == Travel::Reload { text } else { format!("the browser did not go {word}") };
                return Err(Failure::new(Reason::Timeout, text).waited(since.elapsed()));
            }
        }
        let arrived = self.script(ARRIVED, &Json::Null, deadline + ASKING).await.map_err(CommandError::failure)?;
        self.origin = arrived["origin"].as_f64().unwrap_or_default();
        let url = arrived["url"].as_str().unwrap_or_default();
        if let Some(error) = arrived["error"].as_str() {
            return Err(errors::net(error.trim().trim_start_matches("net::")));
        }
        let status = arrived["status"].as_u64().unwrap_or(0);
        if status >= 400 {
            return Err(Failure::new(Reason::Status, format!("{url} returned status {status}"))
                .compared("a status below 400", status.to_string()));
        }
        Ok(())
    }

    async fn navigate(&mut self, url: &str, deadline: Instant) -> Result<Json, CommandError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let downloads = self.watch.downloads();
        self.locate_at(url).await?;
        let navigated = if self.bidi().is_some() {
            // The classic command reports some failed navigations as successful.
            let params = json!({"context": self.window, "url": url, "wait": "interactive"});
            self.ask("browsingContext.navigate", params, left).await
        } else {
            self.patience(deadline).await?;
            self.call(Command::post("url", json!({"url": url})), left).await
        };
        match navigated {
            // The page redirected to another one while it was loading.
            Ok(_) | Err(CommandError::Again(_)) => {}
            // This may be a download or a response without a page. Otherwise another navigation has taken its place, or
            // the document can report its status.
            Err(CommandError::Net(code)) if code == "ERR_ABORTED" => {
                self.watch.download_after(downloads, Instant::now() + DOWNLOAD_NOTICE).await;
            }
            Err(CommandError::Net(code)) if code == "ERR_HTTP_RESPONSE_CODE_FAILURE" => {}
            // There is nobody to enter a user and password.
            Err(CommandError::Net(code)) if code == "ERR_INVALID_AUTH_CREDENTIALS" => {
                return Ok(json!({"status": 401}));
            }
            Err(trouble) => return Err(trouble),
        }
        if self.watch.downloads() > downloads {
            return Ok(json!({"download": true}));
        }
        let mut pauses = PollBackoff::new();
        loop {
            let arrived = self.script(ARRIVED, &Json::Null, deadline + ASKING).await?;
            // A script that was interrupted by a dialog returns null.
            if !arrived.is_null() || self.dialog_is_awaited {
                return Ok(arrived);
            }
            if !pauses.wait(deadline).await {
                let (count, last) = &self.dialogs;
                return Err(CommandError::Again(format!("it opened {count} dialogs, the last one: {last}")));
            }
        }
    }

    /// Grants access to the geolocation that the scenario sets, because there is nobody to give the permission.
    async fn locate_at(&mut self, url: &str) -> Result<(), CommandError> {
        let origin = url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let Some(located) = &mut self.located else { return Ok(()) };
        if !located.insert(origin.clone()) {
            return Ok(());
        }
        let params = json!({"descriptor": {"name": "geolocation"}, "state": "granted", "origin": origin,
                            "userContext": self.context.user});
        self.ask("permissions.setPermission", params, PROMPT).await.map(drop)
    }

    /// Chooses options of a list.
    pub(super) async fn select(
        &mut self,
        target: &Locator,
        options: &[SelectOption],
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let options = options
            .iter()
            .map(|option| {
                let (key, text) = match option {
                    SelectOption::Text(text) => ("text", text),
                    SelectOption::Value(text) => ("value", text),
                };
                Ok(json!({key: values.fill(text).map_err(|failure| failure.at(text.span))?}))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        self.patience(deadline).await.map_err(CommandError::failure)?;
        let engine = self.session().engine;
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "choose", "options": options}));
        // Lists that a page implements itself are opened and operated by clicks, one at a time.
        let (mut opened, mut picked) = (false, 0);
        loop {
            let query = query.clone().with(json!({"opened": opened, "picked": picked}));
            let answer =
                self.once(&query, deadline, &|answer, element| Some(left_click(engine, answer, element))).await?;
            if answer.done() {
                return Ok(());
            }
            self.see_who_got_it(&query, is_own(engine, &answer), deadline).await?;
            if answer.is("opens") {
                opened = true;
            } else {
                picked += 1;
            }
            if picked > MOST_PICKED {
                let message = format!("{} does not accept the choice", query.shown);
                return Err(query.placed(Failure::new(Reason::Timeout, message)));
            }
        }
    }

    /// Presses a key or chord, in an element if one is given.
    pub(super) async fn press(
        &mut self,
        keys: &Spanned<Vec<String>>,
        into: Option<&Locator>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let chord = keys::chord(keys).map_err(|failure| failure.at(keys.span))?;
        if let Some(target) = into {
            let query = LocatorQuery::new(target, values)?.with(json!({"then": "focus"}));
            self.once(&query, deadline, NOTHING).await?;
        } else if !self.place.path.is_empty() {
            self.poll(&[LocatorQuery::page()], deadline, |_| Ok(())).await?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match self.point(Command::keys(chord), &LocatorResult(Json::Null), left).await {
            // The key was pressed; the next step will check the effect.
            Ok(()) | Err(CommandError::Again(_) | CommandError::Closed) => self.wait_for_effects(deadline).await,
            Err(trouble) => Err(trouble.failure()),
        }
    }

    /// Makes another window the current one if the current one closed during a query. Fails within a frame, because the
    /// step refers to a frame of the closed window.
    pub(super) async fn come_back_within(&mut self) -> Result<(), Failure> {
        if !self.place.path.is_empty() {
            return Err(CommandError::Closed.failure());
        }
        // The driver has already reported it; the event follows shortly.
        self.watch.closes(&self.window, Instant::now() + PROMPT).await;
        self.come_back().await.map_err(CommandError::failure)
    }

    /// Performs the part of an action that the script cannot do. Returns false if the element is not ready.
    async fn finish(
        &mut self,
        answer: &mut LocatorResult,
        then: ElementCommand<'_>,
        deadline: Instant,
    ) -> Result<bool, CommandError> {
        if answer.done() {
            return Ok(true);
        }
        self.point_outward(answer, deadline).await?;
        let Some(element) = answer.element() else { return Ok(false) };
        let Some(command) = then(answer, &element) else { return Ok(true) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.point(command, answer, left).await {
            // The action has closed the window.
            Ok(()) | Err(CommandError::Closed) => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }

    /// Waits until the element is ready and acts on it. Errors caused by a change of the page are retried. Returns the
    /// last result of the query.
    pub(super) async fn once(
        &mut self,
        query: &LocatorQuery,
        deadline: Instant,
        then: ElementCommand<'_>,
    ) -> Result<LocatorResult, Failure> {
        let since = Instant::now();
        let mut pauses = PollBackoff::new();
        let mut last: Option<Failure> = None;
        loop {
            let tried = match self.look(std::slice::from_ref(query), deadline).await.map(|mut all| all.pop()) {
                Ok(Some(mut answer)) => {
                    if let Some(failure) = query.wrong(&answer) {
                        return Err(query.placed(failure));
                    }
                    match self.finish(&mut answer, then, deadline).await {
                        Ok(true) => {
                            self.note_drift(query, &answer);
                            return Ok(answer);
                        }
                        Ok(false) => {
                            if last.is_none() || !answer.is_partial() {
                                last = Some(query.refusal(&answer));
                            }
                            Ok(())
                        }
                        Err(trouble) => Err(trouble),
                    }
                }
                Ok(None) => Ok(()),
                Err(trouble) => Err(trouble),
            };
            match tried {
                Ok(()) => {}
                Err(CommandError::Absent(failure)) if failure.reason != Reason::Configuration => last = Some(*failure),
                Err(CommandError::Again(text)) => {
                    last.get_or_insert_with(|| CommandError::Again(text).failure());
                }
                Err(CommandError::Timeout(text)) => {
                    let text = format!("the page was not ready in time: {text}");
                    return Err(errors::hung(text, last).waited(since.elapsed()));
                }
                Err(CommandError::Closed) => self.come_back_within().await.map_err(|failure| query.placed(failure))?,
                Err(trouble) => return Err(trouble.failure()),
            }
            self.clear_the_way(deadline).await;
            self.reenter_frame();
            if !pauses.wait(deadline).await {
                let failure = last.unwrap_or_else(|| Failure::new(Reason::Timeout, "no time left to check"));
                let failure = self.look_into_frames(query, failure).await;
                return Err(query.placed(failure.waited(since.elapsed())));
            }
        }
    }
}
