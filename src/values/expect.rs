//! Evaluates matchers on values.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Values;
use super::number::Decimal;
use super::text::{look_alike, without_mark};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Matcher, Pattern, Schema, Value};

pub use crate::secret::cut;

/// Maximum length of a reported schema violation, in characters.
const SHOWN: usize = 200;

/// Actual value that a matcher is applied to.
#[derive(Debug, Clone, PartialEq)]
pub enum Actual {
    /// There is no value.
    Nothing,
    /// One value. A text stands for a number as well, because elements and headers contain only text.
    One(Json),
    /// One value with a type, from JSON or a script. A text is not a number.
    Typed(Json),
    /// Several values, such as those found by a JSONPath.
    Many(Vec<Json>),
}

impl Actual {
    /// Creates a text value.
    pub fn text(text: impl Into<String>) -> Self {
        Self::One(Json::String(text.into()))
    }

    /// Formats the value for users, in full: it is truncated only after masking.
    pub fn show(&self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::One(value) | Self::Typed(value) => value.to_string(),
            Self::Many(values) => Json::Array(values.clone()).to_string(),
        }
    }
}

/// A matcher with resolved names.
#[derive(Debug, Clone)]
pub enum ResolvedMatcher {
    /// Equals this value.
    Equals(Json),
    /// Contains this, as part of a text or element of a list.
    Contains(String),
    /// Starts with this text.
    StartsWith(String),
    /// Ends with this text.
    EndsWith(String),
    /// Contains a match of a regular expression.
    Matches(Arc<regex::Regex>),
    /// Is a number less than this.
    LessThan(Decimal),
    /// Is a number greater than this.
    GreaterThan(Decimal),
    /// Is a number in this inclusive range.
    Between(Box<(Decimal, Decimal)>),
    /// Has a number of elements that matches.
    Count(Box<ResolvedMatcher>),
    /// Exists, or does not exist.
    Exists(bool),
    /// Equals one of these values.
    OneOf(Vec<Json>),
    /// Does not match.
    Not(Box<ResolvedMatcher>),
    /// Conforms to a JSON Schema.
    Schema(Arc<jsonschema::Validator>),
}

impl ResolvedMatcher {
    /// Resolves the names in a matcher.
    pub fn new(matcher: &Matcher, values: &Values) -> Result<Self, Failure> {
        let number = |value: &Value| {
            let value = values.fill_value(value)?;
            number(&value).ok_or_else(|| Failure::new(Reason::Configuration, format!("{value} is not a number")))
        };
        Ok(match matcher {
            Matcher::Equals(value) => Self::Equals(values.fill_value(value)?),
            Matcher::Contains(text) => Self::Contains(values.fill(text)?),
            Matcher::StartsWith(text) => Self::StartsWith(values.fill(text)?),
            Matcher::EndsWith(text) => Self::EndsWith(values.fill(text)?),
            Matcher::Matches(pattern) => Self::Matches(pattern_of(pattern, values)?),
            Matcher::LessThan(value) => Self::LessThan(number(value)?),
            Matcher::GreaterThan(value) => Self::GreaterThan(number(value)?),
            Matcher::Between(low, high) => Self::Between(Box::new((number(low)?, number(high)?))),
            Matcher::Count(inner) => Self::Count(Box::new(Self::new(inner, values)?)),
            Matcher::Exists(exists) => Self::Exists(*exists),
            Matcher::OneOf(items) => {
                Self::OneOf(items.iter().map(|item| values.fill_value(item)).collect::<Result<_, _>>()?)
            }
            Matcher::Not(inner) => Self::Not(Box::new(Self::new(inner, values)?)),
            Matcher::Schema(schema) => Self::Schema(validator(schema, values)?),
        })
    }

    /// Returns whether a value matches.
    pub fn holds(&self, seen: &Actual) -> bool {
        match self {
            Self::Exists(exists) => (*seen != Actual::Nothing) == *exists,
            Self::Not(inner) => !inner.holds(seen),
            Self::Count(inner) => match seen {
                Actual::Nothing => inner.holds(&Actual::One(0.into())),
                Actual::One(Json::Array(items)) | Actual::Typed(Json::Array(items)) | Actual::Many(items) => {
                    inner.holds(&Actual::One(items.len().into()))
                }
                Actual::One(Json::Object(entries)) | Actual::Typed(Json::Object(entries)) => {
                    inner.holds(&Actual::One(entries.len().into()))
                }
                Actual::One(_) | Actual::Typed(_) => inner.holds(&Actual::One(1.into())),
            },
            _ => match seen {
                Actual::Nothing => false,
                Actual::Typed(Json::String(_)) if self.compares_numbers() => false,
                Actual::One(value) | Actual::Typed(value) => self.holds_for(value),
                Actual::Many(values) => self.holds_for(&Json::Array(values.clone())),
            },
        }
    }

    fn compares_numbers(&self) -> bool {
        matches!(self, Self::LessThan(_) | Self::GreaterThan(_) | Self::Between(_))
    }

    fn holds_for(&self, value: &Json) -> bool {
        let text = value.as_str();
        match self {
            Self::Equals(expected) => same(expected, value),
            Self::OneOf(expected) => expected.iter().any(|expected| same(expected, value)),
            Self::Contains(part) => match value {
                Json::Array(items) => items.iter().any(|item| item.as_str() == Some(part)),
                _ => text.is_some_and(|text| text.contains(part.as_str())),
            },
            Self::StartsWith(part) => text.is_some_and(|text| text.starts_with(part.as_str())),
            Self::EndsWith(part) => text.is_some_and(|text| text.ends_with(part.as_str())),
            Self::Matches(pattern) => text.is_some_and(|text| pattern.is_match(text)),
            Self::LessThan(limit) => number(value).is_some_and(|n| n < *limit),
            Self::GreaterThan(limit) => number(value).is_some_and(|n| n > *limit),
            Self::Between(ends) => number(value).is_some_and(|n| n >= ends.0 && n <= ends.1),
            Self::Schema(schema) => is_countable(value) && schema.is_valid(value),
            Self::Count(_) | Self::Exists(_) | Self::Not(_) => unreachable!("handled by `holds`"),
        }
    }

    /// Formats the expectation for users.
    pub fn show(&self) -> String {
        match self {
            Self::Equals(value) => value.to_string(),
            Self::Contains(text) => format!("contains {}", Json::from(text.as_str())),
            Self::StartsWith(text) => format!("starts with {}", Json::from(text.as_str())),
            Self::EndsWith(text) => format!("ends with {}", Json::from(text.as_str())),
            Self::Matches(pattern) => format!("matches /{pattern}/"),
            Self::LessThan(n) => format!("less than {n}"),
            Self::GreaterThan(n) => format!("greater than {n}"),
            Self::Between(ends) => format!("between {} and {}", ends.0, ends.1),
            Self::Count(inner) => format!("count {}", inner.show()),
            Self::Exists(true) => "exists".into(),
            Self::Exists(false) => "does not exist".into(),
            Self::OneOf(items) => format!("one of {}", Json::from(items.clone())),
            Self::Not(inner) => format!("not {}", inner.show()),
            Self::Schema(_) => "fits the JSON Schema".into(),
        }
    }

    /// Describes a value whose type cannot match.
    fn type_mismatch(&self, seen: &Actual) -> Option<String> {
        let (Actual::One(value) | Actual::Typed(value)) = seen else { return None };
        let is_text = value.is_string();
        let found = match value {
            Json::String(_) => "text",
            Json::Number(_) => "a number",
            Json::Bool(_) => "true or false",
            Json::Null => "null",
            Json::Array(_) | Json::Object(_) => return None,
        };
        match self {
            Self::Not(inner) => inner.type_mismatch(seen),
            Self::Matches(_) | Self::StartsWith(_) | Self::EndsWith(_) | Self::Contains(_) if !is_text => {
                Some(format!("it is {found}, and only text can match"))
            }
            _ if self.compares_numbers() && matches!(seen, Actual::Typed(_)) && !value.is_number() => {
                Some(format!("it is {found}, not a number"))
            }
            _ => None,
        }
    }

    /// Describes a text that has the expected appearance but different characters.
    fn look_alike(&self, seen: &Actual) -> Option<String> {
        let wanted: Vec<&str> = match self {
            Self::Equals(Json::String(text)) | Self::Contains(text) | Self::StartsWith(text) | Self::EndsWith(text) => {
                vec![text]
            }
            Self::OneOf(items) => items.iter().filter_map(Json::as_str).collect(),
            _ => return None,
        };
        let texts: Vec<&str> = match seen {
            Actual::One(Json::String(text)) | Actual::Typed(Json::String(text)) => vec![text],
            Actual::One(Json::Array(values)) | Actual::Typed(Json::Array(values)) | Actual::Many(values) => {
                values.iter().filter_map(Json::as_str).collect()
            }
            _ => return None,
        };
        let mut pairs = wanted.iter().flat_map(|wanted| texts.iter().map(move |text| (*wanted, *text)));
        let (wanted, seen) = pairs.find_map(|(wanted, text)| look_alike(wanted, text))?;
        Some(format!("{} only looks like {}", cut(&seen, SHOWN), cut(&wanted, SHOWN)))
    }

    /// Describes a mismatch that is not obvious from both values.
    pub fn mismatch(&self, seen: &Actual) -> Option<String> {
        let (whole, schema) = match self {
            Self::Schema(schema) => (None::<Json>, schema),
            _ => return self.type_mismatch(seen).or_else(|| self.look_alike(seen)),
        };
        let mut whole = whole;
        let value = match seen {
            Actual::Nothing => return None,
            Actual::One(value) | Actual::Typed(value) => value,
            Actual::Many(values) => whole.insert(Json::Array(values.clone())),
        };
        if !is_countable(value) {
            return Some("a number in it is too large to be compared".to_owned());
        }
        let error = schema.validate(value).err()?;
        let place = error.instance_path().to_string();
        // The error contains the value, which may be the whole body.
        let told = cut(&error.to_string(), SHOWN);
        Some(if place.is_empty() { told } else { format!("at {place}: {told}") })
    }
}

/// Compiles a JSON Schema. A file is read again each time, because it may have changed. References to other documents
/// are not fetched.
fn validator(schema: &Schema, values: &Values) -> Result<Arc<jsonschema::Validator>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(Reason::Configuration, format!("`schema`: {why}"));
    let compiled = match schema {
        Schema::Inline(schema) => return Ok(Arc::clone(schema.validator())),
        Schema::File(file) => {
            let text = values.file(file).map_err(|failure| failure.at(file.span))?;
            let schema = serde_json::from_slice(without_mark(&text))
                .map_err(|error| wrong(&format_args!("the file is not JSON: {error}")).at(file.span))?;
            jsonschema::validator_for(&schema)
        }
    };
    compiled.map(Arc::new).map_err(|error| wrong(&error))
}

/// Compiles a regular expression of limited size.
pub fn pattern_of(pattern: &Pattern, values: &Values) -> Result<Arc<regex::Regex>, Failure> {
    if let Some(compiled) = pattern.compiled() {
        return Ok(Arc::clone(compiled));
    }
    let text = values.fill(pattern.text())?;
    regex::Regex::new(&text)
        .map(Arc::new)
        .map_err(|error| Failure::new(Reason::Configuration, format!("`{text}` is not a regular expression: {error}")))
}

/// Compares JSON values: numbers by value (`1` equals `1.0`), everything else strictly by type.
fn same(expected: &Json, seen: &Json) -> bool {
    match (expected, seen) {
        (Json::Number(a), Json::Number(b)) => a == b || Decimal::parse(a.as_str()) == Decimal::parse(b.as_str()),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Parses a number or a numeric text, because elements and headers contain only text.
fn number(value: &Json) -> Option<Decimal> {
    match value {
        Json::Number(n) => Decimal::parse(n.as_str()),
        Json::String(text) => Decimal::parse(text),
        _ => None,
    }
}

/// Returns whether all numbers in a value can be validated with a schema.
fn is_countable(value: &Json) -> bool {
    match value {
        Json::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Json::Array(items) => items.iter().all(is_countable),
        Json::Object(entries) => entries.values().all(is_countable),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn matchers_hold_for_what_they_say_and_for_nothing_else() {
        let check = |filled: &ResolvedMatcher, good: &[Actual], bad: &[Actual]| {
            for seen in good {
                assert!(filled.holds(seen), "{} should hold for {}", filled.show(), seen.show());
            }
            for seen in bad {
                assert!(!filled.holds(seen), "{} should not hold for {}", filled.show(), seen.show());
            }
        };
        let one = |value: Json| Actual::One(value);
        check(
            &ResolvedMatcher::Equals(json!(1)),
            &[one(json!(1)), one(json!(1.0))],
            &[one(json!("1")), one(json!(2)), Actual::Nothing],
        );
        let big = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        check(
            &ResolvedMatcher::Equals(big("9007199254740992")),
            &[one(big("9007199254740992.0"))],
            &[one(big("9007199254740993"))],
        );
        check(
            &ResolvedMatcher::LessThan(Decimal::parse("18446744073709551615").unwrap()),
            &[one(big("18446744073709551614"))],
            &[one(big("18446744073709551615")), one(big("1e400"))],
        );
        check(
            &ResolvedMatcher::Equals(json!({"a": [1, "x"]})),
            &[one(json!({"a": [1.0, "x"]}))],
            &[one(json!({"a": [1]})), one(json!({}))],
        );
        check(
            &ResolvedMatcher::Contains("b".into()),
            &[one(json!("abc")), one(json!(["b"]))],
            &[one(json!("ac")), one(json!(["ab"]))],
        );
        check(
            &ResolvedMatcher::LessThan(Decimal::parse("5").unwrap()),
            &[one(json!(4)), one(json!(" 4.5 "))],
            &[one(json!(5)), one(json!("x")), one(json!(null)), Actual::Typed(json!("4"))],
        );
        check(&ResolvedMatcher::LessThan(Decimal::parse("5").unwrap()), &[Actual::Typed(json!(4))], &[]);
        check(
            &ResolvedMatcher::Between(Box::new((Decimal::parse("1").unwrap(), Decimal::parse("2").unwrap()))),
            &[one(json!(1)), one(json!(2))],
            &[one(json!(2.1))],
        );
        check(
            &ResolvedMatcher::Count(Box::new(ResolvedMatcher::Equals(json!(2)))),
            &[one(json!([1, 2])), Actual::Many(vec![json!(1), json!(2)])],
            &[Actual::Nothing, one(json!([1]))],
        );
        check(&ResolvedMatcher::Exists(false), &[Actual::Nothing], &[one(json!(null)), one(json!(0))]);
        check(
            &ResolvedMatcher::Not(Box::new(ResolvedMatcher::Equals(json!("a")))),
            &[one(json!("b")), Actual::Nothing],
            &[one(json!("a"))],
        );
        check(&ResolvedMatcher::OneOf(vec![json!(200), json!(204)]), &[one(json!(204))], &[one(json!(500))]);
        check(
            &ResolvedMatcher::Matches(Arc::new(regex::Regex::new("^a+$").unwrap())),
            &[one(json!("aa"))],
            &[one(json!("ab")), one(json!(5))],
        );
    }

    #[test]
    fn a_type_that_cannot_match_is_named() {
        let pattern = || ResolvedMatcher::Matches(Arc::new(regex::Regex::new("^1").unwrap()));
        let less = || ResolvedMatcher::LessThan(Decimal::parse("5").unwrap());
        for (matcher, seen, expected) in [
            (pattern(), Actual::Typed(json!(12)), Some("it is a number, and only text can match")),
            (
                ResolvedMatcher::Contains("a".into()),
                Actual::One(json!(true)),
                Some("it is true or false, and only text can match"),
            ),
            (less(), Actual::Typed(json!("4")), Some("it is text, not a number")),
            (less(), Actual::One(json!("9")), None),
            (less(), Actual::Typed(json!(9)), None),
            (pattern(), Actual::text("x"), None),
        ] {
            assert_eq!(matcher.mismatch(&seen).as_deref(), expected, "{} {}", matcher.show(), seen.show());
        }
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(cut("äbc", 2), "äb…");
        assert_eq!(cut("äb", 2), "äb");
    }
}
