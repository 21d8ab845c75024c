//! Fields and checkboxes of every kind, uploads, and scripts.

use serde_json::json;

use super::*;
use crate::names::Reason;

const FIELDS: &str = r"<title>Fields</title><label>Name <input id=name value=Ada></label> <label>Mail <input id=mail type=email value=a@b></label>
<label>Many <input id=many type=number value=4></label> <label>Notes <textarea id=notes>one</textarea></label>
<div id=rich contenteditable role=textbox aria-label=Rich><p>old <b>text</b></p></div><label>Look <input id=look readonly></label>
<label>Day <input id=day type=date></label> <label>At <input id=at type=time></label> <label>When <input id=when type=datetime-local></label>
<label>Month <input id=month type=month></label> <label>Week <input id=week type=week></label>
<label>Colour <input id=colour type=color></label> <label>Volume <input id=volume type=range max=50 step=5></label>
<div id=host></div><script>const root = host.attachShadow({mode: 'open'});
root.innerHTML = '<label>Deep <input value=old></label><div contenteditable role=textbox aria-label=Editor>x</div>';</script>";

fn append(target: Locator, with: &str) -> PageAction {
    PageAction::Fill { target, with: at(with), append: true, becomes: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_field_is_filled_and_cleared() {
    let mut bench = Bench::new(&[("/", FIELDS)]).await;
    bench.act(&goto("/")).await;
    for (name, id, text) in [
        ("Day", "day", "2026-02-28"),
        ("At", "at", "23:59"),
        ("When", "when", "2026-02-28T08:30"),
        ("Month", "month", "2026-02"),
        ("Week", "week", "2026-W07"),
        ("Colour", "colour", "#ff8800"),
        ("Volume", "volume", "35"),
        ("Notes", "notes", "a\nb"),
    ] {
        bench.act(&fill(label(name), text)).await;
        assert_eq!(bench.js(&format!("return document.getElementById('{id}').value")).await, json!(text), "{name}");
    }
    let failure = bench.fail(&fill(label("Volume"), "36")).await;
    assert!(failure.message.contains(r#"type range does not take "36""#), "{failure:?}");
    for (name, id, more, result) in [
        ("Name", "name", " L.", "Ada L."),
        ("Mail", "mail", ".org", "a@b.org"),
        ("Many", "many", "2", "42"),
        ("Notes", "notes", "\nc", "a\nb\nc"),
    ] {
        bench.act(&append(label(name), more)).await;
        assert_eq!(bench.js(&format!("return document.getElementById('{id}').value")).await, json!(result), "{name}");
        bench.act(&PageAction::Clear(label(name))).await;
        assert_eq!(bench.js(&format!("return document.getElementById('{id}').value")).await, "", "{name}");
    }
    bench.act(&append(label("Rich"), " more")).await;
    assert_eq!(bench.js("return document.getElementById('rich').innerText").await, "old text more");
    bench.act(&fill(label("Rich"), "new")).await;
    assert_eq!(bench.js("return document.getElementById('rich').innerText.trim()").await, "new");
    bench.act(&PageAction::Clear(label("Rich"))).await;
    assert_eq!(bench.js("return document.getElementById('rich').innerText.trim()").await, "");
    // A label leads to its field, across shadow roots too.
    bench.act(&fill(target(LocatorStrategy::Text(Matcher::text("Name"))), "by label")).await;
    assert_eq!(bench.js("return document.getElementById('name').value").await, "by label");
    bench.act(&append(label("Deep"), "er")).await;
    let value = "return document.getElementById('host').shadowRoot.querySelector('input').value";
    assert_eq!(bench.js(value).await, "older");
    bench.act(&PageAction::Clear(label("Deep"))).await;
    assert_eq!(bench.js(value).await, "");
    for text in ["first", "found"] {
        bench.act(&fill(label("Deep"), text)).await;
    }
    bench.act(&fill(label("Editor"), "typed")).await;
    let deep = "const root = document.getElementById('host').shadowRoot; return [root.querySelector('input').value, root.querySelector('div').innerText]";
    assert_eq!(bench.js(deep).await, json!(["found", "typed"]));
    assert!(bench.fail(&PageAction::Clear(label("Look"))).await.message.contains("read-only"));
    assert!(bench.fail(&append(label("Day"), "1")).await.message.contains("type date"));
    bench.end().await;
}

const BOXES: &str = r#"<title>Boxes</title><label><input type=checkbox id=plain> Plain</label>
<style>.hide{position:absolute;opacity:0;width:0;height:0}</style>
<input type=checkbox id=styled class=hide><label for=styled>Styled</label>
<input type=checkbox id=half><label for=half>Half</label><script>half.indeterminate = true; window.clicks = 0; plain.onclick = () => clicks += 1;</script>
<div role=switch id=dark aria-checked=false tabindex=0 onclick="setTimeout(() => this.setAttribute('aria-checked', this.getAttribute('aria-checked') !== 'true'), 300)">Dark</div>
<div role=checkbox id=dead aria-checked=false onclick="0">Dead</div><label><input type=radio name=r id=r1> One</label><label><input type=radio name=r id=r2> Two</label>"#;

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_clicked_only_when_they_differ() {
    let mut bench = Bench::new(&[("/", BOXES)]).await;
    bench.act(&goto("/")).await;
    let check = |target: Locator, on: bool| PageAction::Check { target, on };
    for _ in 0..2 {
        bench.act(&check(role("checkbox", "Plain"), true)).await;
    }
    bench.act(&check(label("Styled"), true)).await;
    bench.act(&check(target(LocatorStrategy::Text(Matcher::text("Half"))), true)).await;
    bench.act(&check(role("switch", "Dark"), true)).await;
    bench.act(&check(role("radio", "Two"), true)).await;
    let states =
        "return [plain.checked, styled.checked, half.checked, dark.getAttribute('aria-checked'), r2.checked, clicks]";
    assert_eq!(bench.js(states).await, json!([true, true, true, "true", true, 1]));
    bench.act(&check(role("checkbox", "Plain"), false)).await;
    bench.act(&check(role("switch", "Dark"), false)).await;
    assert_eq!(bench.js(states).await, json!([false, true, true, "false", true, 2]));
    let failure = bench.fail(&check(role("checkbox", "Dead"), true)).await;
    assert_eq!(failure.message, r#"checkbox "Dead" is there, but it is not checked"#);
    let failure = bench.fail(&check(role("radio", "Two"), false)).await;
    assert!(failure.message.contains("cannot be unchecked"), "{failure:?}");
    let failure = bench.fail(&check(css("style"), true)).await;
    assert!(failure.message.contains("not a box"), "{failure:?}");
    bench.end().await;
}

const UPLOADS: &str = r#"<title>Uploads</title><label>One <input type=file id=one></label>
<input type=file id=many multiple hidden><label for=many>Many</label>
<form><div><button type=button>Choose</button><input type=file id=behind style="display:none"></div></form><button>Lone</button>"#;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_to_fields_near_and_far() {
    let mut bench = Bench::new(&[("/", UPLOADS)]).await;
    let upload = |target: Locator, files: &[&str]| PageAction::Upload {
        target,
        files: files.iter().map(|file| at(file)).collect(),
    };
    let of = |id: &str| {
        format!(
            "return Promise.all([...document.getElementById('{id}').files].map(async file => file.name + ' ' + await file.text()))"
        )
    };
    bench.act(&goto("/")).await;
    bench.act(&upload(label("One"), &["files/a.txt"])).await;
    bench.act(&upload(label("One"), &["files/b.txt"])).await;
    assert_eq!(bench.js(&of("one")).await, json!(["b.txt B"]));
    bench.act(&upload(target(LocatorStrategy::Text(Matcher::text("Many"))), &["files/a.txt", "files/b.txt"])).await;
    bench.act(&upload(target(LocatorStrategy::Text(Matcher::text("Many"))), &["files/b.txt", "files/a.txt"])).await;
    assert_eq!(bench.js(&of("many")).await, json!(["b.txt B", "a.txt A"]));
    bench.act(&upload(role("button", "Choose"), &["files/a.txt"])).await;
    assert_eq!(bench.js(&of("behind")).await, json!(["a.txt A"]));
    for (action, text) in [
        (upload(label("One"), &["files/a.txt", "files/b.txt"]), "accepts only one file"),
        (upload(label("One"), &["files/none"]), "not there"),
    ] {
        let failure = bench.fail(&action).await;
        assert!(failure.message.contains(text), "{failure:?}");
        assert_eq!(failure.reason, Reason::Configuration);
    }
    let failure = bench.within(3.0, &upload(role("button", "Lone"), &["files/a.txt"])).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotFound);
    assert!(failure.message.contains("opens no file chooser"), "{failure:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_return_throw_and_end() {
    let csp = "<meta http-equiv=content-security-policy content=\"script-src 'none'\"><title>strict</title>";
    let mut bench = Bench::new(&[("/", csp), ("/next", "<title>next</title>")]).await;
    bench.act(&goto("/")).await;
    let script = |body: &str| PageAction::Script {
        script: Spanned::new(body.into(), span(5)),
        args: vec![number(2), Value::Text(Template::literal("b"))],
        save: Some(Spanned::new("result".into(), span(5))),
    };
    for (body, result) in [
        ("return {n: arguments[0] + 1, t: arguments[1]}", json!({"n": 3, "t": "b"})),
        ("return new Promise(done => setTimeout(() => done([1, null, 'x']), 20)) // later", json!([1, null, "x"])),
        ("const title = await Promise.resolve(document.title); return title", json!("strict")),
        ("document.title = 'changed'", json!(null)),
    ] {
        let saved = bench.page.act(&script(body), &[], &bench.values, Duration::from_secs(5)).await.unwrap();
        assert_eq!(saved, [("result".to_owned(), result, false)]);
    }
    for (body, reason, text) in [
        ("throw new TypeError('no way')", Reason::Script, "the script threw TypeError: no way"),
        ("return Promise.reject({code: 7})", Reason::Script, r#"the script threw {"code":7}"#),
        ("return nothing.at.all", Reason::Script, "nothing is not defined"),
        ("return (", Reason::Script, "Unexpected token"),
        ("return new Promise(() => {})", Reason::Timeout, "did not end in time"),
    ] {
        let failure = bench.fail(&script(body)).await;
        assert_eq!(failure.reason, reason, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
        assert_eq!(failure.span.map(|span| span.line), Some(5));
    }
    let leave = PageAction::Script {
        script: Spanned::new("location.href = '/next'".into(), span(5)),
        args: vec![],
        save: None,
    };
    bench.act(&leave).await;
    bench.act(&expect(PageFact::Title(Matcher::text("next")))).await;
    bench.end().await;
}
