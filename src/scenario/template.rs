//! `${name}` in strings: parsed once when a file is loaded, resolved at run time.

use std::fmt;

use serde_json::Value as Json;

/// Name that `${…}` may reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `${env.NAME}`: environment variable of the agent, as plain text.
    Env(String),
    /// `${secret.n}`: secret declared under `secrets`.
    Secret(String),
    /// `${totp.n}`: one-time password declared under `totp`.
    Totp(String),
    /// `${vars.n}`: constant of the file.
    Var(String),
    /// `${run.id}`, `${run.started_at}`, `${run.location}`.
    Run(RunField),
    /// `${n}`: value saved by an earlier step.
    SavedValue(String),
}

/// Property of the present run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunField {
    /// Id of the run, a UUID.
    Id,
    /// Start of the run in RFC 3339 format, in UTC.
    StartedAt,
    /// Location of the agent.
    Location,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env.{name}"),
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::Totp(name) => write!(f, "totp.{name}"),
            Self::Var(name) => write!(f, "vars.{name}"),
            Self::Run(RunField::Id) => f.write_str("run.id"),
            Self::Run(RunField::StartedAt) => f.write_str("run.started_at"),
            Self::Run(RunField::Location) => f.write_str("run.location"),
            Self::SavedValue(name) => f.write_str(name),
        }
    }
}

/// String that may contain `${…}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    raw: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(Reference),
}

/// Error in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTemplate {
    /// Byte range of the error in the raw text.
    pub range: std::ops::Range<usize>,
    /// Description of the error.
    pub message: String,
    /// Suggested correction, if there is one.
    pub help: Option<String>,
}

impl Template {
    /// Parses `${…}`; `$${` is a literal `${`.
    pub fn parse(raw: &str) -> Result<Self, BadTemplate> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut at = 0;
        while let Some(found) = raw[at..].find("${").map(|offset| at + offset) {
            if raw[..found].ends_with('$') && found > at {
                text.push_str(&raw[at..found - 1]);
                text.push_str("${");
                at = found + 2;
                continue;
            }
            text.push_str(&raw[at..found]);
            let Some(length) = raw[found..].find('}') else {
                return Err(BadTemplate {
                    range: found..raw.len(),
                    message: "`${` without `}`".into(),
                    help: Some("write `$${` for a literal `${`".into()),
                });
            };
            let end = found + length + 1;
            let reference = reference(raw[found + 2..end - 1].trim()).map_err(|(message, help)| BadTemplate {
                range: found..end,
                message,
                help,
            })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Name(reference));
            at = end;
        }
        text.push_str(&raw[at..]);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { raw: raw.to_owned(), pieces })
    }

    /// Creates a template without references from a literal text.
    pub fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { raw: text.clone(), pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] } }
    }

    /// Returns the text as written, from which names of steps are generated.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Returns every reference of the template.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Name(reference) => Some(reference),
            Piece::Text(_) => None,
        })
    }

    /// Returns the text if it contains no references.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Resolves the references of a URL. `encode` converts a value; it gets the URL up to the value as well.
    pub fn fill_url<E>(
        &self,
        mut value: impl FnMut(&Reference) -> Result<Json, E>,
        encode: impl Fn(&str, String) -> String,
    ) -> Result<String, E> {
        let mut out = String::with_capacity(self.raw.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(reference) => {
                    let text = match value(reference)? {
                        Json::String(text) => text,
                        other => other.to_string(),
                    };
                    let text = encode(&out, text);
                    out.push_str(&text);
                }
            }
        }
        Ok(out)
    }

    /// Resolves the references. A value that is not a string is formatted as JSON.
    pub fn fill<E>(&self, mut value: impl FnMut(&Reference) -> Result<Json, E>) -> Result<String, E> {
        let mut out = String::with_capacity(self.raw.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(reference) => match value(reference)? {
                    Json::String(text) => out.push_str(&text),
                    other => out.push_str(&other.to_string()),
                },
            }
        }
        Ok(out)
    }

    /// Resolves the references like [`Template::fill`], except that a template consisting of a single `${x}` keeps the
    /// JSON type of its value.
    pub fn fill_json<E>(&self, mut value: impl FnMut(&Reference) -> Result<Json, E>) -> Result<Json, E> {
        match self.pieces.as_slice() {
            [Piece::Name(reference)] => value(reference),
            _ => self.fill(value).map(Json::String),
        }
    }
}

fn reference(name: &str) -> Result<Reference, (String, Option<String>)> {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match name.split_once('.') {
        Some(("env", n)) if plain(n) => Ok(Reference::Env(n.into())),
        Some(("secret", n)) if plain(n) => Ok(Reference::Secret(n.into())),
        Some(("totp", n)) if plain(n) => Ok(Reference::Totp(n.into())),
        Some(("vars", n)) if plain(n) => Ok(Reference::Var(n.into())),
        Some(("run", "id")) => Ok(Reference::Run(RunField::Id)),
        Some(("run", "started_at")) => Ok(Reference::Run(RunField::StartedAt)),
        Some(("run", "location")) => Ok(Reference::Run(RunField::Location)),
        Some(("run", n)) => {
            let help = crate::diagnostic::nearest(n, ["id", "started_at", "location"])
                .map(|near| format!("did you mean `run.{near}`?"));
            Err((
                format!("unknown name `run.{n}`"),
                help.or_else(|| Some("known are run.id, run.started_at, run.location".into())),
            ))
        }
        Some(("matrix", _)) => Err(("`${matrix.…}` is not supported yet".into(), None)),
        None if plain(name) => Ok(Reference::SavedValue(name.into())),
        Some((space, n)) => {
            let help = crate::diagnostic::nearest(space, ["env", "secret", "totp", "vars", "run"])
                .map(|near| format!("did you mean `{near}.{n}`?"));
            Err((
                format!("unknown name `{name}`"),
                help.or_else(|| Some("known are env., secret., totp., vars., run., or a name saved earlier".into())),
            ))
        }
        None => Err((format!("`{name}` is not a domain name"), Some("write `$${` for a literal `${`".into()))),
    }
}

/// Value of any JSON type whose strings are templates: a JSON body, or the operand of a matcher.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string that may contain references.
    Text(Template),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order of the file.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Resolves the references.
    pub fn fill<E>(&self, value: &mut dyn FnMut(&Reference) -> Result<Json, E>) -> Result<Json, E> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Number(n) => Json::Number(n.clone()),
            Self::Text(template) => template.fill_json(value)?,
            Self::List(items) => Json::Array(items.iter().map(|item| item.fill(value)).collect::<Result<_, E>>()?),
            Self::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, item) in entries {
                    map.insert(key.clone(), item.fill(value)?);
                }
                Json::Object(map)
            }
        })
    }

    /// Calls `visit` with every reference of the value.
    pub fn visit_references(&self, visit: &mut dyn FnMut(&Reference)) {
        match self {
            Self::Text(template) => template.references().for_each(visit),
            Self::List(items) => items.iter().for_each(|item| item.visit_references(visit)),
            Self::Map(entries) => entries.iter().for_each(|(_, item)| item.visit_references(visit)),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(raw: &str) -> String {
        Template::parse(raw)
            .expect("parses")
            .fill(|name| Ok::<_, ()>(Json::String(format!("<{name}>"))))
            .expect("fills")
    }

    #[test]
    fn names_are_filled_in() {
        assert_eq!(filled("a ${env.X} b ${order_id}"), "a <env.X> b <order_id>");
        assert_eq!(filled("$${literal} ${run.id}"), "${literal} <run.id>");
        assert_eq!(filled("plain $5"), "plain $5");
    }

    #[test]
    fn one_name_alone_keeps_its_type() {
        let template = Template::parse("${n}").expect("parses");
        assert_eq!(template.fill_json(|_| Ok::<_, ()>(Json::from(7))), Ok(Json::from(7)));
    }

    #[test]
    fn mistakes_are_located() {
        let bad = Template::parse("x ${evn.X}").expect_err("unknown");
        assert_eq!((bad.range, bad.help.as_deref()), (2..10, Some("did you mean `env.X`?")));
        assert!(Template::parse("${open").is_err());
    }
}
