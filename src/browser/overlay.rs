//! Overlays that may obstruct any step, such as a cookie banner. They are searched when an element is not ready or an
//! expectation does not hold, and then clicked away.

mod dismissal;

use super::locate::LocatorQuery;

/// Overlays of a scenario.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    all: Vec<Prepared>,
    /// Whether an overlay is being clicked away, during which none is searched.
    busy: bool,
}

#[derive(Debug, Clone)]
struct Prepared {
    frames: Vec<LocatorQuery>,
    when: LocatorQuery,
    click: LocatorQuery,
    /// Number of clicks in the current step.
    clicked: usize,
}

impl Overlays {
    /// Resets the counts at the start of a step.
    pub(super) fn begin_step(&mut self) {
        for overlay in &mut self.all {
            overlay.clicked = 0;
        }
    }
}
