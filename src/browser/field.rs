//! Text fields and checkboxes: `fill`, `clear`, `check`, `uncheck`.
//!
//! Text is typed, so that the page receives key events. Only fields with a picker or locale-dependent format are set by
//! the script, and long texts, tabs and the content of editors are inserted as if pasted. Then the field must contain
//! what was typed, or what `becomes` specifies. Fields into which a secret was typed are recorded, so that no picture
//! shows them.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::PollBackoff;
use super::command::Command;
use super::element_command::NOTHING;
use super::engine;
use super::errors::CommandError;
use super::filmstrip::Filmstrip;
use super::keys::{self, BACKSPACE, END, SELECT_ALL, TO_THE_END};
use super::locate::{LocatorQuery, LocatorResult};
use super::page::Page;
use super::pointer::{is_own, left_click};
use super::typed::SecretField;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Locator, Matcher, Template};
use crate::secret::Secret;
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Time within which a page must accept the typed text.
const TAKING: Duration = Duration::from_secs(2);

/// Inserts a text at the caret.
const PASTE: &str = "return wachta.insert(arguments[0]);";

/// Returns the keys that put a text into a field whose content is selected, or whose caret is at its end.
fn in_field(text: &str, append: bool, answer: &LocatorResult) -> Option<String> {
    Some(match (text, append) {
        _ if answer.is("pasted") => return None,
        ("", true) => return None,
        ("", false) if answer.is("empty") => return None,
        ("", false) if answer.is("shadow") => format!("{SELECT_ALL}{BACKSPACE}"),
        ("", false) => BACKSPACE.to_owned(),
        (text, false) if answer.is("shadow") && !answer.is("empty") => format!("{SELECT_ALL}{text}"),
        // If a script must not move the caret, a key does.
        (text, true) if !answer.is("caret") => format!("{END}{text}"),
        (text, _) => text.to_owned(),
    })
}

/// Returns the keys that prepare an editor for a text: all of its content selected, or the caret at its end.
fn in_editor(text: &str, append: bool) -> Option<String> {
    Some(match (text, append) {
        ("", true) => return None,
        ("", false) => format!("{SELECT_ALL}{BACKSPACE}"),
        (_, false) => SELECT_ALL.to_owned(),
        (_, true) => TO_THE_END.to_owned(),
    })
}

impl Page {
    /// Replaces the content of a field, or appends to it.
    pub(super) async fn fill(
        &mut self,
        target: &Locator,
        with: &Spanned<Template>,
        append: bool,
        becomes: Option<&Matcher>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let text = values.fill(with).map_err(|failure| failure.at(with.span))?;
        let becomes = becomes.map(|matcher| ResolvedMatcher::new(matcher, values)).transpose()?;
        self.type_into(target, &text, append, values, deadline).await?;
        self.compare(target, &text, append, becomes.as_ref(), values, deadline).await
    }

    /// Empties a field.
    pub(super) async fn clear(&mut self, target: &Locator, values: &Values, deadline: Instant) -> Result<(), Failure> {
        self.type_into(target, "", false, values, deadline).await?;
        self.compare(target, "", false, None, values, deadline).await
    }

    /// Returns the window that receives key events, if typing does not use the driver's own command.
    pub(super) fn types_by_keys(&self) -> Option<String> {
        let by_keys = self.has_realms() && engine::kind(self.session().engine).acts_by_script;
        by_keys.then(|| self.window.clone())
    }

    async fn type_into(
        &mut self,
        target: &Locator,
        text: &str,
        append: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "type", "text": text, "append": append}));
        let secret = values.masker().is_secret(text);
        if secret {
            values.masker().typed(text);
        }
        let blind = self.filmstrip.as_ref().filter(|_| secret).map(Filmstrip::blind);
        let by_keys = self.types_by_keys().is_some();
        let answer = self
            .once(&query, deadline, &|answer, element| {
                // A password field does not display the text.
                if let Some(blind) = &blind
                    && !answer.is("password")
                {
                    blind();
                }
                let keys = if answer.is("editor") { in_editor(text, append) } else { in_field(text, append, answer) };
                keys.map(|keys| {
                    if by_keys {
                        Command::keys(keys::typed(&keys))
                    } else {
                        Command::element(element, "value", json!({"text": keys}))
                    }
                })
            })
            .await?;
        if answer.is("editor") && !text.is_empty() {
            self.paste(&query, text, deadline).await?;
        }
        let (frames, element) = (self.place.path.clone(), answer.element());
        if !append {
            self.typed.retain(|typed| typed.element != element);
        }
        if secret {
            let origin = match answer.origin() {
                Some(origin) if frames.is_empty() => Some(origin),
                // If the page has changed meanwhile, the origin is not determined again.
                _ => self.origin_of_page().await.unwrap_or_default(),
            };
            self.typed.push(SecretField { frames, element, text: Secret::new(text.to_owned()), origin });
        }
        Ok(())
    }

    /// Inserts a text at the caret of an editor as a whole, because typing it would add closing brackets and
    /// indentation.
    async fn paste(&mut self, query: &LocatorQuery, text: &str, deadline: Instant) -> Result<(), Failure> {
        match self.script(PASTE, &json!(text), deadline).await {
            Ok(Json::Bool(true)) => Ok(()),
            Ok(_) => Err(query.placed(Failure::new(Reason::Timeout, format!("{} does not accept text", query.shown)))),
            Err(trouble) => Err(trouble.failure()),
        }
    }

    /// Fails unless a field contains what was typed, or what that becomes. If the page has moved on, it has accepted
    /// the text.
    async fn compare(
        &mut self,
        target: &Locator,
        text: &str,
        append: bool,
        becomes: Option<&ResolvedMatcher>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "compare", "text": text, "append": append}));
        let (mut pauses, end) = (PollBackoff::new(), deadline.min(Instant::now() + TAKING));
        loop {
            let answer = match self.look(std::slice::from_ref(&query), deadline).await.map(|mut all| all.pop()) {
                Ok(Some(answer)) => answer,
                Ok(None) | Err(CommandError::Again(_) | CommandError::Closed | CommandError::Absent(_)) => {
                    return Ok(());
                }
                Err(trouble) => return Err(trouble.failure()),
            };
            let stands = answer.0["stands"].as_str();
            let holds = match (becomes, stands) {
                (Some(becomes), Some(stands)) => becomes.holds(&Actual::text(stands)),
                // For a password, the page only reports whether it is equal.
                _ => answer.0["same"] != false,
            };
            if holds {
                return Ok(());
            }
            self.reenter_frame();
            if !pauses.wait(end).await {
                let wanted = match becomes {
                    Some(becomes) => becomes.show(),
                    None => Actual::text(text).show(),
                };
                let seen = stands.map_or("another text".to_owned(), |stands| Actual::text(stands).show());
                let hint =
                    if becomes.is_some() { "" } else { "; if the page changes it, set the result with `becomes`" };
                let message = format!("{} does not hold what was typed", query.shown);
                let failure = Failure::new(Reason::Assertion, message).compared(wanted, format!("{seen}{hint}"));
                return Err(query.placed(failure));
            }
        }
    }

    /// Makes a checkbox checked or unchecked: clicks it at most once and verifies the result.
    pub(super) async fn check(
        &mut self,
        target: &Locator,
        on: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "check", "on": on, "unseen": true}));
        self.patience(deadline).await.map_err(CommandError::failure)?;
        let engine = self.session().engine;
        let answer = self.once(&query, deadline, &|answer, element| Some(left_click(engine, answer, element))).await?;
        if answer.done() {
            return Ok(());
        }
        self.see_who_got_it(&query, is_own(engine, &answer), deadline).await?;
        self.once(&query.with(json!({"look": true})), deadline, NOTHING).await.map(drop)
    }
}
