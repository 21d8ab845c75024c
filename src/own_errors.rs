//! The agent's own errors and panics, kept for the sink that reports them.
//!
//! What is logged as an error is kept, bounded, from the moment at which [`Layer`] is installed; equal ones are kept
//! once and counted. A panic is logged as an error of the target [`PANIC`].

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};

/// The target under which a panic is logged.
pub const PANIC: &str = "wachta::panic";

/// How many different errors are kept.
const MOST: usize = 100;
/// For how long an error that was given away is only counted when it comes again.
const QUIET: Duration = Duration::from_mins(10);
/// The longest text of the values of an error, in characters.
const LONGEST: usize = 4_000;

static ERRORS: Mutex<VecDeque<Kept>> = Mutex::new(VecDeque::new());

/// An error of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnError {
    /// When it last happened.
    pub at: DateTime<Utc>,
    /// Which part of the agent says so.
    pub target: &'static str,
    /// What went wrong, without what differs from time to time.
    pub message: String,
    /// The values that go with the message, as `name=value`.
    pub values: String,
    /// How often it happened since it was last given away.
    pub count: u64,
}

impl OwnError {
    /// Whether a part of the agent ended by a defect.
    pub fn is_panic(&self) -> bool {
        self.target == PANIC
    }
}

#[derive(Debug)]
struct Kept {
    error: OwnError,
    given_at: Option<DateTime<Utc>>,
}

fn errors() -> MutexGuard<'static, VecDeque<Kept>> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an error; the oldest gives way.
fn keep(error: OwnError) {
    let mut errors = errors();
    let same = |kept: &&mut Kept| kept.error.target == error.target && kept.error.message == error.message;
    if let Some(kept) = errors.iter_mut().find(same) {
        let count = kept.error.count + 1;
        kept.error = OwnError { count, ..error };
        return;
    }
    if errors.len() >= MOST {
        errors.pop_front();
    }
    errors.push_back(Kept { error, given_at: None });
}

/// Takes what happened since this was last asked; of an error that was given away within the last ten minutes only its
/// count goes on.
pub fn take(now: DateTime<Utc>) -> Vec<OwnError> {
    let mut taken = Vec::new();
    for kept in errors().iter_mut().filter(|kept| kept.error.count > 0) {
        let is_quiet = kept.given_at.is_some_and(|at| (now - at).abs().to_std().is_ok_and(|since| since < QUIET));
        if !is_quiet {
            kept.given_at = Some(now);
            taken.push(kept.error.clone());
            kept.error.count = 0;
        }
    }
    taken
}

/// Logs panics as errors, besides what is done of them anyway.
pub fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload_as_str().unwrap_or("without a message");
        tracing::error!(target: PANIC, place, "a part of the agent panicked: {text}");
        before(info);
    }));
}

/// Keeps what is logged as an error.
#[derive(Debug, Clone, Copy)]
pub struct Layer;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() != Level::ERROR || !metadata.target().starts_with("wachta") {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let values = text.values.chars().take(LONGEST).collect();
        keep(OwnError { at: Utc::now(), target: metadata.target(), message: text.message, values, count: 1 });
    }
}

/// What an event says.
#[derive(Default)]
struct Text {
    message: String,
    values: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let space = if self.values.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.values, "{space}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn errors_are_kept_once_and_counted() {
        let subscriber = tracing_subscriber::registry().with(Layer);
        tracing::subscriber::with_default(subscriber, || {
            for number in 1..=3 {
                tracing::error!(target: "wachta::own_errors::tests", number, path = "/a", "it does not work");
            }
            tracing::warn!(target: "wachta::own_errors::tests", "a warning is none");
            tracing::error!(target: "hyper", "neither is what others log");
        });
        let mine = |now| {
            let mut taken = take(now);
            taken.retain(|error| error.target == "wachta::own_errors::tests");
            taken
        };
        let now = Utc::now();
        let taken = mine(now);
        let [error] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!(
            (error.message.as_str(), error.values.as_str(), error.count),
            ("it does not work", "number=3 path=/a", 3)
        );
        // Again within ten minutes it is only counted.
        keep(OwnError { count: 1, ..error.clone() });
        assert_eq!(mine(now + Duration::from_mins(9)), []);
        assert_eq!(mine(now + Duration::from_mins(10))[0].count, 1);
        assert_eq!(mine(now + Duration::from_mins(30)), []);
    }
}
