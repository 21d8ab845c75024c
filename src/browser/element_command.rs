//! Command for the element that an action has found.

use super::command::{Command, ElementId};
use super::locate::LocatorResult;

/// Command for an element that the script has found ready. `None` if the script does everything itself.
pub(super) type ElementCommand<'a> = &'a (dyn Fn(&LocatorResult, &ElementId) -> Option<Command> + Sync);

/// For actions that the script performs.
pub(super) const NOTHING: ElementCommand<'static> = &|_, _| None;
