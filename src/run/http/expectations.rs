//! Checks a response against the expectations and collects the values to save.

use chrono::Utc;
use serde_json::Value as Json;
use serde_json_path::JsonPath;

use super::response::HttpResponse;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::check::certificate::PeerCertificate;
use crate::run::xpath::Found;
use crate::scenario::{
    Body, HumanDuration, Matcher, Request, ResponseExpectation, ResponseFact, ResponseSource, XPath,
};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher, pattern_of};
use crate::values::text::look_alike;
use crate::wire::cookies::Cookies;

/// Name and value of a saved value, and whether it is a secret.
pub(in crate::run) type SavedValue = (String, serde_json::Value, bool);

/// Checks a response against the expectations and returns the values to save.
pub(super) fn check(
    request: &Request,
    answer: &HttpResponse,
    seen: &ResponseContext,
    cookies: &Cookies,
    values: &Values,
) -> (Vec<SavedValue>, Result<(), Failure>) {
    let mut body = BodyView::of(answer, seen);
    let mut held = holds(request, answer, &mut body, values);
    let mut saved = Vec::new();
    for save in &request.save {
        let found = find(&save.source, answer, &mut body, cookies, values).and_then(|found| {
            found.ok_or_else(|| {
                Failure::new(Reason::Assertion, format!("nothing to save as `{}`", save.name.value))
                    .compared(save_source(&save.source), "nothing")
                    .at(save.name.span)
            })
        });
        match found {
            Ok(value) => saved.push((save.name.value.clone(), value, save.secret)),
            Err(failure) => held = held.and(Err(failure)),
        }
    }
    (saved, held)
}

/// Returns whether all expectations hold, or an error if an agent fault prevents the check.
pub(super) fn all_hold(
    facts: &[ResponseExpectation],
    answer: &HttpResponse,
    seen: &ResponseContext,
    values: &Values,
) -> Result<bool, Failure> {
    let mut body = BodyView::of(answer, seen);
    for expectation in facts {
        match answer_holds(&expectation.what, answer, &mut body, values) {
            Ok(()) => {}
            Err(failure) if failure.reason.class() == crate::names::ReasonClass::Unknown => {
                return Err(failure.at(expectation.span));
            }
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Data about a response that is not part of it.
pub(super) struct ResponseContext {
    /// Results of each XPath.
    pub(super) found: Found,
    /// Certificate of the server. `None` if the response came without TLS.
    pub(super) shown: Option<Result<PeerCertificate, Failure>>,
}

/// Returns every XPath that is evaluated on the response to a request.
pub(super) fn xpaths(request: &Request) -> Vec<XPath> {
    let expected = request.expect.iter().chain(&request.give_up_if).filter_map(|one| match &one.what {
        ResponseFact::Xpath(path, _) => Some(path.clone()),
        _ => None,
    });
    let saved = request.save.iter().filter_map(|one| match &one.source {
        ResponseSource::Xpath(path) => Some(path.clone()),
        _ => None,
    });
    expected.chain(saved).collect()
}

/// Formats as which a body is parsed.
pub(super) struct Uses {
    pub(super) json: bool,
    pub(super) markup: bool,
}

/// Returns the formats as which the response to a request is parsed.
pub(super) fn uses(request: &Request) -> Uses {
    let facts = || request.expect.iter().chain(&request.give_up_if).map(|one| &one.what);
    let json = facts().any(|fact| matches!(fact, ResponseFact::Json(..)))
        || request.save.iter().any(|one| matches!(one.source, ResponseSource::Json(_)))
        || matches!(request.body, Some(Body::GraphQl(_)));
    Uses { json, markup: !xpaths(request).is_empty() }
}

/// Returns whether there are expectations on the server's certificate.
pub(super) fn asks_for_certificate(request: &Request) -> bool {
    request.expect.iter().chain(&request.give_up_if).any(|one| matches!(one.what, ResponseFact::Certificate(_)))
}

/// A body that is parsed as JSON at most once.
struct BodyView<'a> {
    answer: &'a HttpResponse,
    around: &'a ResponseContext,
    json: Option<Json>,
}

impl<'a> BodyView<'a> {
    fn of(answer: &'a HttpResponse, around: &'a ResponseContext) -> Self {
        Self { answer, around, json: None }
    }

    fn json(&mut self) -> Result<&Json, Failure> {
        if self.json.is_none() {
            let json = serde_json::from_str(&self.answer.text()).map_err(|error| {
                Failure::new(Reason::Assertion, format!("the body is not JSON ({error})"))
                    .compared("a JSON body", Json::from(self.answer.text()).to_string())
            })?;
            self.json = Some(json);
        }
        Ok(self.json.as_ref().expect("read above"))
    }

    fn find(&mut self, path: &str) -> Result<Actual, Failure> {
        let parsed = JsonPath::parse(path)
            .map_err(|e| Failure::new(Reason::Configuration, format!("`{path}` is not a JSONPath: {e}")))?;
        let found = parsed.query(self.json()?).all();
        Ok(match found.as_slice() {
            [] => Actual::Nothing,
            [one] => Actual::Typed((*one).clone()),
            many => Actual::Many(many.iter().map(|value| (*value).clone()).collect()),
        })
    }
}

/// Checks all expectations on a response.
fn holds(request: &Request, answer: &HttpResponse, body: &mut BodyView<'_>, values: &Values) -> Result<(), Failure> {
    if !request.expect.iter().any(|expectation| matches!(expectation.what, ResponseFact::Status(_))) {
        let (good, words) = if request.redirect {
            (200..=299, "a status from 200 to 299")
        } else {
            (100..=399, "a status from 100 to 399")
        };
        if !good.contains(&answer.status) {
            return Err(Failure::new(Reason::Status, format!("{} returned status {}", answer.method, answer.status))
                .compared(words, answer.status.to_string()));
        }
    }
    for expectation in &request.expect {
        answer_holds(&expectation.what, answer, body, values).map_err(|failure| failure.at(expectation.span))?;
    }
    no_graphql_errors(request, body)
}

/// Rejects the errors of a GraphQL server, which reports them in the response, mostly with status 200. Does nothing if
/// the scenario has an expectation on errors.
fn no_graphql_errors(request: &Request, body: &mut BodyView<'_>) -> Result<(), Failure> {
    let expected = |expectation: &ResponseExpectation| {
        matches!(&expectation.what, ResponseFact::Json(path, _)
            if path.starts_with("$.errors") || path.starts_with("$['errors']") || path.starts_with("$[\"errors\"]"))
    };
    let Some(Body::GraphQl(graphql)) = &request.body else { return Ok(()) };
    if request.expect.iter().any(expected) {
        return Ok(());
    }
    let errors = match body.json()?.get("errors") {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Array(errors)) if errors.is_empty() => return Ok(()),
        Some(errors) => errors.to_string(),
    };
    Err(Failure::new(Reason::Assertion, "the response has GraphQL errors")
        .compared("no `errors`", errors)
        .at(graphql.query.span))
}

/// Returns a value to save from a response, if it exists.
fn find(
    source: &ResponseSource,
    answer: &HttpResponse,
    body: &mut BodyView<'_>,
    cookies: &Cookies,
    values: &Values,
) -> Result<Option<Json>, Failure> {
    let one = |seen: Actual| match seen {
        Actual::One(value) | Actual::Typed(value) => Some(value),
        Actual::Many(values) => Some(Json::Array(values)),
        Actual::Nothing => None,
    };
    Ok(match source {
        ResponseSource::Json(path) => one(body.find(path)?),
        ResponseSource::Xpath(path) => one(body.around.found.get(path)?),
        ResponseSource::Header(name) => answer.header(name).map(Json::String),
        ResponseSource::Cookie(name) => cookies.value(&answer.url, name).map(Json::from),
        ResponseSource::Body(None) => Some(Json::String(answer.text())),
        ResponseSource::Body(Some(pattern)) => {
            let pattern = pattern_of(pattern, values)?;
            let text = answer.text();
            pattern.captures(&text).and_then(|c| c.get(1).or_else(|| c.get(0)).map(|m| Json::from(m.as_str())))
        }
    })
}

fn save_source(source: &ResponseSource) -> String {
    match source {
        ResponseSource::Json(path) => format!("`{path}` in the body"),
        ResponseSource::Xpath(path) => format!("`{}` in the body", path.text()),
        ResponseSource::Header(name) => format!("header `{name}`"),
        ResponseSource::Cookie(name) => format!("cookie `{name}`"),
        ResponseSource::Body(_) => "a match in the body".into(),
    }
}

fn held(what: String, reason: Reason, matcher: &Matcher, seen: &Actual, values: &Values) -> Result<(), Failure> {
    let filled = ResolvedMatcher::new(matcher, values)?;
    if filled.holds(seen) {
        return Ok(());
    }
    let what = match filled.mismatch(seen) {
        Some(mismatch) => format!("{what}: {mismatch}"),
        None => what,
    };
    Err(Failure::new(reason, what).compared(filled.show(), seen.show()))
}

fn answer_holds(
    fact: &ResponseFact,
    answer: &HttpResponse,
    body: &mut BodyView<'_>,
    values: &Values,
) -> Result<(), Failure> {
    match fact {
        ResponseFact::Status(matcher) => {
            let seen = Actual::One(answer.status.into());
            held(format!("the status is {}", answer.status), Reason::Status, matcher, &seen, values)
        }
        ResponseFact::Header(name, matcher) => {
            let seen = answer.header(name).map_or(Actual::Nothing, Actual::text);
            held(format!("header `{name}`"), Reason::Assertion, matcher, &seen, values)
        }
        ResponseFact::Json(path, matcher) => {
            let seen = body.find(path)?;
            held(format!("`{path}` in the body"), Reason::Assertion, matcher, &seen, values)
        }
        ResponseFact::Xpath(path, matcher) => {
            let seen = body.around.found.get(path)?;
            held(format!("`{}` in the body", path.text()), Reason::Assertion, matcher, &seen, values)
        }
        ResponseFact::Certificate(fact) => match &body.around.shown {
            Some(shown) => shown.as_ref().map_err(Clone::clone)?.judge(fact, values, Utc::now()),
            None => Err(Failure::new(Reason::Tls, "the response was received without TLS: there is no certificate")),
        },
        ResponseFact::Body(matcher) => {
            held("the body".into(), Reason::Assertion, matcher, &Actual::text(answer.text()), values)
        }
        ResponseFact::Contains(text) => {
            let text = values.fill(text)?;
            let body = answer.text();
            if body.contains(&text) {
                Ok(())
            } else {
                let what = match look_alike(&text, &body) {
                    Some((wanted, seen)) => format!("the body: {seen} only looks like {wanted}"),
                    None => "the body".to_owned(),
                };
                Err(Failure::new(Reason::Assertion, what)
                    .compared(format!("contains {}", Json::from(text)), Json::from(body).to_string()))
            }
        }
        // This applies to the step and is evaluated when it ends.
        ResponseFact::SlowerThanUsual(_) => Ok(()),
        ResponseFact::FasterThan(limit) => {
            if answer.took < *limit {
                Ok(())
            } else {
                Err(Failure::new(Reason::Slow, "response too slow")
                    .compared(format!("faster than {}", HumanDuration(*limit)), HumanDuration(answer.took).to_string())
                    .waited(answer.took))
            }
        }
    }
}
