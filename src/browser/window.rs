//! Windows of a run: the initial one, and those that its pages open.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::PollBackoff;
use super::command::Command;
use super::errors::CommandError;
use super::locate::LocatorQuery;
use super::page::{GRACE, PROMPT, Page};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::WindowChange;
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Criterion that identifies a window.
enum Wanted {
    New,
    Title(ResolvedMatcher),
    Url(ResolvedMatcher),
}

impl Page {
    /// Makes another window the current one, or closes the current one.
    pub(super) async fn change_window(
        &mut self,
        change: &WindowChange,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let wanted = match change {
            WindowChange::Close => return self.close_window().await.map_err(CommandError::failure),
            WindowChange::New => Wanted::New,
            WindowChange::Title(matcher) => Wanted::Title(ResolvedMatcher::new(matcher, values)?),
            WindowChange::Url(matcher) => Wanted::Url(ResolvedMatcher::new(matcher, values)?),
        };
        let since = Instant::now();
        let begin = self.window.clone();
        let mut pauses = PollBackoff::new();
        loop {
            match self.find_window(&wanted, &begin, deadline).await {
                Ok(Found::Window) => {
                    self.came_back = false;
                    if self.window != begin {
                        self.before.retain(|window| *window != self.window && *window != begin);
                        self.before.push(begin);
                    }
                    return Ok(());
                }
                Ok(Found::Others(seen)) => {
                    if pauses.wait(deadline).await {
                        continue;
                    }
                    self.switch(&begin).await.map_err(CommandError::failure)?;
                    let expected = match &wanted {
                        Wanted::New => "a new window".to_owned(),
                        Wanted::Title(filled) => format!("a window whose title {}", filled.show()),
                        Wanted::Url(filled) => format!("a window whose URL {}", filled.show()),
                    };
                    return Err(Failure::new(Reason::NotFound, "no such window")
                        .compared(expected, seen.join("; "))
                        .waited(since.elapsed()));
                }
                Err(CommandError::Again(_) | CommandError::Timeout(_) | CommandError::Closed)
                    if pauses.wait(deadline).await => {}
                Err(trouble) => return Err(trouble.failure()),
            }
        }
    }

    async fn find_window(&mut self, wanted: &Wanted, begin: &str, deadline: Instant) -> Result<Found, CommandError> {
        let windows = self.windows().await?;
        if let Wanted::New = wanted {
            let new = windows.iter().rev().find(|window| *window != begin && !self.before.contains(window)).cloned();
            return match new {
                Some(window) => self.switch(&window).await.map(|()| Found::Window),
                None => Ok(Found::Others(vec![format!("{} windows, none of them new", windows.len())])),
            };
        }
        let mut seen = Vec::new();
        for window in windows {
            if window != self.window {
                self.switch(&window).await?;
            }
            let answers = self.look(&[LocatorQuery::page()], deadline).await?;
            let Some(page) = answers.first() else { continue };
            let (text, filled) = match wanted {
                Wanted::Title(filled) => (page.text("title"), filled),
                Wanted::Url(filled) => (page.text("url"), filled),
                Wanted::New => unreachable!("looked for above"),
            };
            if filled.holds(&Actual::text(text)) {
                return Ok(Found::Window);
            }
            seen.push(Actual::text(text).show());
        }
        Ok(Found::Others(seen))
    }

    /// Returns the run's windows, in the order of opening if that is known.
    async fn windows(&mut self) -> Result<Vec<String>, CommandError> {
        if self.bidi().is_some() {
            return Ok(self.watch.windows());
        }
        let handles = self.call(Command::get("window/handles"), PROMPT).await?;
        Ok(handles.as_array().into_iter().flatten().filter_map(Json::as_str).map(ToOwned::to_owned).collect())
    }

    /// Returns whether the current window has closed. This is only reported by `BiDi`.
    pub(super) fn window_is_gone(&self) -> bool {
        self.bidi().is_some() && !self.watch.windows().contains(&self.window)
    }

    /// Chooses the window in which to continue when a page has closed its window, like a user would: the opener,
    /// otherwise the one that was current before, otherwise the newest.
    pub(super) async fn come_back(&mut self) -> Result<(), CommandError> {
        if !self.window_is_gone() {
            return Ok(());
        }
        let mut gone = self.window.clone();
        loop {
            let windows = self.watch.windows();
            let open = |window: &String| windows.contains(window);
            let opener = self.watch.opener(&gone).filter(open);
            let before = || self.before.iter().rev().find(|window| open(window)).cloned();
            let Some(next) = opener.or_else(before).or_else(|| windows.last().cloned()) else {
                return Err(self.last_window_gone().await);
            };
            self.before.retain(|window| *window != next && *window != gone);
            match self.switch(&next).await {
                // This window is closing as well.
                Err(CommandError::Closed) if self.watch.closes(&next, Instant::now() + PROMPT).await => gone = next,
                Ok(()) => {
                    self.came_back = true;
                    return Ok(());
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Returns the error for a run without windows: a page has closed the last one, or the browser is terminating.
    async fn last_window_gone(&mut self) -> CommandError {
        let closing = self.bidi().map(|bidi| bidi.closing());
        match closing {
            Some(closing) if tokio::time::timeout(GRACE, closing.cancelled()).await.is_ok() => {
                self.on_no_response().await
            }
            _ => CommandError::Closed,
        }
    }

    async fn switch(&mut self, window: &str) -> Result<(), CommandError> {
        self.call(Command::post("window", json!({"handle": window})), PROMPT).await?;
        window.clone_into(&mut self.window);
        if let Some(strip) = &self.filmstrip {
            strip.follow(window);
        }
        self.place = super::place::FrameState::default();
        if self.watch.opener(window).is_some() {
            self.probe_realms().await;
        }
        // Firefox shows all windows of a session as tabs of one. Tabs in the background are not rendered and are
        // throttled.
        if self.bidi().is_some() {
            let _ = self.ask("browsingContext.activate", json!({"context": window}), PROMPT).await;
        }
        Ok(())
    }

    async fn close_window(&mut self) -> Result<(), CommandError> {
        let current = self.window.clone();
        let windows = self.windows().await?;
        let left = self
            .before
            .iter()
            .rev()
            .chain(windows.iter())
            .find(|window| **window != current && windows.contains(window));
        let Some(next) = left.cloned() else {
            // The current window was chosen because the intended one has closed by itself.
            if self.came_back {
                return Ok(());
            }
            let text = "the only window of a flow cannot be closed";
            return Err(CommandError::Absent(Box::new(Failure::new(Reason::NotFound, text))));
        };
        self.call(Command::delete("window"), PROMPT).await?;
        self.before.retain(|window| *window != next && *window != current);
        self.switch(&next).await
    }
}

enum Found {
    /// The window is now the current one.
    Window,
    /// Descriptions of the existing windows.
    Others(Vec<String>),
}
