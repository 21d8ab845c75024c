//! Parses the report of a test suite (JUnit XML) into a list of its cases. The format was never specified; all tools
//! write `testcase` elements, in suites that may be nested or not.

use std::time::Duration;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::result::{Case, CaseEnd};
use crate::values::expect::cut;

/// Maximum number of stored cases.
pub const MOST_CASES: usize = 500;
/// Maximum number of cases in a report; a larger report is rejected.
const MOST_READ: usize = 100_000;
/// Maximum length of a stored case name, in characters.
const LONGEST_NAME: usize = 200;
/// Maximum length of a stored failure message, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Maximum length of the text of a failure, in bytes, in which its message is searched.
const MOST_TEXT: usize = 64 << 10;

/// Parses a report. The error describes what is wrong with it.
pub fn cases(xml: &str) -> Result<Vec<Case>, String> {
    let mut reader = Reader::from_str(xml);
    let mut cases: Vec<Case> = Vec::new();
    let (mut in_case, mut suites, mut depth) = (false, false, 0_usize);
    // Text of a failure without a message, as far as it was read.
    let mut problem: Option<String> = None;
    loop {
        match reader.read_event().map_err(|error| cut(&error.to_string(), 200))? {
            Event::Eof => break,
            event @ (Event::Start(_) | Event::Empty(_)) => {
                let opens = matches!(event, Event::Start(_));
                let (Event::Start(element) | Event::Empty(element)) = event else { continue };
                depth += usize::from(opens);
                match element.local_name().as_ref() {
                    b"testsuites" | b"testsuite" => suites = true,
                    b"testcase" if cases.len() >= MOST_READ => return Err("it has too many cases".to_owned()),
                    b"testcase" => {
                        cases.push(case(&element)?);
                        in_case = opens;
                    }
                    b"skipped" if in_case => end(&mut cases, CaseEnd::Skipped),
                    word @ (b"failure" | b"error") if in_case => {
                        let broke = word == b"error";
                        let said = attribute(&element, "message")?.filter(|said| !said.trim().is_empty());
                        problem = (opens && said.is_none()).then(String::new);
                        let word = if broke { "test error" } else { "test failure" };
                        end(&mut cases, CaseEnd::Failed(cut(said.as_deref().unwrap_or(word).trim(), LONGEST_MESSAGE)));
                    }
                    _ => {}
                }
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                match element.local_name().as_ref() {
                    b"testcase" => in_case = false,
                    b"failure" | b"error" => {
                        if let Some(text) = problem.take() {
                            set_message(&mut cases, &text);
                        }
                    }
                    _ => {}
                }
            }
            event => {
                if let Some(problem) = problem.as_mut().filter(|problem| problem.len() < MOST_TEXT) {
                    problem.push_str(&text(&event));
                }
            }
        }
    }
    if !suites || depth > 0 {
        return Err(if suites { "it ends too early" } else { "there is no test suite in it" }.to_owned());
    }
    Ok(cases)
}

/// Sets the result of the case that is being read.
fn end(cases: &mut [Case], end: CaseEnd) {
    if let Some(case) = cases.last_mut() {
        case.end = end;
    }
}

/// Uses the first non-empty line of the text as the message of a failure that has none.
fn set_message(cases: &mut [Case], text: &str) {
    if let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) {
        end(cases, CaseEnd::Failed(cut(line, LONGEST_MESSAGE)));
    }
}

/// Returns the text of an event. Entities are events of their own; an unknown one stays as it is written.
fn text(event: &Event<'_>) -> String {
    match event {
        Event::Text(text) => text.decode().unwrap_or_default().into_owned(),
        Event::CData(text) => text.decode().unwrap_or_default().into_owned(),
        Event::GeneralRef(entity) => {
            let name = entity.decode().unwrap_or_default();
            let character = entity.resolve_char_ref().ok().flatten().map(String::from);
            let known = || resolve_predefined_entity(&name).map(ToOwned::to_owned);
            character.or_else(known).unwrap_or_else(|| format!("&{name};"))
        }
        _ => String::new(),
    }
}

fn case(element: &BytesStart<'_>) -> Result<Case, String> {
    let name = attribute(element, "name")?.unwrap_or_default();
    let class = attribute(element, "classname")?.filter(|class| !class.is_empty());
    let name = class.map_or(name.clone(), |class| format!("{class} {name}"));
    let time = attribute(element, "time")?.and_then(|time| time.replace(',', "").parse().ok());
    let took = time.and_then(|time| Duration::try_from_secs_f64(time).ok()).unwrap_or_default();
    Ok(Case { name: cut(name.trim(), LONGEST_NAME), took, end: CaseEnd::Passed })
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let problem = |error: String| cut(&error, 200);
    let Some(found) = element.try_get_attribute(name).map_err(|error| problem(error.to_string()))? else {
        return Ok(None);
    };
    let value = found.normalized_value(XmlVersion::Implicit1_0).map_err(|error| problem(error.to_string()))?;
    Ok(Some(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_several_tools() {
        let check = |xml: &str, expected: &[(&str, u128, CaseEnd)]| {
            let read = cases(xml).unwrap();
            let read: Vec<_> = read.iter().map(|c| (c.name.as_str(), c.took.as_millis(), c.end.clone())).collect();
            assert_eq!(read, expected, "{xml}");
        };
        let failed = |text: &str| CaseEnd::Failed(text.to_owned());
        // Format of pytest.
        check(
            r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.031" timestamp="2026-11-23T00:00:00.000000" hostname="h"><testcase classname="test_a" name="test_good" time="0.5" /><testcase classname="test_a" name="test_bad" time="0.001"><failure message="assert 1 == 2&#10;of &lt;a&gt;">def test_bad(): ...</failure></testcase><testcase classname="test_a" name="test_skip" time="0.000"><skipped type="pytest.skip" message="why">there</skipped></testcase></testsuite></testsuites>"#,
            &[
                ("test_a test_good", 500, CaseEnd::Passed),
                ("test_a test_bad", 1, failed("assert 1 == 2\nof <a>")),
                ("test_a test_skip", 0, CaseEnd::Skipped),
            ],
        );
        // A single suite with CDATA in the format of Maven, and nested suites.
        check(
            "<testsuite name='a'><testcase name='one' time='1,234.5'><error><![CDATA[\n  boom\n at x]]></error></testcase></testsuite>",
            &[("one", 1_234_500, failed("boom"))],
        );
        // Entities in the text of a failure.
        check(
            "<testsuite><testcase name='a'><failure>\n expected &lt;a&gt; &amp; got &#8220;b&#x201D; &x;\nmore</failure></testcase></testsuite>",
            &[("a", 0, failed("expected <a> & got \u{201c}b\u{201d} &x;"))],
        );
        check(
            "<testsuites><testsuite><testsuite><testcase name='a'><failure/></testcase><testcase name='b'><system-out>x</system-out></testcase></testsuite></testsuite></testsuites>",
            &[("a", 0, failed("test failure")), ("b", 0, CaseEnd::Passed)],
        );
        check("<testsuites/>", &[]);
        for bad in ["", "not xml", "<html><body/></html>", "<testsuite><testcase name='a'>", "<testsuite></x>"] {
            assert!(cases(bad).is_err(), "{bad}");
        }
    }
}
