//! Expectations and saved values of a page, which are polled until they hold.

use std::time::Duration;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::PollBackoff;
use super::errors::{self, CommandError};
use super::event_expectation::EventExpectation;
use super::event_tracker::EventTracker;
use super::locate::{LocatorQuery, LocatorResult};
use super::page::{Page, SavedValue};
use crate::diagnostic::Span;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{ElementFact, PageExpectation, PageFact, PageSave, PageSource};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// An expectation with resolved names.
struct Prepared {
    span: Span,
    query: LocatorQuery,
    what: What,
}

enum What {
    Url(ResolvedMatcher),
    Title(ResolvedMatcher),
    Visible,
    Hidden,
    Element(Vec<Fact>),
    Cookie(ResolvedMatcher),
    Script,
    EventExpectation(EventExpectation),
}

enum Fact {
    Text(ResolvedMatcher),
    Value(ResolvedMatcher),
    Attribute(String, ResolvedMatcher),
    Count(ResolvedMatcher),
    Is(&'static str, bool),
}

impl Page {
    /// Waits until all expectations hold at the same time.
    pub(super) async fn expect(
        &mut self,
        expectations: &[PageExpectation],
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let prepared = expectations
            .iter()
            .map(|one| Prepared::new(one, values).map_err(|failure| failure.at(one.span)))
            .collect::<Result<Vec<_>, _>>()?;
        let queries: Vec<LocatorQuery> = prepared.iter().map(|one| one.query.clone()).collect();
        let watch = self.heard();
        self.poll(&queries, deadline, |answers| {
            for (one, answer) in prepared.iter().zip(answers) {
                one.check(answer, watch.as_deref()).map_err(|failure| failure.at(one.span))?;
            }
            Ok(())
        })
        .await
    }

    /// Returns whether all expectations hold now. Repeats the query only while the page is not available.
    pub async fn holds(
        &mut self,
        expectations: &[PageExpectation],
        values: &Values,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        self.leave_frames().await.map_err(CommandError::failure)?;
        let prepared = expectations
            .iter()
            .map(|one| Prepared::new(one, values).map_err(|failure| failure.at(one.span)))
            .collect::<Result<Vec<_>, _>>()?;
        let queries: Vec<LocatorQuery> = prepared.iter().map(|one| one.query.clone()).collect();
        let watch = self.heard();
        self.poll(&queries, deadline, |answers| {
            for (one, answer) in prepared.iter().zip(answers) {
                match one.check(answer, watch.as_deref()) {
                    Ok(()) => {}
                    Err(failure) if failure.reason == Reason::Configuration => return Err(failure.at(one.span)),
                    Err(_) => return Ok(false),
                }
            }
            Ok(true)
        })
        .await
    }

    /// Returns the observations of the pages, if the browser reports events.
    fn heard(&self) -> Option<Arc<EventTracker>> {
        self.bidi().map(|_| Arc::clone(&self.watch))
    }

    /// Waits until all values are available and returns them.
    pub(super) async fn save(
        &mut self,
        saves: &[PageSave],
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<SavedValue>, Failure> {
        let mut queries = Vec::new();
        let mut matchers = Vec::new();
        for save in saves {
            let query = match &save.source {
                PageSource::Url => LocatorQuery::page(),
                PageSource::Cookie(name) => LocatorQuery::cookie(name),
                PageSource::Script(body) => LocatorQuery::script(&body.value),
                PageSource::Text(target) => LocatorQuery::new(target, values)?.with(json!({"facts": []})),
                PageSource::Value(target) => {
                    LocatorQuery::new(target, values)?.with(json!({"facts": [], "unseen": true}))
                }
                PageSource::Attribute(target, name) => {
                    LocatorQuery::new(target, values)?.with(json!({"facts": [name], "unseen": true}))
                }
            };
            queries.push(query);
            let matcher = save.matcher.as_ref().map(|matcher| ResolvedMatcher::new(matcher, values)).transpose();
            matchers.push(matcher.map_err(|failure| failure.at(save.name.span))?);
        }
        self.poll(&queries, deadline, |answers| {
            let mut found = Vec::new();
            for (((save, query), matcher), answer) in saves.iter().zip(&queries).zip(&matchers).zip(answers) {
                let value = source(save, query, answer)
                    .and_then(|seen| match (seen, &save.source, matcher) {
                        // The result of a script keeps its type.
                        (Actual::One(value), PageSource::Script(_), None) => Ok(value),
                        (seen, ..) => part(&seen, matcher.as_ref(), &save.name).map(Json::String),
                    })
                    .map_err(|failure| failure.at(save.name.span))?;
                found.push((save.name.value.clone(), value, save.secret));
            }
            Ok(found)
        })
        .await
    }

    /// Repeats the queries until `check` succeeds.
    pub(super) async fn poll<T>(
        &mut self,
        queries: &[LocatorQuery],
        deadline: Instant,
        check: impl Fn(&[LocatorResult]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let since = Instant::now();
        let mut pauses = PollBackoff::new();
        let mut last: Option<Failure> = None;
        loop {
            match self.look(queries, deadline).await {
                Ok(answers) => match check(&answers) {
                    Ok(found) => {
                        for (query, answer) in queries.iter().zip(&answers) {
                            self.note_drift(query, answer);
                        }
                        return Ok(found);
                    }
                    // Waiting does not help in these cases.
                    Err(failure)
                        if matches!(failure.reason, Reason::Configuration | Reason::Console | Reason::Requests) =>
                    {
                        return Err(failure.waited(since.elapsed()));
                    }
                    Err(failure) => {
                        if last.is_none() || !answers.iter().any(LocatorResult::is_partial) {
                            last = Some(failure);
                        }
                    }
                },
                Err(CommandError::Absent(failure)) if failure.reason != Reason::Configuration => last = Some(*failure),
                Err(CommandError::Again(text)) => {
                    last.get_or_insert_with(|| CommandError::Again(text).failure());
                }
                Err(CommandError::Timeout(text)) => return Err(errors::hung(text, last).waited(since.elapsed())),
                Err(CommandError::Closed) => self.come_back_within().await?,
                Err(trouble) => return Err(trouble.failure()),
            }
            self.clear_the_way(deadline).await;
            self.reenter_frame();
            if !pauses.wait(deadline).await {
                let mut failure = last.unwrap_or_else(|| Failure::new(Reason::Timeout, "no time left to check"));
                if let [query] = queries {
                    failure = self.look_into_frames(query, failure).await;
                }
                return Err(failure.waited(since.elapsed()));
            }
        }
    }
}

impl Prepared {
    fn new(expectation: &PageExpectation, values: &Values) -> Result<Self, Failure> {
        if let Some(heard) = EventExpectation::new(&expectation.what, values)? {
            return Ok(Self {
                span: expectation.span,
                query: LocatorQuery::page(),
                what: What::EventExpectation(heard),
            });
        }
        let (query, what) = match &expectation.what {
            PageFact::Url(matcher) => (LocatorQuery::page(), What::Url(ResolvedMatcher::new(matcher, values)?)),
            PageFact::Title(matcher) => (LocatorQuery::page(), What::Title(ResolvedMatcher::new(matcher, values)?)),
            PageFact::Visible(target) => (LocatorQuery::new(target, values)?, What::Visible),
            PageFact::Hidden(target) => (LocatorQuery::new(target, values)?, What::Hidden),
            PageFact::Element { target, facts } => {
                let attributes: Vec<&str> = facts
                    .iter()
                    .filter_map(|fact| match fact {
                        ElementFact::Attribute(name, _) => Some(name.as_str()),
                        _ => None,
                    })
                    .collect();
                // Checkboxes that are drawn by a label are invisible themselves; `check` accepts them too.
                let unseen = facts.iter().all(|fact| {
                    matches!(fact, ElementFact::Attribute(..) | ElementFact::Value(_) | ElementFact::Checked(_))
                });
                let query = LocatorQuery::new(target, values)?.with(json!({"facts": attributes, "unseen": unseen}));
                let facts = facts.iter().map(|fact| Fact::new(fact, values)).collect::<Result<_, _>>()?;
                (query, What::Element(facts))
            }
            PageFact::Cookie(name, matcher) => {
                (LocatorQuery::cookie(name), What::Cookie(ResolvedMatcher::new(matcher, values)?))
            }
            PageFact::Script(body) => (LocatorQuery::script(&body.value), What::Script),
            PageFact::Console | PageFact::Requests { .. } | PageFact::Request(_) | PageFact::Download { .. } => {
                unreachable!("what is heard was taken above")
            }
        };
        Ok(Self { span: expectation.span, query, what })
    }

    fn check(&self, answer: &LocatorResult, watch: Option<&EventTracker>) -> Result<(), Failure> {
        let shown = &self.query.shown;
        if let Some(failure) = self.query.wrong(answer) {
            return Err(failure);
        }
        if answer.is_partial() {
            return Err(self.query.refusal(answer));
        }
        match &self.what {
            What::Url(filled) => held(filled, &Actual::text(answer.text("url")), "the URL"),
            What::Title(filled) => held(filled, &Actual::text(answer.text("title")), "the title"),
            What::Visible if answer.visible() == 1 => Ok(()),
            What::Visible => Err(self.query.refusal(answer)),
            What::Hidden if answer.visible() == 0 => Ok(()),
            What::Hidden => Err(Failure::new(Reason::Assertion, format!("{shown} is visible"))
                .compared(format!("no visible {shown}"), self.query.list(answer))),
            What::Element(facts) => facts.iter().try_for_each(|fact| fact.check(answer, &self.query)),
            What::Script => match (answer.threw(), answer.value()) {
                (Some(text), _) => Err(Failure::new(Reason::Script, format!("the script threw {text}"))),
                (None, Json::Bool(true)) => Ok(()),
                (None, other) => Err(Failure::new(Reason::Assertion, "the script did not return true")
                    .compared("true", Actual::One(other.clone()).show())),
            },
            What::Cookie(filled) => held(filled, &seen(answer.value()), shown),
            What::EventExpectation(heard) => match watch {
                Some(watch) => heard.check(watch),
                None => Err(Failure::new(
                    Reason::Configuration,
                    "console, requests and downloads need WebDriver BiDi, which this browser session does not have",
                )),
            },
        }
    }
}

impl Fact {
    fn new(fact: &ElementFact, values: &Values) -> Result<Self, Failure> {
        Ok(match fact {
            ElementFact::Text(matcher) => Self::Text(ResolvedMatcher::new(matcher, values)?),
            ElementFact::Value(matcher) => Self::Value(ResolvedMatcher::new(matcher, values)?),
            ElementFact::Attribute(name, matcher) => {
                Self::Attribute(name.clone(), ResolvedMatcher::new(matcher, values)?)
            }
            ElementFact::Count(matcher) => Self::Count(ResolvedMatcher::new(matcher, values)?),
            ElementFact::Checked(is) => Self::Is("checked", *is),
            ElementFact::Enabled(is) => Self::Is("enabled", *is),
            ElementFact::Focused(is) => Self::Is("focused", *is),
        })
    }

    fn check(&self, answer: &LocatorResult, query: &LocatorQuery) -> Result<(), Failure> {
        let shown = &query.shown;
        if let Self::Count(filled) = self {
            return held(filled, &Actual::One(answer.visible().into()), &format!("the number of {shown}"));
        }
        let facts = answer.facts().ok_or_else(|| query.refusal(answer))?;
        match self {
            Self::Text(filled) => held(filled, &seen(&facts["text"]), &format!("the text of {shown}")),
            Self::Value(filled) => held(filled, &seen(&facts["value"]), &format!("the value of {shown}")),
            Self::Attribute(name, filled) => {
                held(filled, &seen(&facts["attributes"][name]), &format!("the attribute `{name}` of {shown}"))
            }
            Self::Is(what, expected) => {
                let is = facts[*what] == true;
                let word = |is: bool| if is { (*what).to_owned() } else { format!("not {what}") };
                if is == *expected {
                    return Ok(());
                }
                Err(Failure::new(Reason::Assertion, format!("{shown} is {}", word(is)))
                    .compared(word(*expected), word(is)))
            }
            Self::Count(_) => unreachable!("looked at above"),
        }
    }
}

fn seen(value: &Json) -> Actual {
    if value.is_null() { Actual::Nothing } else { Actual::One(value.clone()) }
}

fn held(filled: &ResolvedMatcher, seen: &Actual, what: &str) -> Result<(), Failure> {
    if filled.holds(seen) {
        return Ok(());
    }
    Err(Failure::new(Reason::Assertion, format!("{what} does not match")).compared(filled.show(), seen.show()))
}

fn source(save: &PageSave, query: &LocatorQuery, answer: &LocatorResult) -> Result<Actual, Failure> {
    if let Some(failure) = query.wrong(answer) {
        return Err(failure);
    }
    if let Some(text) = answer.threw() {
        return Err(Failure::new(Reason::Script, format!("the script threw {text}")));
    }
    if matches!(save.source, PageSource::Cookie(_) | PageSource::Script(_)) {
        return Ok(seen(answer.value()));
    }
    if save.source == PageSource::Url {
        return Ok(Actual::text(answer.text("url")));
    }
    let facts = answer.facts().ok_or_else(|| query.refusal(answer))?;
    Ok(seen(match &save.source {
        PageSource::Text(_) | PageSource::Url | PageSource::Cookie(_) | PageSource::Script(_) => &facts["text"],
        PageSource::Value(_) => &facts["value"],
        PageSource::Attribute(_, name) => &facts["attributes"][name],
    }))
}

/// Returns the part of a value to save: the whole value if the matcher holds, or the first group of `matches` if it has
/// one.
fn part(seen: &Actual, matcher: Option<&ResolvedMatcher>, name: &str) -> Result<String, Failure> {
    let missing =
        || Failure::new(Reason::Assertion, format!("nothing to save as `{name}`")).compared("a value", seen.show());
    let text = match seen {
        Actual::One(Json::String(text)) => text.clone(),
        Actual::Typed(other) | Actual::One(other) => other.to_string(),
        Actual::Nothing | Actual::Many(_) => return Err(missing()),
    };
    match matcher {
        None => Ok(text),
        Some(ResolvedMatcher::Matches(pattern)) => match pattern.captures(&text) {
            Some(groups) => {
                Ok(groups.get(1).or_else(|| groups.get(0)).map(|group| group.as_str().to_owned()).unwrap_or_default())
            }
            None => held(&ResolvedMatcher::Matches(pattern.clone()), seen, &format!("what to save as `{name}`"))
                .map(|()| text),
        },
        Some(filled) => held(filled, seen, &format!("what to save as `{name}`")).map(|()| text),
    }
}
