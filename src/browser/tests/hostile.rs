//! Pages that obstruct scripts: by overwriting the language or DOM names, by forbidding scripts, and by their size.

use serde_json::json;

use super::*;
use crate::names::Reason;
use crate::scenario::{ElementFact, Engine, PageSave, PageSource, SelectOption};

const FORM: &str = "<title>Old site</title><h1>Old site</h1><label>Name <input id=n></label>
<select aria-label=Size id=s><option>Small<option>Large</select><label><input type=checkbox id=c> Agree</label>
<button id=b>Send</button><p id=out data-testid=out>waiting</p><ul><li>One</li><li>Two</li></ul>
<script>const at = id => document.getElementById(id), n = at('n'), s = at('s'), c = at('c'), out = at('out');
at('b').onclick = function () { out.textContent = 'hello ' + n.value + ' ' + s.value + ' ' + c.checked; }</script>";

/// Changes that pages make to the language and the DOM.
const OVERWRITTEN: &[&str] = &[
    "window.Map = window.Set = window.WeakMap = function () {}",
    "window.Event = window.CustomEvent = function () { throw new Error('no events'); }",
    "window.Promise = function () { throw new Error('no promises'); }",
    "window.Node = window.Element = window.HTMLElement = {}",
    "window.JSON = {stringify: function () { return 'broken'; }, parse: null}",
    "Array.prototype.find = function () { return null; }; Array.prototype.filter = function () { return ['x']; }",
    "Array.prototype.map = function () { return []; }; Array.prototype.includes = function () { return false; }",
    "Array.prototype[Symbol.iterator] = function* () {}; Array.from = function () { return []; }",
    "Array.prototype.toJSON = Object.prototype.toJSON = String.prototype.toJSON = function () { return 'json'; }",
    "Object.prototype.extra = function () {}; Array.prototype.each = function () {}",
    "String.prototype.trim = String.prototype.replace = function () { return 'x'; }; RegExp.prototype.test = () => true",
    "Function.prototype.apply = Function.prototype.call = function () { return null; }",
    "Element.prototype.matches = function () { throw new Error('ours'); }; Element.prototype.closest = null",
    "Object.defineProperty(Element.prototype, 'localName', {get: () => 'nothing'})",
    "window.setTimeout = window.requestAnimationFrame = function () { return 1; }; performance.now = () => 0",
];

fn text_is(id: &str, text: &str) -> PageAction {
    expect(PageFact::Element { target: css(id), facts: vec![ElementFact::Text(Matcher::text(text))] })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_overwrites_does_not_matter() {
    let texts: Vec<(String, String)> = OVERWRITTEN
        .iter()
        .enumerate()
        .map(|(at, script)| (format!("/{at}"), format!("<script>{script}</script>{FORM}")))
        .collect();
    let pages: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    for engine in [Engine::Chromium, Engine::Firefox] {
        let mut bench = Bench::of(engine, &pages).await;
        let mut wrong = Vec::new();
        for (at, script) in OVERWRITTEN.iter().enumerate() {
            let steps = [
                goto(&format!("/{at}")),
                fill(label("Name"), "Anna"),
                PageAction::Select { target: label("Size"), options: vec![SelectOption::Text(self::at("Large"))] },
                PageAction::Check { target: role("checkbox", "Agree"), on: true },
                click(role("button", "Send")),
                text_is("#out", "hello Anna Large true"),
                expect(PageFact::Element {
                    target: css("li"),
                    facts: vec![ElementFact::Count(Matcher::Equals(number(2)))],
                }),
                expect(PageFact::Visible(target(LocatorStrategy::Text(Matcher::text("Two"))))),
            ];
            for step in &steps {
                if let Err(failure) = bench.within(10.0, step).await {
                    wrong.push(format!("{engine}: {script}\n  {step:?}\n  {failure:?}"));
                    break;
                }
            }
            // A scenario's script runs in the page's world, which includes the functions by which drivers call it and
            // read its result.
            let is_of_driver = |text: &str| script.contains(text);
            if is_of_driver("Function.prototype.apply") || engine == Engine::Firefox && is_of_driver("Symbol.iterator")
            {
                continue;
            }
            let save = PageAction::Save(vec![PageSave {
                name: self::at_name("v"),
                source: PageSource::Script(Spanned::new("return [1, {a: 'b'}]".into(), span(1))),
                matcher: None,
                secret: false,
            }]);
            match bench.page.act(&save, &[], &bench.values, Duration::from_secs(10)).await {
                Ok(saved) if saved[0].1 == json!([1, {"a": "b"}]) => {}
                other => wrong.push(format!("{engine}: {script}\n  {other:?}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        bench.end().await;
    }
}

fn at_name(name: &str) -> Spanned<String> {
    Spanned::new(name.into(), span(1))
}

/// Checks that fields of a form and images of a document do not hide DOM properties of the same name.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_calls_its_fields_does_not_matter() {
    let names = [
        "matches",
        "labels",
        "parentElement",
        "getRootNode",
        "getAttribute",
        "hasAttribute",
        "children",
        "childNodes",
        "localName",
        "nodeType",
        "namespaceURI",
        "textContent",
        "innerText",
        "shadowRoot",
        "title",
        "id",
        "type",
        "value",
        "checked",
        "inert",
        "tabIndex",
        "closest",
        "contains",
        "isConnected",
        "getBoundingClientRect",
        "getClientRects",
        "checkVisibility",
        "scrollIntoView",
        "focus",
        "toJSON",
        "assignedSlot",
        "querySelectorAll",
    ];
    let fields: String = names.iter().map(|name| format!("<input type=hidden name={name}>")).collect();
    let images: String =
        ["querySelectorAll", "body", "title", "URL", "elementFromPoint", "activeElement", "evaluate", "getElementById"]
            .iter()
            .map(|name| format!("<img alt='' name={name}>"))
            .collect();
    let html = format!(
        "<title>Names</title>{images}<form aria-label=Order onsubmit='event.preventDefault(); out.textContent = note.value'>{fields}
         <label>Note <input id=note></label><p>Total: <b>12</b></p><button>Order</button></form><p id=out></p>"
    );
    for engine in [Engine::Chromium, Engine::Firefox] {
        let mut bench = Bench::of(engine, &[("/", &html)]).await;
        bench.act(&goto("/")).await;
        bench.act(&click(label("Note"))).await;
        bench.act(&fill(label("Note"), "mug")).await;
        bench.act(&click(role("button", "Order"))).await;
        bench.act(&text_is("#out", "mug")).await;
        bench.act(&expect(PageFact::Visible(role("form", "Order")))).await;
        bench.act(&text_is("form", "Note Total: 12 Order")).await;
        bench.act(&expect(PageFact::Visible(target(LocatorStrategy::Xpath(Template::literal("//form//b")))))).await;
        let evidence = bench.page.evidence().await;
        let tree = evidence.iter().find(|(_, name, _)| *name == "failure.aria.txt").map(|(.., tree)| tree);
        let tree = String::from_utf8_lossy(tree.unwrap()).into_owned();
        assert!(tree.contains("form \"Order\"") && tree.contains("textbox \"Note\""), "{engine}: {tree}");
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_without_scripts_are_driven_all_the_same() {
    let mail =
        "<p>Your code is <b data-testid=code>428193</b></p><p><a href=/home target=_top>Confirm your address</a></p>";
    let framed = format!(
        "<h1>Inbox</h1><iframe title=Message sandbox='allow-same-origin allow-top-navigation-by-user-activation' srcdoc=\"{mail}\"></iframe>"
    );
    let pages = [
        ("/mail", framed.as_str()),
        ("/home", "<h1>Home</h1>"),
        ("/sandboxed", "<label>Name <input></label><label><input type=checkbox> Agree</label><a href=/home>Home</a>"),
    ];
    for engine in [Engine::Chromium, Engine::Firefox] {
        let mut bench = Bench::of(engine, &pages).await;
        let home = expect(PageFact::Visible(role("heading", "Home")));
        bench.act(&goto("/sandboxed")).await;
        bench.act(&fill(label("Name"), "Anna")).await;
        bench.act(&PageAction::Check { target: role("checkbox", "Agree"), on: true }).await;
        let facts = vec![ElementFact::Value(Matcher::text("Anna"))];
        bench.act(&expect(PageFact::Element { target: label("Name"), facts })).await;
        bench.act(&click(role("link", "Home"))).await;
        bench.act(&home).await;
        bench.act(&goto("/mail")).await;
        let frame = [target(LocatorStrategy::Title(Matcher::text("Message")))];
        let within = Duration::from_secs_f64(PATIENCE);
        let code =
            PageFact::Visible(target(LocatorStrategy::Text(Matcher::Contains(Template::literal("Your code is")))));
        bench.page.act(&expect(code), &frame, &bench.values, within).await.unwrap();
        let confirm = click(role("link", "Confirm your address"));
        bench.page.act(&confirm, &frame, &bench.values, within).await.unwrap();
        bench.act(&home).await;
        bench.end().await;
    }
}

/// Nests more elements than a script can traverse.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_failure_is_not_theirs() {
    let deep = "<h1 id=root></h1><script>let at = document.getElementById('root');
        for (let i = 0; i < 6000; i++) at = at.appendChild(document.createElement('i')); at.textContent = 'word';</script>";
    let mut bench = Bench::new(&[("/deep", deep)]).await;
    bench.act(&goto("/deep")).await;
    let failure = bench.within(20.0, &expect(PageFact::Visible(role("heading", "word")))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Inspection, "{failure:?}");
    assert!(failure.message.contains("own script failed on http://127.0.0.1:"), "{failure:?}");
    assert!(failure.message.contains("/deep"), "{failure:?}");
    bench.end().await;
}

/// Searches a page with twenty thousand rows.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_many_elements_are_looked_through() {
    let long = "word ".repeat(9000);
    let html = format!(
        "<h1>Ledger</h1><p id=long>{long}end</p><table id=t></table><p id=out></p><script>let h = '';
         for (let i = 1; i <= 20000; i++) h += `<tr><td>Entry ${{i}}</td><td><a href='#${{i}}'>Details</a></td><td><button data-i=${{i}}>Pay ${{i}}</button></td></tr>`;
         t.innerHTML = h; t.onclick = e => {{ if (e.target.dataset.i) out.textContent += 'paid ' + e.target.dataset.i + ' '; }}</script>"
    );
    let mut bench = Bench::new(&[("/", &html)]).await;
    bench.act(&goto("/")).await;
    bench.act(&click(role("button", "Pay 15000"))).await;
    let named = |role: &str, matcher| target(LocatorStrategy::Role { role: role.into(), name: Some(matcher) });
    let row = named("row", Matcher::Contains(Template::literal("Entry 19999 ")));
    let pay = named("button", Matcher::StartsWith(Template::literal("Pay")));
    bench.act(&click(Locator { within: Some(Box::new(row)), ..pay })).await;
    let last = crate::scenario::Pattern::new(Template::literal("^Pay 2000{4}$|^Pay 20000$")).unwrap();
    bench.act(&click(named("button", Matcher::Matches(last)))).await;
    bench.act(&text_is("#out", "paid 15000 paid 19999 paid 20000")).await;
    bench.act(&expect(PageFact::Visible(target(LocatorStrategy::Text(Matcher::text(format!("{long}end"))))))).await;
    // A search that exceeds its time limit is reported as such.
    let query = json!({"queries": [{"kind": "role", "role": "button", "accept": ["Pay 1"]}], "budget": 0.001});
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let answer = bench.page.script("return wachta.locate(arguments[0]);", &query, deadline).await.unwrap();
    assert!(answer[0]["slow"].as_u64().is_some_and(|elements| elements > 120_000), "{answer}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_read_as_people_see_them_and_small_differences_are_said() {
    let html = "<title>x</title><button>Sign&shy;&nbsp;in</button><button>\u{200b}Check\u{2060}out\u{200e}</button>
        <label>E-mail: <input></label><a href=/>Read  More</a><p>Thank you for your order</p><h2>Details</h2><button>SAVE</button>";
    let mut bench = Bench::new(&[("/", html)]).await;
    bench.act(&goto("/")).await;
    let text = |text: &str| target(LocatorStrategy::Text(Matcher::text(text)));
    for target in [
        role("button", "Sign in"),
        role("button", "Checkout"),
        role("button", "Check\u{ad}out"),
        role("link", "Read More"),
    ] {
        bench.act(&expect(PageFact::Visible(target))).await;
    }
    for (target, part) in [
        (role("button", "sign in"), r#""Sign in" differs only in case"#),
        (label("E-mail"), r#""E-mail:" differs only in a colon"#),
        (role("link", "ReadMore"), r#""Read More" differs only in white space"#),
        (role("heading", "Details…"), r#""Details" differs only in punctuation at its end"#),
        (text("thank you for your order"), r#""Thank you for your order" in <p>, which differs only in case"#),
        (role("button", "Sve"), r#"3 buttons: "SAVE", "#),
    ] {
        let failure = bench.fail(&click(target.clone())).await;
        let seen = failure.seen.clone().unwrap_or_default();
        assert!(seen.contains(part), "{target:?}: `{part}` is not in `{seen}`");
    }
    bench.end().await;
}
