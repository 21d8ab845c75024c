//! Field into which a secret was typed.

use super::command::ElementId;
use super::locate::LocatorQuery;
use crate::secret::Secret;

/// A field into which a secret was typed.
#[derive(Debug, Clone)]
pub(super) struct SecretField {
    /// Frames that contain the field.
    pub(super) frames: Vec<LocatorQuery>,
    /// The field element, as long as it exists.
    pub(super) element: Option<ElementId>,
    /// Typed text, by which a field that replaced it is found.
    pub(super) text: Secret<String>,
    /// Origin of the page, if it is known. The text is not passed to pages of other origins.
    pub(super) origin: Option<String>,
}
