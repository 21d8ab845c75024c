//! Frame in which a step acts.

use super::command::ElementId;
use super::locate::LocatorQuery;

/// Frame of the current step, and position of the driver.
#[derive(Debug, Default)]
pub(super) struct FrameState {
    /// Frames of the step, outermost first.
    pub(super) path: Vec<LocatorQuery>,
    /// Whether the driver is in the innermost of them.
    pub(super) entered: bool,
    /// Whether the driver itself may be in any frame.
    pub(super) away: bool,
    /// Context of the step's frame, if `BiDi` provides it.
    pub(super) context: Option<String>,
    /// Frames that were entered, outermost first.
    pub(super) chain: Vec<Level>,
}

/// A frame that was entered.
#[derive(Debug, Clone)]
pub(super) struct Level {
    /// Context of the document that contains the frame.
    pub(super) outer: String,
    /// Element of the frame.
    pub(super) element: ElementId,
    /// Whether both documents have the same origin.
    pub(super) same: bool,
}
