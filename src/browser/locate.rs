//! Locators: one script finds the elements in the page, and this module describes them for users.
//!
//! The script compares names with a text or a part of one. For any other matcher, the names are first read from the
//! page and matched here, so that a regular expression means the same everywhere.

mod search;

use serde_json::{Value as Json, json};

use super::command::ElementId;
use super::describe::ElementDescriber;
use crate::diagnostic::Span;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Locator, LocatorStrategy, Matcher};
use crate::secret::Masker;
use crate::values::Values;
use crate::values::expect::{ResolvedMatcher, cut};

/// Runs the scripts in the page; see `locate.js`.
pub(super) const SCRIPT: &str = "return wachta.locate(arguments[0]);";

/// A query to the page: a locator with resolved names, and an action for the element.
#[derive(Debug, Clone)]
pub(super) struct LocatorQuery {
    /// Query in the format of the script.
    json: Json,
    /// Matchers for names that the script cannot evaluate; the script refers to them by position.
    names: Vec<ResolvedMatcher>,
    /// Descriptions of the alternatives of each `any_of`.
    alternatives: Vec<Vec<String>>,
    /// Data that is not found by the script.
    elsewhere: Option<Elsewhere>,
    /// Description of the locator for users.
    pub(super) shown: String,
    /// Source span of the locator.
    span: Option<Span>,
    masker: Masker,
}

/// Data of a page that is read in other ways.
#[derive(Debug, Clone)]
enum Elsewhere {
    /// A cookie, by name.
    Cookie(String),
    /// Result of a function body.
    Script(String),
}

/// Converts a locator to the format of the script, and collects the parts that are evaluated here.
struct Reading<'a> {
    values: &'a Values,
    names: Vec<ResolvedMatcher>,
    alternatives: Vec<Vec<String>>,
}

impl Reading<'_> {
    fn target(&mut self, target: &Locator) -> Result<(Json, String), Failure> {
        let (mut json, mut shown) = self.how(&target.how).map_err(|failure| failure.at(target.span))?;
        if let Some(outer) = &target.within {
            let (within, called) = self.target(outer)?;
            json["within"] = within;
            shown = format!("{shown} within {called}");
        }
        if let Some(nth) = target.nth {
            json["nth"] = nth.into();
            shown = format!("{shown}, nth {nth}");
        }
        Ok((json, shown))
    }

    fn how(&mut self, how: &LocatorStrategy) -> Result<(Json, String), Failure> {
        let by = |kind: &str, value: String| {
            let shown = format!("{kind} `{value}`");
            Ok((json!({"kind": kind, "value": value}), shown))
        };
        let (kind, matcher) = match how {
            LocatorStrategy::Role { role, name } => {
                let (mut json, shown) = match name {
                    Some(matcher) => self.named("role", role, matcher)?,
                    None => (json!({"kind": "role"}), role.clone()),
                };
                json["role"] = Json::from(role.as_str());
                return Ok((json, shown));
            }
            LocatorStrategy::Id(text) => return by("id", self.values.fill(text)?),
            LocatorStrategy::Css(text) => return by("css", self.values.fill(text)?),
            LocatorStrategy::Xpath(text) => return by("xpath", self.values.fill(text)?),
            LocatorStrategy::AnyOf(targets) | LocatorStrategy::OneOf(targets) => {
                let mut queries = Vec::new();
                let mut shown = Vec::new();
                for target in targets {
                    let (query, called) = self.target(target)?;
                    queries.push(query);
                    shown.push(called);
                }
                if matches!(how, LocatorStrategy::OneOf(_)) {
                    return Ok((json!({"kind": "any", "any": queries}), format!("one of {}", shown.join(", "))));
                }
                let together = format!("any of {}", shown.join(", "));
                self.alternatives.push(shown);
                return Ok((json!({"kind": "any", "any": queries, "id": self.alternatives.len() - 1}), together));
            }
            LocatorStrategy::Label(matcher) => ("label", matcher),
            LocatorStrategy::Placeholder(matcher) => ("placeholder", matcher),
            LocatorStrategy::Text(matcher) => ("text", matcher),
            LocatorStrategy::Alt(matcher) => ("alt", matcher),
            LocatorStrategy::Title(matcher) => ("title", matcher),
            LocatorStrategy::TestId(matcher) => ("testid", matcher),
        };
        self.named(kind, kind, matcher)
    }

    fn named(&mut self, kind: &str, word: &str, matcher: &Matcher) -> Result<(Json, String), Failure> {
        let filled = ResolvedMatcher::new(matcher, self.values)?;
        let shown = match &filled {
            ResolvedMatcher::Equals(_) => format!("{word} {}", filled.show()),
            other => format!("{word} that {}", other.show()),
        };
        Ok(match filled {
            ResolvedMatcher::Equals(Json::String(text)) => (json!({"kind": kind, "accept": [text]}), shown),
            ResolvedMatcher::Contains(text) => (json!({"kind": kind, "part": {"contains": text}}), shown),
            ResolvedMatcher::StartsWith(text) => (json!({"kind": kind, "part": {"starts": text}}), shown),
            ResolvedMatcher::EndsWith(text) => (json!({"kind": kind, "part": {"ends": text}}), shown),
            filled => {
                self.names.push(filled);
                (json!({"kind": kind, "choose": self.names.len() - 1}), shown)
            }
        })
    }
}

impl LocatorQuery {
    /// Creates a query for the page's URL and title.
    pub(super) fn page() -> Self {
        Self {
            json: json!({"kind": "page"}),
            names: Vec::new(),
            alternatives: Vec::new(),
            elsewhere: None,
            shown: "the page".into(),
            span: None,
            masker: Masker::default(),
        }
    }

    /// Creates a query for a cookie of the page.
    pub(super) fn cookie(name: &str) -> Self {
        let elsewhere = Some(Elsewhere::Cookie(name.to_owned()));
        Self { json: json!({"kind": "elsewhere"}), elsewhere, shown: format!("the cookie `{name}`"), ..Self::page() }
    }

    /// Creates a query for the result of a function body.
    pub(super) fn script(body: &str) -> Self {
        let elsewhere = Some(Elsewhere::Script(body.to_owned()));
        Self { json: json!({"kind": "elsewhere"}), elsewhere, shown: "the script".into(), ..Self::page() }
    }

    /// Creates a query for the elements of a locator.
    pub(super) fn new(target: &Locator, values: &Values) -> Result<Self, Failure> {
        let mut reading = Reading { values, names: Vec::new(), alternatives: Vec::new() };
        let (json, shown) = reading.target(target)?;
        let Reading { names, alternatives, .. } = reading;
        let masker = values.masker().clone();
        Ok(Self { json, names, alternatives, elsewhere: None, shown, span: Some(target.span), masker })
    }

    /// Adds more keys to the query: `then` with its options, or `facts`.
    pub(super) fn with(mut self, more: Json) -> Self {
        if let (Json::Object(json), Json::Object(more)) = (&mut self.json, more) {
            json.extend(more);
        }
        self
    }

    /// Returns the query in the format of the script.
    pub(super) fn json(&self) -> Json {
        self.json.clone()
    }

    /// Returns the query without its action. `None` if the query needs more than one step.
    pub(super) fn bare(&self) -> Option<Json> {
        let mut json = self.json.clone();
        if let Json::Object(entries) = &mut json {
            entries.retain(|key, _| key != "then" && key != "facts");
        }
        (self.names.is_empty() && self.elsewhere.is_none() && json["kind"] != "page").then_some(json)
    }

    /// Adds the source span of the locator to a failure.
    pub(super) fn placed(&self, failure: Failure) -> Failure {
        match self.span {
            Some(span) => failure.at(span),
            None => failure,
        }
    }

    /// Returns the failure for an element that is still missing or not ready when the time is up.
    pub(super) fn refusal(&self, answer: &LocatorResult) -> Failure {
        let (words, shown, answer) = (ElementDescriber(&self.masker), &self.shown, &answer.0);
        let visible = answer["visible"].as_u64().unwrap_or(0);
        if let Some(elements) = answer["slow"].as_u64() {
            let text = format!("the page has {elements} elements, too many to search within the timeout of the step");
            return Failure::new(Reason::Timeout, text).compared(
                shown.as_str(),
                "fewer elements: limit the search with `within`, or use `id`, `test_id` or `css`",
            );
        }
        if visible > 1 {
            return Failure::new(Reason::Ambiguous, format!("{visible} elements match {shown}"))
                .compared("one element: choose it with `within` or `nth`", self.list(&LocatorResult(answer.clone())));
        }
        let why = answer["why"].as_array().map(|_| words.sentence(&answer["why"]));
        if visible == 1 || why.is_some() {
            let why = why.unwrap_or_else(|| "it did not become ready".into());
            let seen =
                if visible == 1 { self.list(&LocatorResult(answer.clone())) } else { words.element(&answer["hidden"]) };
            return Failure::new(Reason::Timeout, format!("{shown} is there, but {why}"))
                .compared("an element that can be acted on", format!("{seen}: {why}"));
        }
        if answer["hidden"].is_object() {
            let hidden = words.element(&answer["hidden"]);
            return Failure::new(Reason::NotFound, format!("{shown} is not visible"))
                .compared("a visible element", format!("{hidden}, which is not visible"));
        }
        let near: Vec<String> =
            answer["near"].as_array().into_iter().flatten().map(|note| words.sentence(note)).collect();
        let near = if near.is_empty() { "no such element".into() } else { near.join("; ") };
        Failure::new(Reason::NotFound, format!("no element matches {shown}")).compared(shown.as_str(), near)
    }

    /// Returns the failure for an error that does not go away by waiting, such as an invalid selector or text for a
    /// button.
    pub(super) fn wrong(&self, answer: &LocatorResult) -> Option<Failure> {
        answer.0["wrong"].as_array()?;
        let text = ElementDescriber(&self.masker).sentence(&answer.0["wrong"]);
        Some(Failure::new(Reason::Configuration, text))
    }

    /// Describes the first few matches for users.
    pub(super) fn list(&self, answer: &LocatorResult) -> String {
        let shown: Vec<String> = answer.0["shown"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(at, element)| {
                let element = ElementDescriber(&self.masker).element(element);
                match &answer.0["places"][at] {
                    Json::Null => element,
                    place => format!("{element} (nth {}, {})", at + 1, ElementDescriber(&self.masker).sentence(place)),
                }
            })
            .collect();
        let more = answer.visible().saturating_sub(shown.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        format!("{}{more}", shown.join(", "))
    }

    /// Prepares a text of the page for display: masked and truncated.
    pub(super) fn masked(&self, text: &str) -> String {
        cut(&self.masker.mask(text), 60)
    }

    /// Describes an element returned by a script.
    pub(super) fn element(&self, element: &Json) -> Option<String> {
        element.is_object().then(|| ElementDescriber(&self.masker).element(element))
    }

    /// Returns the locator drifts, where an alternative other than the first one was needed.
    pub(super) fn drift(&self, answer: &LocatorResult) -> Vec<String> {
        let mut found = Vec::new();
        for (id, index) in answer.0["used"].as_object().into_iter().flatten() {
            let alternatives = id.parse().ok().and_then(|id: usize| self.alternatives.get(id));
            let used = index.as_u64().and_then(|index| usize::try_from(index).ok());
            if let (Some(alternatives), Some(used)) = (alternatives, used)
                && let (Some(first), Some(used)) = (alternatives.first(), alternatives.get(used))
            {
                found.push(self.masker.mask(&format!("{first} was not found; {used} was used")));
            }
        }
        found
    }
}

/// Result of one query in the page.
#[derive(Debug, Clone)]
pub(super) struct LocatorResult(pub(super) Json);

impl LocatorResult {
    /// Returns the number of matching visible elements.
    pub(super) fn visible(&self) -> usize {
        self.0["visible"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// Returns the element if it is ready for an action.
    pub(super) fn element(&self) -> Option<ElementId> {
        ElementId::read(&self.0["element"])
    }

    /// Returns the context of the element if it is a frame and `BiDi` provides the context.
    pub(super) fn frame(&self) -> Option<String> {
        self.0["element"]["context"].as_str().map(ToOwned::to_owned)
    }

    /// Returns whether the page was not searched completely because of a lack of time.
    pub(super) fn is_partial(&self) -> bool {
        self.0["slow"].is_number()
    }

    /// Returns the point at which a pointer hits the element.
    pub(super) fn point(&self) -> Option<[i64; 2]> {
        Some([self.0["point"][0].as_i64()?, self.0["point"][1].as_i64()?])
    }

    /// Removes a key from the result.
    pub(super) fn forget(&mut self, what: &str) {
        if let Json::Object(entries) = &mut self.0 {
            entries.remove(what);
        }
    }

    /// Returns whether the script has already performed the action.
    pub(super) fn done(&self) -> bool {
        self.0["done"] == true
    }

    /// Returns a boolean property of the result.
    pub(super) fn is(&self, what: &str) -> bool {
        self.0[what] == true
    }

    /// Returns the origin of the element's document.
    pub(super) fn origin(&self) -> Option<String> {
        self.0["origin"].as_str().map(ToOwned::to_owned)
    }

    /// Returns the values requested by `facts`, if there is exactly one element.
    pub(super) fn facts(&self) -> Option<&Json> {
        self.0.get("facts")
    }

    /// Returns a value from the result of [`LocatorQuery::page`].
    pub(super) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or("")
    }

    /// Returns the value from the result of [`LocatorQuery::cookie`] or [`LocatorQuery::script`]. Null if there is no value.
    pub(super) fn value(&self) -> &Json {
        &self.0["value"]
    }

    /// Returns the exception of the script of [`LocatorQuery::script`].
    pub(super) fn threw(&self) -> Option<&str> {
        self.0["threw"].as_str()
    }
}
