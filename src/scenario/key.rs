//! Key of a map in the scenario language, and keys that several kinds of maps share.

/// Key of a map.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name of the key.
    pub name: &'static str,
    /// Form of the value, or `None` if the key is reserved and not supported yet.
    pub shape: Option<Shape>,
    /// Description in one line.
    pub doc: &'static str,
}

/// Form of a value, in the detail needed for the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text; a plain number is accepted as text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A positive integer.
    Count,
    /// A non-negative integer.
    Whole,
    /// Any number.
    Number,
    /// A number with a byte unit: `10KB`, `2MB`, `500B`.
    Size,
    /// A number of CSS pixels: `800px`, `-300px`.
    Pixels,
    /// A number with a time unit: `90s`, `1m30s`, `250ms`.
    Duration,
    /// Any value.
    Any,
    /// One word of a list.
    Words(&'static [&'static str]),
    /// A named definition, such as `target`, `matcher` or `steps`.
    Ref(&'static str),
    /// A list.
    List(&'static Shape),
    /// A single value or a list.
    OneOrMany(&'static Shape),
    /// A map with arbitrary keys.
    Map(&'static Shape),
    /// Any one of these forms.
    Either(&'static [Shape]),
    /// A map with the keys of these tables.
    Keys(&'static [&'static [Key]]),
}

/// Action of a step, or kind of a check.
#[derive(Debug, Clone, Copy)]
pub struct ActionSpec {
    /// Key of the action and form of its value.
    pub key: Key,
    /// Sibling keys of the action.
    pub sibling_keys: &'static [Key],
}

pub(super) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape: Some(shape), doc }
}

pub(super) const MATCHER: Shape = Shape::Ref("matcher");

/// HTTP methods.
pub const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Keys of `trust`.
pub const TRUST: &[Key] = &[
    key("ca", Shape::Text, "PEM file with additional root certificates, relative to this file"),
    key("cert", Shape::Text, "PEM file with the client certificate and its chain"),
    key("key", Shape::Text, "PEM file with the private key"),
    key("insecure", Shape::Bool, "true: accepts any certificate"),
];

/// Key for the maximum duration of a check.
pub(super) const FASTER_THAN: Key = key("faster_than", Shape::Duration, "maximum duration of the check");
