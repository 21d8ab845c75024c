//! Errors and panics of the agent itself, collected for the sink that reports them.
//!
//! Events logged as errors are stored, up to a limit, from the installation of [`Layer`]; equal ones are stored once
//! and counted. A panic is logged as an error with the target [`PANIC`].

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};

/// Log target of panics.
pub const PANIC: &str = "wachta::panic";

/// Maximum number of different errors.
const MOST: usize = 100;
/// Time after an error was taken during which repetitions of it are only counted.
const QUIET: Duration = Duration::from_mins(10);
/// Maximum length of the values of an error, in characters.
const LONGEST: usize = 4_000;

static ERRORS: Mutex<VecDeque<Kept>> = Mutex::new(VecDeque::new());

/// Error of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnError {
    /// Time of the last occurrence.
    pub at: DateTime<Utc>,
    /// Module of the agent that logged the error.
    pub target: &'static str,
    /// Message without variable parts.
    pub message: String,
    /// Fields of the event as `name=value`.
    pub values: String,
    /// Number of occurrences since the error was last taken.
    pub count: u64,
}

impl OwnError {
    /// Returns whether the error is a panic.
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

/// Stores an error, and discards the oldest one if there are too many.
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

/// Takes the errors since the last call. An error that was taken within the last ten minutes is only counted.
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

/// Logs panics as errors, in addition to the previous panic hook.
pub fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload_as_str().unwrap_or("without a message");
        tracing::error!(target: PANIC, place, "a part of the agent panicked: {text}");
        before(info);
    }));
}

/// Layer that stores events logged as errors.
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

/// Text of an event.
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
        // A repetition within ten minutes is only counted.
        keep(OwnError { count: 1, ..error.clone() });
        assert_eq!(mine(now + Duration::from_mins(9)), []);
        assert_eq!(mine(now + Duration::from_mins(10))[0].count, 1);
        assert_eq!(mine(now + Duration::from_mins(30)), []);
    }
}
