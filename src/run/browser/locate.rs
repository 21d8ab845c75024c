//! Targets: which elements are meant, found in the page by one script, and what is said of them to people.
//!
//! The script compares names with a list of accepted ones. For a target whose name is the whole text that list is known
//! beforehand; for any other matcher the script is first asked which names there are, and the matcher chooses here, so
//! that a regular expression means the same everywhere.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::ElementId;
use super::page::Page;
use super::verdict::Trouble;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::Values;
use crate::run::expect::{Filled, Seen, cut};
use crate::scenario::{How, Matcher, Target};

const SCRIPT: &str = include_str!("locate.js");

/// What the page is asked for: a target with its names filled in, and what to do with the element.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// As the script takes it.
    json: Json,
    /// What chooses among names where the script cannot.
    names: Option<Filled>,
    /// The target as people read it.
    pub(super) shown: String,
}

impl Query {
    /// The page's URL and title.
    pub(super) fn page() -> Self {
        Self { json: json!({"kind": "page"}), names: None, shown: "the page".into() }
    }

    /// The elements of a target.
    pub(super) fn new(target: &Target, values: &Values) -> Result<Self, Failure> {
        Self::of(&target.how, values).map_err(|failure| failure.at(target.span))
    }

    fn of(how: &How, values: &Values) -> Result<Self, Failure> {
        let (kind, matcher) = match how {
            How::Role { role, name } => {
                let mut query = match name {
                    Some(matcher) => Self::named("role", role, matcher, values)?,
                    None => Self { json: json!({"kind": "role"}), names: None, shown: role.clone() },
                };
                query.json["role"] = Json::from(role.as_str());
                return Ok(query);
            }
            How::Id(text) => return Ok(Self::by("id", &values.fill(text)?)),
            How::Css(text) => return Ok(Self::by("css", &values.fill(text)?)),
            How::Xpath(text) => return Ok(Self::by("xpath", &values.fill(text)?)),
            How::AnyOf(_) => return Err(Failure::new(Reason::Configuration, "`any_of` is not supported yet")),
            How::Label(matcher) => ("label", matcher),
            How::Placeholder(matcher) => ("placeholder", matcher),
            How::Text(matcher) => ("text", matcher),
            How::Alt(matcher) => ("alt", matcher),
            How::Title(matcher) => ("title", matcher),
            How::TestId(matcher) => ("testid", matcher),
        };
        Self::named(kind, kind, matcher, values)
    }

    fn by(kind: &str, value: &str) -> Self {
        Self { json: json!({"kind": kind, "value": value}), names: None, shown: format!("{kind} `{value}`") }
    }

    fn named(kind: &str, word: &str, matcher: &Matcher, values: &Values) -> Result<Self, Failure> {
        let filled = Filled::new(matcher, values)?;
        let shown = match &filled {
            Filled::Equals(_) => format!("{word} {}", filled.show()),
            other => format!("{word} that {}", other.show()),
        };
        Ok(match &filled {
            Filled::Equals(Json::String(text)) => {
                Self { json: json!({"kind": kind, "accept": [text]}), names: None, shown }
            }
            _ => Self { json: json!({"kind": kind}), names: Some(filled), shown },
        })
    }

    /// Also asks for something: `then` and what belongs to it, or `facts`.
    pub(super) fn with(mut self, more: Json) -> Self {
        if let (Json::Object(json), Json::Object(more)) = (&mut self.json, more) {
            json.extend(more);
        }
        self
    }
}

/// What the page said of one query.
#[derive(Debug, Clone)]
pub(super) struct Answer(Json);

impl Answer {
    /// How many elements match and can be seen.
    pub(super) fn visible(&self) -> usize {
        self.0["visible"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// The element, ready to be acted on.
    pub(super) fn element(&self) -> Option<ElementId> {
        ElementId::read(&self.0["element"])
    }

    /// Whether the script has done it already.
    pub(super) fn done(&self) -> bool {
        self.0["done"] == true
    }

    /// Whether the field is empty.
    pub(super) fn empty(&self) -> bool {
        self.0["empty"] == true
    }

    /// What was asked for under `facts`, where there is one element.
    pub(super) fn facts(&self) -> Option<&Json> {
        self.0.get("facts")
    }

    /// A part of the answer to [`Query::page`].
    pub(super) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or("")
    }

    /// What waiting cannot mend: a selector that is none, text for a button.
    pub(super) fn wrong(&self) -> Option<Failure> {
        self.0["wrong"].as_str().map(|text| Failure::new(Reason::Configuration, text))
    }

    /// The matches, a few of them, as people read them.
    pub(super) fn list(&self) -> String {
        let shown: Vec<&str> = self.0["shown"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let more = self.visible().saturating_sub(shown.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        format!("{}{more}", shown.join(", "))
    }

    /// Why the element is not there or not ready, at the end of the patience.
    pub(super) fn refusal(&self, shown: &str) -> Failure {
        let visible = self.visible();
        if visible > 1 {
            return Failure::new(Reason::Ambiguous, format!("{visible} elements match {shown}"))
                .compared("one element", self.list());
        }
        if visible == 1 {
            let why = self.0["why"].as_str().unwrap_or("it did not get ready");
            return Failure::new(Reason::Timeout, format!("{shown} is there, but {why}"))
                .compared("an element that can be acted on", format!("{}: {why}", self.list()));
        }
        let near: Vec<&str> = self.0["near"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        if let Some(hidden) = self.0["hidden"].as_str() {
            return Failure::new(Reason::NotFound, format!("{shown} is not visible"))
                .compared("a visible element", format!("{hidden}, which is not visible"));
        }
        let near = if near.is_empty() { "no such element".into() } else { cut(&near.join("; "), 600) };
        Failure::new(Reason::NotFound, format!("no element matches {shown}")).compared(shown, near)
    }
}

impl Page {
    /// Asks the page, once.
    pub(super) async fn look(&mut self, queries: &[Query], deadline: Instant) -> Result<Vec<Answer>, Trouble> {
        let mut asked: Vec<Json> = queries.iter().map(|query| query.json.clone()).collect();
        if queries.iter().any(|query| query.names.is_some()) {
            let questions: Vec<Json> = queries
                .iter()
                .filter(|query| query.names.is_some())
                .map(|query| {
                    let mut question = query.json.clone();
                    question["ask"] = true.into();
                    question
                })
                .collect();
            let mut answers = self.run(&questions, deadline).await?.into_iter();
            for (query, asked) in queries.iter().zip(&mut asked) {
                let Some(names) = &query.names else { continue };
                let known = answers.next().map_or(Json::Null, |answer| answer.0);
                let accepted: Vec<Json> = known["names"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|name| names.holds(&Seen::One((*name).clone())))
                    .cloned()
                    .collect();
                asked["accept"] = accepted.into();
            }
        }
        self.run(&asked, deadline).await
    }

    async fn run(&mut self, queries: &[Json], deadline: Instant) -> Result<Vec<Answer>, Trouble> {
        match self.script(SCRIPT, &json!({"queries": queries}), deadline).await? {
            Json::Array(answers) if answers.len() == queries.len() => Ok(answers.into_iter().map(Answer).collect()),
            // A page may replace what the script stands on; a navigation may take its answer away.
            other => Err(Trouble::Again(format!("the page answered {}", cut(&other.to_string(), 100)))),
        }
    }
}
