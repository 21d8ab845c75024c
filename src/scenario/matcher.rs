//! Matchers: conditions on a value.

use std::fmt;
use std::sync::Arc;

use super::template::{Template, Value};
use crate::diagnostic::Spanned;

/// Condition on a value, written as a map with one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// The value is equal; a scalar is short for this matcher.
    Equals(Value),
    /// The text contains this.
    Contains(Template),
    /// The text begins with this.
    StartsWith(Template),
    /// The text ends with this.
    EndsWith(Template),
    /// The regular expression matches anywhere in the text.
    Matches(Pattern),
    /// The number is less than this.
    LessThan(Value),
    /// The number is greater than this.
    GreaterThan(Value),
    /// The number is within this inclusive range.
    Between(Value, Value),
    /// The number of elements matches.
    Count(Box<Matcher>),
    /// The value exists (`true`) or does not exist (`false`).
    Exists(bool),
    /// The value is one of these.
    OneOf(Vec<Value>),
    /// The inner matcher does not match.
    Not(Box<Matcher>),
    /// The value is valid according to a JSON Schema.
    Schema(Schema),
}

/// Regular expression, compiled once unless it depends on values of the run.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Template,
    /// Compiled expression, or `None` if the text contains references.
    compiled: Option<Arc<regex::Regex>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles the expression if its text is literal.
    pub fn new(text: Template) -> Result<Self, regex::Error> {
        let compiled = text.as_literal().map(regex::Regex::new).transpose()?.map(Arc::new);
        Ok(Self { text, compiled })
    }

    /// Returns the text as written in the file.
    pub fn text(&self) -> &Template {
        &self.text
    }

    /// Returns the compiled expression, or `None` if the text contains references.
    pub fn compiled(&self) -> Option<&Arc<regex::Regex>> {
        self.compiled.as_ref()
    }
}

/// Inline JSON Schema with its validator.
#[derive(Clone)]
pub struct InlineSchema {
    text: serde_json::Value,
    validator: Arc<jsonschema::Validator>,
}

impl PartialEq for InlineSchema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for InlineSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InlineSchema({})", self.text)
    }
}

impl InlineSchema {
    /// Compiles a schema. The error describes the problem in the schema.
    pub fn new(text: serde_json::Value) -> Result<Self, String> {
        let validator = jsonschema::validator_for(&text).map_err(|error| error.to_string())?;
        Ok(Self { text, validator: Arc::new(validator) })
    }

    /// Returns the compiled validator.
    pub fn validator(&self) -> &Arc<jsonschema::Validator> {
        &self.validator
    }
}

/// A JSON Schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// Inline schema; `${…}` is not resolved.
    Inline(InlineSchema),
    /// JSON file, relative to the scenario file.
    File(Spanned<Template>),
}

impl Matcher {
    /// Creates a matcher that compares with the entire text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Equals(Value::Text(Template::literal(text)))
    }

    /// Calls `visit` with every reference in the values and templates of the matcher.
    pub fn visit_references(&self, visit: &mut dyn FnMut(&super::template::Reference)) {
        match self {
            Self::Equals(value) | Self::LessThan(value) | Self::GreaterThan(value) => value.visit_references(visit),
            Self::Contains(t) | Self::StartsWith(t) | Self::EndsWith(t) => t.references().for_each(visit),
            Self::Matches(pattern) => pattern.text().references().for_each(visit),
            Self::Between(low, high) => {
                low.visit_references(visit);
                high.visit_references(visit);
            }
            Self::OneOf(values) => values.iter().for_each(|value| value.visit_references(visit)),
            Self::Count(inner) | Self::Not(inner) => inner.visit_references(visit),
            Self::Schema(Schema::File(file)) => file.references().for_each(visit),
            Self::Schema(Schema::Inline(_)) | Self::Exists(_) => {}
        }
    }

    /// Returns the file that the matcher references.
    pub fn file(&self) -> Option<&Spanned<Template>> {
        match self {
            Self::Schema(Schema::File(file)) => Some(file),
            Self::Count(inner) | Self::Not(inner) => inner.file(),
            _ => None,
        }
    }
}
