//! All actions on real pages, and their failure messages.

use serde_json::json;

use super::*;
use crate::names::Reason;
use crate::outcome::EvidenceKind;
use crate::scenario::{ElementFact, PageSave, PageSource, Pattern, SelectOption};

const FORM: &str = r#"<title>Form</title><h1>Order</h1>
<label for=email>Email</label><input id=email value="old@example.com">
<label>Notes <textarea id=notes>old</textarea></label>
<label>When <input type=date id=when></label> <label>How many <input type=number id=many value=3></label>
<label>Locked <input id=locked readonly value=x></label>
<div id=rich contenteditable role=textbox aria-label=Rich>old <b>text</b></div>
<label>Size <select id=size><option value=s>Small</option><option value=l>Large  one</option><option disabled>Huge</option></select></label>
<label>Extras <select id=extras multiple><option>Salt</option><option selected>Pepper</option><option>Lemon</option></select></label>
<button onclick="document.title = 'Sent'; console.error('sent it')">Send</button>
<meta name=version content="build 42"><input type=hidden id=token value="t-1">
<p id=order data-testid=order>  Order
   #1234 </p><label><input type=checkbox checked> Agree</label>
<script>window.log = []; for (const e of document.querySelectorAll('input,textarea,select,[contenteditable]'))
for (const kind of ['input', 'change', 'keydown']) e.addEventListener(kind, event => log.push(e.id + ' ' + kind + (event.key ? ' ' + event.key : '')));</script>"#;

fn press(keys: &[&str], into: Option<Locator>) -> PageAction {
    PageAction::Press { keys: Spanned::new(keys.iter().map(ToString::to_string).collect(), span(3)), into }
}

fn select(target: Locator, options: Vec<SelectOption>) -> PageAction {
    PageAction::Select { target, options }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_filled_as_by_hand() {
    let mut bench = Bench::new(&[("/", FORM)]).await;
    bench.act(&goto("/")).await;
    for (name, id, text) in [
        ("Email", "email", "new@example.com"),
        ("Notes", "notes", "two\nlines"),
        ("When", "when", "2026-01-31"),
        ("How many", "many", "12"),
        ("Email", "email", ""),
        ("Email", "email", ""),
        ("Email", "email", "żółć ✓"),
    ] {
        bench.act(&fill(label(name), text)).await;
        assert_eq!(bench.js(&format!("return document.getElementById('{id}').value")).await, json!(text), "{name}");
    }
    bench.act(&fill(label("Rich"), "plain")).await;
    assert_eq!(bench.js("return document.getElementById('rich').innerText").await, "plain");
    let log = bench.js("return log").await.to_string();
    for event in ["email keydown n", "email input", "when input", "when change", "many keydown 1", "rich input"] {
        assert!(log.contains(event), "{event} is missing in {log}");
    }

    let failure = bench.fail(&fill(label("Locked"), "y")).await;
    assert_eq!(failure.reason, Reason::Timeout);
    assert!(failure.message.contains("read-only"), "{failure:?}");
    let failure = bench.fail(&fill(label("When"), "tomorrow")).await;
    assert!(failure.message.contains(r#"type date does not take "tomorrow""#), "{failure:?}");
    let failure = bench.fail(&fill(role("button", "Send"), "y")).await;
    assert!(failure.message.contains("not a field"), "{failure:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_chosen_and_keys_pressed() {
    let mut bench = Bench::new(&[("/", FORM)]).await;
    bench.act(&goto("/")).await;
    let text = |text: &str| SelectOption::Text(at(text));
    bench.act(&select(label("Size"), vec![text("Large one")])).await;
    assert_eq!(bench.js("return document.getElementById('size').value").await, "l");
    bench.act(&select(label("Size"), vec![SelectOption::Value(at("s"))])).await;
    assert_eq!(bench.js("return document.getElementById('size').value").await, "s");
    bench.act(&select(label("Extras"), vec![text("Salt"), text("Lemon")])).await;
    let chosen = "return [...document.getElementById('extras').selectedOptions].map(o => o.text)";
    assert_eq!(bench.js(chosen).await, json!(["Salt", "Lemon"]));
    let log = bench.js("return log").await.to_string();
    assert!(log.contains("size input") && log.contains("size change"), "{log}");
    let failure = bench.fail(&select(label("Size"), vec![text("Medium")])).await;
    assert!(failure.message.contains(r#"no option "Medium", but "Small", "Large one", "Huge""#), "{failure:?}");
    let failure = bench.fail(&select(label("Size"), vec![text("Huge")])).await;
    assert!(failure.message.contains("disabled"), "{failure:?}");
    let failure = bench.fail(&select(label("Size"), vec![text("Small"), text("Large one")])).await;
    assert!(failure.message.contains("accepts only one option"), "{failure:?}");

    bench.act(&press(&["Control", "A"], Some(label("Email")))).await;
    bench.act(&press(&["x"], None)).await;
    assert_eq!(bench.js("return document.getElementById('email').value").await, "x");
    bench.act(&press(&["Tab"], None)).await;
    assert_eq!(bench.js("return document.activeElement.id").await, "notes");
    bench.act(&press(&["Shift", "Tab"], None)).await;
    assert_eq!(bench.js("return document.activeElement.id").await, "email");
    let failure = bench.fail(&press(&["Entre"], None)).await;
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::Configuration, "`Entre` is not a key"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expectations_hold_or_say_what_was_seen() {
    let mut bench = Bench::new(&[("/", FORM)]).await;
    bench.act(&goto("/")).await;
    let element = |target: Locator, fact: ElementFact| PageFact::Element { target, facts: vec![fact] };
    let order = || target(LocatorStrategy::TestId(Matcher::text("order")));
    let ends = |text: &str| Matcher::EndsWith(Template::literal(text));
    for fact in [
        PageFact::Title(Matcher::text("Form")),
        PageFact::Url(ends("/")),
        PageFact::Visible(role("heading", "Order")),
        PageFact::Hidden(role("button", "Cancel")),
        PageFact::Hidden(css("#token")),
        element(order(), ElementFact::Text(Matcher::text("Order #1234"))),
        element(label("Email"), ElementFact::Value(ends("example.com"))),
        element(css("meta[name=version]"), ElementFact::Attribute("content".into(), Matcher::text("build 42"))),
        element(label("Email"), ElementFact::Attribute("aria-invalid".into(), Matcher::Exists(false))),
        element(css("option"), ElementFact::Count(Matcher::Equals(number(6)))),
        element(css("blink"), ElementFact::Count(Matcher::Equals(number(0)))),
        element(role("checkbox", "Agree"), ElementFact::Checked(true)),
        element(label("Email"), ElementFact::Enabled(true)),
        element(label("Email"), ElementFact::Focused(false)),
    ] {
        bench.act(&expect(fact)).await;
    }
    for (fact, reason, message, expected, seen) in [
        (
            PageFact::Title(Matcher::text("Sent")),
            Reason::Assertion,
            "the title does not match",
            r#""Sent""#,
            r#""Form""#,
        ),
        (
            element(order(), ElementFact::Text(Matcher::Matches(Pattern::new(Template::literal("#9+")).unwrap()))),
            Reason::Assertion,
            r#"the text of testid "order" does not match"#,
            "matches /#9+/",
            r#""Order #1234""#,
        ),
        (
            element(role("checkbox", "Agree"), ElementFact::Checked(false)),
            Reason::Assertion,
            r#"checkbox "Agree" is checked"#,
            "not checked",
            "checked",
        ),
        (
            PageFact::Hidden(role("button", "Send")),
            Reason::Assertion,
            r#"button "Send" is visible"#,
            r#"no visible button "Send""#,
            r#"button "Send" <button>"#,
        ),
        (
            PageFact::Visible(role("button", "Sign in")),
            Reason::NotFound,
            r#"no element matches button "Sign in""#,
            r#"button "Sign in""#,
            r#"1 button: "Send""#,
        ),
        (
            PageFact::Visible(css("#token")),
            Reason::NotFound,
            "css `#token` is not visible",
            "a visible element",
            r#"<input id="token" type="hidden">, which is not visible"#,
        ),
        (
            PageFact::Visible(css("select")),
            Reason::Ambiguous,
            "2 elements match css `select`",
            "one element: choose it with `within` or `nth`",
            r#"combobox "Size" <select id="size"> (nth 1, on screen), listbox "Extras" <select id="extras"> (nth 2, on screen)"#,
        ),
    ] {
        let failure = bench.fail(&expect(fact)).await;
        let told = (failure.reason, failure.message.as_str(), failure.expected.as_deref(), failure.seen.as_deref());
        assert_eq!(told, (reason, message, Some(expected), Some(seen)));
        assert!(failure.waited.unwrap() >= Duration::from_millis(500), "{failure:?}");
        assert_eq!(failure.span.map(|span| span.line), Some(9));
    }
    let failure = bench.fail(&expect(PageFact::Visible(css("a[")))).await;
    assert_eq!(failure.reason, Reason::Configuration, "{failure:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_saved_and_evidence_is_taken() {
    let mut bench = Bench::new(&[("/", FORM)]).await;
    bench.act(&goto("/")).await;
    bench.act(&click(role("button", "Send"))).await;
    let save = |name: &str, source: PageSource, matcher: Option<&str>| PageSave {
        name: Spanned::new(name.into(), span(4)),
        source,
        matcher: matcher.map(|pattern| Matcher::Matches(Pattern::new(Template::literal(pattern)).unwrap())),
        secret: name == "token",
    };
    let action = PageAction::Save(vec![
        save("order", PageSource::Text(css("#order")), Some("#([0-9]+)")),
        save("mail", PageSource::Value(label("Email")), None),
        save("token", PageSource::Value(css("#token")), None),
        save("build", PageSource::Attribute(css("meta[name=version]"), "content".into()), Some("build")),
        save("host", PageSource::Url, Some("http://([^:/]+)")),
    ]);
    let saved = bench.page.act(&action, &[], &bench.values, Duration::from_secs(5)).await.unwrap();
    let expected = [
        ("order", "1234", false),
        ("mail", "old@example.com", false),
        ("token", "t-1", true),
        ("build", "build", false),
        ("host", "127.0.0.1", false),
    ];
    assert_eq!(saved, expected.map(|(name, value, secret)| (name.to_owned(), json!(value), secret)));
    let failure = bench.fail(&PageAction::Save(vec![save("x", PageSource::Text(css("#order")), Some("@"))])).await;
    assert_eq!(failure.seen.as_deref(), Some(r#""Order #1234""#), "{failure:?}");

    let picture = bench.page.screenshot(None, false, &[], &bench.values, Duration::from_secs(9)).await.unwrap();
    assert_eq!(&picture[..4], b"\x89PNG");
    // Bytes 16 to 24 of a PNG are its width and height.
    assert_eq!(picture[16..24], [1280u32.to_be_bytes(), 800u32.to_be_bytes()].concat());
    let evidence = bench.page.evidence().await;
    let kinds: Vec<_> = evidence.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(
        kinds,
        [EvidenceKind::Screenshot, EvidenceKind::Accessibility, EvidenceKind::Source, EvidenceKind::Page]
    );
    assert!(String::from_utf8_lossy(&evidence[2].2).contains("contenteditable"));
    let page: serde_json::Value = serde_json::from_slice(&evidence[3].2).unwrap();
    assert_eq!(page["title"], "Sent");
    assert!(page["console"].to_string().contains("sent it"), "{page}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_hangs_is_their_fault_and_bounded() {
    let mut bench =
        Bench::new(&[("/", "<title>x</title><button onclick='for (;;) {}'>Spin</button><a href=/hang>Go</a>")]).await;
    bench.act(&goto("/")).await;
    let failure = bench.within(1.0, &click(role("link", "Go"))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout, "{failure:?}");
    bench.act(&goto("/")).await;
    let since = Instant::now();
    let failure = bench.within(1.0, &click(role("button", "Spin"))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Timeout, "{failure:?}");
    // The session is unusable afterwards and reports it at once.
    assert_eq!(bench.fail(&goto("/")).await.reason, Reason::Timeout);
    let kept: Vec<_> = bench.page.evidence().await.into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kept, [crate::outcome::EvidenceKind::Page], "what was heard of it");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    bench.end().await;
}
