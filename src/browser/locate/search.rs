//! Search of a page for elements.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::{Elsewhere, LocatorQuery, LocatorResult, SCRIPT};
use crate::browser::errors::CommandError;
use crate::browser::page::Page;
use crate::values::expect::{Actual, cut};

/// Minimum time for a query, in milliseconds, even if the time of the step is up.
const LEAST: u64 = 250;

impl Page {
    /// Runs queries once, in the frame of the step.
    pub(in crate::browser) async fn look(
        &mut self,
        queries: &[LocatorQuery],
        deadline: Instant,
    ) -> Result<Vec<LocatorResult>, CommandError> {
        self.enter(deadline).await?;
        self.query_document(queries, deadline).await
    }

    /// Runs queries once, in the document that the driver is in.
    pub(in crate::browser) async fn query_document(
        &mut self,
        queries: &[LocatorQuery],
        deadline: Instant,
    ) -> Result<Vec<LocatorResult>, CommandError> {
        let mut asked: Vec<Json> = queries.iter().map(|query| query.json.clone()).collect();
        if queries.iter().any(|query| !query.names.is_empty()) {
            let questions: Vec<Json> = queries
                .iter()
                .filter(|query| !query.names.is_empty())
                .map(|query| {
                    let mut question = query.json.clone();
                    question["ask"] = true.into();
                    question
                })
                .collect();
            let mut answers = self.run(&questions, deadline).await?.into_iter();
            for (query, asked) in queries.iter().zip(&mut asked) {
                if query.names.is_empty() {
                    continue;
                }
                let known = answers.next().map_or(Json::Null, |answer| answer.0);
                let accepted: Vec<Json> = query
                    .names
                    .iter()
                    .enumerate()
                    .map(|(at, names)| {
                        let known = known["names"][at].as_array().into_iter().flatten();
                        known
                            .filter(|name| names.holds(&Actual::One((*name).clone())))
                            .cloned()
                            .collect::<Vec<_>>()
                            .into()
                    })
                    .collect();
                asked["accepts"] = accepted.into();
            }
        }
        let mut answers = self.run(&asked, deadline).await?;
        let mut cookies: Option<Json> = None;
        for (query, answer) in queries.iter().zip(&mut answers) {
            match &query.elsewhere {
                None => {}
                Some(Elsewhere::Cookie(name)) => {
                    if cookies.is_none() {
                        cookies = Some(Box::pin(self.cookies(deadline)).await?);
                    }
                    let mut all = cookies.as_ref().and_then(Json::as_array).into_iter().flatten();
                    let cookie = all.find(|cookie| cookie["name"] == name.as_str());
                    *answer = LocatorResult(json!({"value": cookie.map(|cookie| &cookie["value"])}));
                }
                Some(Elsewhere::Script(body)) => *answer = LocatorResult(self.evaluate(body, &[], deadline).await?),
            }
        }
        Ok(answers)
    }

    pub(in crate::browser) async fn run(
        &mut self,
        queries: &[Json],
        deadline: Instant,
    ) -> Result<Vec<LocatorResult>, CommandError> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let argument = json!({"queries": queries, "budget": u64::try_from(left).unwrap_or(u64::MAX).max(LEAST)});
        match self.script(SCRIPT, &argument, deadline).await? {
            Json::Array(answers) if answers.len() == queries.len() => {
                Ok(answers.into_iter().map(LocatorResult).collect())
            }
            // A navigation may discard the result.
            other => {
                Err(CommandError::Again(format!("unexpected response of the page: {}", cut(&other.to_string(), 100))))
            }
        }
    }
}
