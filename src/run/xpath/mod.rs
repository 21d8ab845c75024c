//! XPath 1.0 over HTML and XML.
//!
//! A server may send content that is expensive to process. Documents are therefore limited in size, depth and number of
//! nodes, parsing is limited in time, and expressions are limited in the work they may cost. All of this happens on
//! threads other than those that drive runs.

mod html;
#[cfg(test)]
mod tests;
mod tree;
mod unread;
mod xml;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use xpath_eval::{EvaluationContext, Value};

use self::tree::{Spent, Tree};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::XPath;
use crate::values::expect::Actual;

pub use unread::Unread;

/// Maximum time for parsing a document.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum size of the text that an expression returns, in bytes.
const LARGEST: usize = 10 << 20;

/// Results of expressions on a body, by the text of the expression.
#[derive(Debug, Default)]
pub struct Found(HashMap<String, Result<Actual, Failure>>);

impl Found {
    /// Evaluates expressions on a body.
    pub async fn look(expressions: Vec<XPath>, text: String, media_type: Option<String>) -> Self {
        let names: Vec<String> = expressions.iter().map(|expression| expression.text().to_owned()).collect();
        let looked = tokio::task::spawn_blocking(move || {
            find(&expressions, &text, media_type.as_deref(), Instant::now() + PATIENCE)
        });
        match looked.await {
            Ok(found) => Self(names.into_iter().zip(found).collect()),
            Err(error) => {
                let failure = Failure::new(Reason::Panic, format!("wachta itself failed: {error}"));
                Self(names.into_iter().map(|name| (name, Err(failure.clone()))).collect())
            }
        }
    }

    /// Returns the result of an expression.
    pub fn get(&self, expression: &XPath) -> Result<Actual, Failure> {
        self.0.get(expression.text()).cloned().unwrap_or(Ok(Actual::Nothing))
    }
}

/// Evaluates each expression on a document.
fn find(expressions: &[XPath], text: &str, media_type: Option<&str>, until: Instant) -> Vec<Result<Actual, Failure>> {
    let tree = read(text, media_type, until).map_err(|unread| match unread {
        Unread::Wrong(problem) => Failure::new(Reason::Assertion, problem)
            .compared("a document to look for an XPath in", Json::from(text).to_string()),
        Unread::TooMuch(problem) => {
            Failure::new(Reason::TooLarge, format!("the body is too complex for XPath: {problem}"))
        }
    });
    match tree {
        Ok(tree) => expressions.iter().map(|expression| evaluate(expression, &tree)).collect(),
        Err(failure) => expressions.iter().map(|_| Err(failure.clone())).collect(),
    }
}

/// Parses a document by its media type, or by its content if the media type is neither XML nor HTML.
fn read(text: &str, media_type: Option<&str>, until: Instant) -> Result<Tree, Unread> {
    let text = text.trim_start_matches('\u{feff}');
    let said = media_type.map(|said| said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let said = said.as_deref().unwrap_or_default();
    let is_xml = said.ends_with("/xml") || said.ends_with("+xml");
    if !is_xml && said != "text/html" {
        let start = text.trim_start();
        if !start.starts_with('<') {
            return Err(Unread::Wrong("the body is neither HTML nor XML".to_owned()));
        }
        if !start.starts_with("<?xml") {
            return html::read(text, until).map_err(Unread::TooMuch);
        }
    } else if !is_xml {
        return html::read(text, until).map_err(Unread::TooMuch);
    }
    xml::read(text.trim_start(), until).map_err(|unread| match unread {
        Unread::Wrong(problem) => Unread::Wrong(format!("the body is not XML ({problem})")),
        too_much @ Unread::TooMuch(_) => too_much,
    })
}

fn evaluate(expression: &XPath, tree: &Tree) -> Result<Actual, Failure> {
    let too_much = |what: &str| {
        let message = format!("`{}` {what} in this body", expression.text());
        Failure::new(Reason::TooLarge, message)
    };
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| seen(expression, tree)));
    match done {
        Ok(Ok(Some(seen))) => Ok(seen),
        Ok(Ok(None)) => Err(too_much("matches too many nodes")),
        Ok(Err(problem)) => {
            Err(Failure::new(Reason::Configuration, format!("`{}` cannot be evaluated: {problem}", expression.text())))
        }
        Err(panic) if panic.is::<Spent>() => Err(too_much("is too expensive to evaluate")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Returns the value of an expression, or `None` if it is too large.
fn seen(expression: &XPath, tree: &Tree) -> Result<Option<Actual>, String> {
    let own = xml::own_prefix();
    let namespace = |prefix: &str| {
        let mut all = tree.prefixes.iter().chain(std::iter::once(&own));
        all.find(|(known, _)| known == prefix).map(|(_, namespace)| namespace.clone())
    };
    let mut context = EvaluationContext::new(tree.start());
    context.namespaces = Some(&namespace);
    let value = xpath_eval::evaluate(expression.expression(), &context).map_err(|error| error.to_string())?;
    Ok(Some(match value {
        Value::NodeSet(nodes) => {
            let (mut texts, mut bytes) = (Vec::with_capacity(nodes.len()), 0);
            for node in nodes {
                let text = xpath_eval::Node::string_value(node);
                bytes += text.len();
                if bytes > LARGEST {
                    return Ok(None);
                }
                texts.push(Json::String(text));
            }
            match texts.len() {
                0 => Actual::Nothing,
                1 => Actual::One(texts.swap_remove(0)),
                _ => Actual::Many(texts),
            }
        }
        Value::Boolean(value) => Actual::One(Json::Bool(value)),
        Value::Number(value) => number(value).map_or(Actual::Nothing, Actual::One),
        Value::String(text) => Actual::One(Json::String(text)),
    }))
}

/// Converts a number to JSON, as an integer if it is whole. Returns `None` for NaN and infinity.
fn number(value: f64) -> Option<Json> {
    #[allow(clippy::cast_possible_truncation)] // Below 2^53 every whole number is exact.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Some(Json::from(value as i64));
    }
    serde_json::Number::from_f64(value).map(Json::Number)
}
