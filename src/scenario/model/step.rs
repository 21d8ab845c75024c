//! Steps of a scenario, in groups of any depth.

use std::sync::Arc;
use std::time::Duration;

use super::page::{Locator, PageAction, PageExpectation};
use super::request::Request;
use crate::diagnostic::{Source, Span, Spanned};
use crate::scenario::check::Check;
use crate::scenario::template::Template;

/// Step of a scenario: an action and its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name, unique within the scenario: generated from the text of the template, or given by `name:`.
    pub name: String,
    /// Span from the action key to the end of its value.
    pub span: Span,
    /// Fragment that contains the step, or `None` if the step is in the scenario's own file.
    pub source: Option<Arc<Source>>,
    /// Timeout of one attempt; for a group, the optional timeout of the group as a whole.
    pub timeout: Option<Duration>,
    /// Whether the verdict ignores a failure of the step.
    pub optional: bool,
    /// Whether the following steps still run after a failure of the step; the run fails nevertheless.
    pub go_on: bool,
    /// Conditions for running the step, checked once. A step without conditions always runs.
    pub when: Vec<PageExpectation>,
    /// Frame in which the step acts, from the outermost frame inward; empty for the page itself.
    pub within_frame: Vec<Locator>,
    /// Action of the step.
    pub action: Action,
}

impl Step {
    /// Returns the timeout of the step, or the default of its action.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(match self.action {
            Action::Page(PageAction::Goto { .. } | PageAction::Travel(_)) => DEFAULT_GOTO_TIMEOUT,
            _ => DEFAULT_STEP_TIMEOUT,
        })
    }

    /// Returns the files referenced by the step itself, without those of nested steps.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        match &self.action {
            Action::Request(request) => request.files(),
            Action::Check(check) => check.files(),
            Action::Page(PageAction::Upload { files, .. }) => files.iter().collect(),
            Action::Page(_) | Action::Group(_) => Vec::new(),
        }
    }
}

/// Default timeout of a step.
pub const DEFAULT_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Default interval between two attempts of a polled request.
pub const DEFAULT_POLL_EVERY: Duration = Duration::from_secs(1);
/// Default timeout of a `goto` step.
pub const DEFAULT_GOTO_TIMEOUT: Duration = Duration::from_secs(30);
/// Default timeout of a scenario without a browser.
pub const DEFAULT_SCENARIO_TIMEOUT: Duration = Duration::from_secs(60);
/// Default timeout of a scenario with a browser.
pub const DEFAULT_BROWSER_SCENARIO_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of all `finally` steps together.
pub const FINALLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Action of a step.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // Most steps are page actions, so a box would save nothing.
pub enum Action {
    /// Action on the page.
    Page(PageAction),
    /// HTTP request.
    Request(Box<Request>),
    /// Group of steps.
    Group(Group),
    /// Check of any kind except `http`.
    Check(Box<Check>),
}

impl Action {
    /// Returns whether the action only reads the page and does not change it.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Page(PageAction::Expect(_) | PageAction::Save(_) | PageAction::Screenshot { .. }))
    }
}

/// Steps under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Steps of the group.
    pub steps: Vec<Step>,
    /// Number of repetitions of the group after a failure of one of its steps.
    pub retry: u32,
}

/// A step with its place in a scenario.
#[derive(Debug, Clone, Copy)]
pub struct PlacedStep<'a> {
    /// The step.
    pub step: &'a Step,
    /// Number of groups around it.
    pub depth: usize,
    /// Position in its list, starting at 0.
    pub index: usize,
    /// Whether it is under `finally`.
    pub is_finally: bool,
}

/// Returns the steps of a list with those of its groups, each group before its steps.
pub(super) fn deep(steps: &[Step], is_finally: bool) -> impl Iterator<Item = PlacedStep<'_>> {
    let mut lists = vec![steps.iter().enumerate()];
    std::iter::from_fn(move || {
        loop {
            let depth = lists.len().checked_sub(1)?;
            let Some((index, step)) = lists[depth].next() else {
                lists.pop();
                continue;
            };
            if let Action::Group(group) = &step.action {
                lists.push(group.steps.iter().enumerate());
            }
            return Some(PlacedStep { step, depth, index, is_finally });
        }
    })
}
