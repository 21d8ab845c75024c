//! Expressions on documents: all result types, and malicious input.

use std::fmt::Write as _;

use serde_json::json;

use super::*;

fn found(document: &str, media_type: Option<&str>, expression: &str) -> Result<Actual, Failure> {
    let expression = XPath::parse(expression).unwrap();
    find(&[expression], document, media_type, Instant::now() + Duration::from_secs(86_400)).swap_remove(0)
}

fn check(document: &str, media_type: Option<&str>, expression: &str, expected: &Json) {
    let seen = match found(document, media_type, expression) {
        Ok(Actual::Nothing) => json!(null),
        Ok(Actual::One(value) | Actual::Typed(value)) => value,
        Ok(Actual::Many(values)) => Json::Array(values),
        Err(failure) => json!({"failed": failure.message}),
    };
    assert_eq!(seen, *expected, "{expression}");
}

const PAGE: &str = r##"<!doctype html>
<html lang=pl><head><title>Shop &amp; more</title><meta name=robots content=noindex>
<body><h1 class="big red">Blue   mug</h1>
<p>One<br>two<p id=price data-amount=12.50>12,50&nbsp;zł<b><i>now</b></i>
<ul><li>a<li>b<li><a href="/c">c</a></ul>
<table><tr><td>1<td>2</table>
<noscript><p id=plain>no scripts</p></noscript>
<template><p id=hidden>not there</p></template>
<svg viewBox="0 0 1 1"><use xlink:href="#x"/></svg>"##;

#[test]
fn html_is_read_as_browsers_read_it() {
    for media_type in [None, Some("text/html; charset=utf-8"), Some("text/plain")] {
        let page = |expression: &str, expected: Json| check(PAGE, media_type, expression, &expected);
        page("//title", json!("Shop & more"));
        page("/html/head/meta[@name='robots']/@content", json!("noindex"));
        page("/html/body/ul/li", json!(["a", "b", "c"]));
        page("//li[2]", json!("b"));
        page("//li[last()]/a/@href", json!("/c"));
        page("count(//li)", json!(3));
        page("count(//li) > 2", json!(true));
        // The table has the `tbody` that browsers add.
        page("//table/tbody/tr/td[2]", json!("2"));
        page("number(//p/@data-amount)", json!(12.5));
        page("number(//h1)", json!(null));
        page("normalize-space(//h1)", json!("Blue mug"));
        page("//h1", json!("Blue   mug"));
        page("//p[@id='price']", json!("12,50\u{a0}złnow\n"));
        page("id('plain')", json!("no scripts"));
        page("//*[@id='hidden']", json!(null));
        page("//svg/@viewBox", json!("0 0 1 1"));
        page("//h1[contains(concat(' ', @class, ' '), ' red ')]/text()", json!("Blue   mug"));
        page("//h2", json!(null));
        page("count(//h2)", json!(0));
        page("name(//ul/*[1])", json!("li"));
        page("lang('pl')", json!(false));
        page("//ul[lang('pl')]/li[1]", json!("a"));
        page("//b/following::li[1] | //title", json!(["Shop & more", "a"]));
        page("string-length(//title)", json!(11));
    }
}

const FEED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- made by hand -->
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:media="http://search.yahoo.com/mrss/" xml:lang="en">
  <title>News</title>
  <entry xml:id="e1"><title>A &lt; B &#8212; <![CDATA[<c>]]></title><media:thumbnail url="a.png" media:kind="big"/></entry>
  <entry><title>C</title><x:deep xmlns:x="urn:x"><x:er/></x:deep></entry>
  <?app go on?>
</feed>"#;

#[test]
fn xml_is_read_with_its_namespaces() {
    for media_type in [None, Some("application/atom+xml"), Some("text/xml; charset=utf-8")] {
        let feed = |expression: &str, expected: Json| check(FEED, media_type, expression, &expected);
        // Names match as written in the document: without a prefix also in the default namespace.
        feed("/feed/title", json!("News"));
        feed("//entry/title", json!(["A < B — <c>", "C"]));
        feed("//media:thumbnail/@url", json!("a.png"));
        feed("//thumbnail", json!(null));
        feed("//@media:kind", json!("big"));
        feed("//@kind", json!(null));
        feed("count(//x:*)", json!(2));
        feed("//y:er", json!(null));
        feed("namespace-uri(/feed)", json!("http://www.w3.org/2005/Atom"));
        feed("//*[local-name() = 'er' and namespace-uri() = 'urn:x'] = ''", json!(true));
        feed("/feed/@xml:lang", json!("en"));
        feed("id('e1')/title", json!("A < B — <c>"));
        feed("/comment()", json!(" made by hand "));
        feed("//processing-instruction('app')", json!("go on"));
        feed("//title[. = 'C']/ancestor::entry/preceding-sibling::entry/@xml:id", json!("e1"));
    }
}

#[test]
fn what_is_no_document_is_told() {
    let failed = |document: &str, media_type: Option<&str>| match found(document, media_type, "//a") {
        Err(failure) => format!("{}: {}", failure.reason, failure.message),
        Ok(seen) => panic!("{document} {seen:?}"),
    };
    let xml = Some("application/xml");
    assert_eq!(failed("{\"a\": 1}", Some("application/json")), "assertion: the body is neither HTML nor XML");
    assert_eq!(failed("", None), "assertion: the body is neither HTML nor XML");
    assert_eq!(
        failed("<a><b></a>", xml),
        "assertion: the body is not XML (ill-formed document: expected `</b>`, but `</a>` was found, at byte 6)"
    );
    assert_eq!(failed("<a><b></b>", xml), "assertion: the body is not XML (it ends before its last element does)");
    assert_eq!(failed("  ", xml), "assertion: the body is not XML (there is no element in it)");
    assert_eq!(
        failed("<a>&nbsp;</a>", xml),
        "assertion: the body is not XML (the entity `&nbsp;` is not expanded, at byte 9)"
    );
}

/// Checks that documents which are expensive to process are rejected quickly.
#[test]
fn hostile_documents_are_refused() {
    let refused = |document: &str, media_type: &str, expression: &str, expected: &str| {
        let told = match found(document, Some(media_type), expression) {
            Err(failure) => format!("{}: {}", failure.reason, failure.message),
            Ok(seen) => format!("{seen:?}").chars().take(200).collect(),
        };
        assert!(told.contains(expected), "{expression}: {told}");
    };
    let mut bomb = String::from("<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a0 \"ha\">");
    for at in 1..30 {
        write!(bomb, "<!ENTITY a{at} \"&a{};&a{};\">", at - 1, at - 1).unwrap();
    }
    refused(&format!("{bomb}]><l>&a29;</l>"), "text/xml", "//l", "the entity `&a29;` is not expanded");
    refused(&format!("{bomb}]><l x='&a29;'/>"), "text/xml", "//l/@x", "the body is not XML");
    let file = "<!DOCTYPE l [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><l>&f;</l>";
    refused(file, "text/xml", "//l", "the entity `&f;` is not expanded");

    let deep = |tag: &str| format!("<{tag}>").repeat(20_000);
    for (media_type, tag) in [("text/html", "div"), ("text/html", "b"), ("text/html", "table><td"), ("text/xml", "a")] {
        refused(&deep(tag), media_type, "//x", "too_large: the body is too complex for XPath");
    }
    refused(&"<p>".repeat(600_000), "text/html", "//x", "it has more than 500000 nodes");
    let wide: String = (0..2000).map(|at| format!(" a{at}=''")).collect();
    refused(&format!("<a{wide}/>"), "text/xml", "//x", "more than 1000 attributes");

    let many = "<i/>".repeat(100_000);
    let many = format!("<l>{many}</l>");
    refused(&many, "text/xml", "count(//i[count(preceding::i) = 5])", "too_large: `count(//i[count");
    refused(&many, "text/xml", "//i != //i", "too_large: `//i != //i` is too expensive to evaluate");
    let nested = format!("{}{}", "<d>".repeat(900), "x".repeat(100_000));
    let nested = format!("{nested}{}", "</d>".repeat(900));
    refused(&nested, "text/xml", "//d", "matches too many nodes in this body");
    // A large but harmless document is accepted.
    check(&many, Some("text/xml"), "count(//i)", &json!(100_000));
}
