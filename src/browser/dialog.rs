//! Dialogs: `alert`, `confirm`, `prompt` and `beforeunload`. A dialog is answered by the step that waits for it; any
//! other is dismissed at once, because it blocks the page.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::act::PollBackoff;
use super::command::Command;
use super::errors::CommandError;
use super::event_tracker::Prompt;
use super::page::{PROMPT, Page};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{DialogAnswer, Matcher};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher, cut};

/// Time within which the browser must close a dialog.
const CLOSING: Duration = Duration::from_secs(2);

impl Page {
    /// Closes a dialog that no step waits for: leaving a page is confirmed, everything else is cancelled.
    pub(super) async fn dismiss_dialog(&mut self, prompt: &Prompt) {
        self.dialogs.0 += 1;
        self.dialogs.1 = cut(&prompt.message, 100);
        let how = if prompt.kind == "beforeunload" { "confirmed" } else { "dismissed" };
        let said = if prompt.message.is_empty() { String::new() } else { format!(" `{}`", self.dialogs.1) };
        self.remark(format!("an unexpected dialog was {how}: {}{said}", prompt.kind));
        let Some(bidi) = self.bidi() else { return };
        let params = json!({"context": prompt.context, "accept": prompt.kind == "beforeunload"});
        // The dialog may already be closed. If the browser does not close it, the command that waits for it fails.
        let _ = bidi.call("browsingContext.handleUserPrompt", params, CLOSING).await;
        self.watch.prompt.send_if_modified(|open| {
            let same = open.as_ref() == Some(prompt);
            if same {
                *open = None;
            }
            same
        });
    }

    /// Awaits a dialog, checks its message and answers it.
    pub(super) async fn dialog(
        &mut self,
        answer: &DialogAnswer,
        expect: Option<&Matcher>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        // From now on, dialogs are not dismissed.
        self.dialog_is_awaited = true;
        let filled = expect.map(|matcher| ResolvedMatcher::new(matcher, values)).transpose()?;
        let text = match answer {
            DialogAnswer::Accept(Some(text)) => Some(values.fill(text).map_err(|failure| failure.at(text.span))?),
            _ => None,
        };
        let since = Instant::now();
        let message = self.open_dialog(deadline).await.map_err(CommandError::failure)?.ok_or_else(|| {
            Failure::new(Reason::NotFound, "no dialog has opened").compared("a dialog", "none").waited(since.elapsed())
        })?;
        // The dialog is answered even if its message is wrong, because it blocks the page otherwise.
        let accept = matches!(answer, DialogAnswer::Accept(_));
        self.answer_dialog(accept, text.as_deref()).await.map_err(CommandError::failure)?;
        match filled {
            Some(filled) if !filled.holds(&Actual::text(&message)) => {
                Err(Failure::new(Reason::Assertion, "the message of the dialog does not match")
                    .compared(filled.show(), Actual::text(&message).show()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the message of a dialog that is open or opens before the deadline.
    async fn open_dialog(&mut self, deadline: Instant) -> Result<Option<String>, CommandError> {
        if self.bidi().is_some() {
            let mut prompt = self.watch.prompt.subscribe();
            let open = tokio::time::timeout_at(deadline, prompt.wait_for(Option::is_some)).await;
            return Ok(open.ok().and_then(Result::ok).and_then(|open| open.clone()).map(|open| open.message));
        }
        let mut pauses = PollBackoff::new();
        loop {
            match self.call(Command::get("alert/text"), PROMPT).await {
                Ok(text) => return Ok(Some(text.as_str().unwrap_or_default().to_owned())),
                Err(trouble) if trouble.is_final() => return Err(trouble),
                Err(_) if pauses.wait(deadline).await => {}
                Err(_) => return Ok(None),
            }
        }
    }

    async fn answer_dialog(&mut self, accept: bool, text: Option<&str>) -> Result<(), CommandError> {
        let open = self.watch.prompt.borrow().clone();
        if let (Some(bidi), Some(open)) = (self.bidi(), open) {
            let mut params = json!({"context": open.context, "accept": accept});
            if let Some(text) = text {
                params["userText"] = text.into();
            }
            let answered = bidi.call("browsingContext.handleUserPrompt", params, PROMPT).await;
            self.watch.prompt.send_replace(None);
            return answered.map(drop).map_err(|error| CommandError::Other(error.to_string()));
        }
        if let Some(text) = text {
            self.call(Command::post("alert/text", json!({"text": text})), PROMPT).await?;
        }
        let how = if accept { "alert/accept" } else { "alert/dismiss" };
        self.call(Command::post(how, json!({})), PROMPT).await.map(drop)
    }
}
