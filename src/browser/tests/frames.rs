//! Frames, and locators with `nth`, `within` and `any_of`.

use serde_json::json;

use super::*;
use crate::names::Reason;
use crate::scenario::{ElementFact, PageSave, PageSource};

fn title(text: &str) -> Locator {
    target(LocatorStrategy::Title(Matcher::text(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_act_in_frames_and_come_back() {
    let card = "<title>card</title><label>Card number <input id=number></label><button onclick=\"result.textContent = number.value\">Pay</button><p id=result></p>";
    let far = site(&[("/card", card)]).await.replace("127.0.0.1", "localhost");
    let outer =
        format!("<title>outer</title><iframe title='Secure card form' src='{far}card' width=400 height=200></iframe>");
    let top = "<title>top</title><button onclick=\"document.title = 'clicked'\">Pay</button><div style='height:1500px'></div>
        <iframe name=shop src=/outer width=500 height=300></iframe><p title=none>text</p>
        <script>setTimeout(() => document.querySelector('iframe').replaceWith(Object.assign(document.createElement('iframe'), {name: 'shop', src: '/outer', width: 500, height: 300})), 600)</script>";
    let mut bench = Bench::new(&[("/", top), ("/outer", &outer)]).await;
    bench.act(&goto("/")).await;
    let frames = [css("iframe[name=shop]"), title("Secure card form")];
    let within = Duration::from_secs(10);
    // The page keeps replacing the frame meanwhile.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1200) {
        bench.page.act(&fill(label("Card number"), "4242"), &frames, &bench.values, within).await.unwrap();
    }
    bench.page.act(&click(role("button", "Pay")), &frames, &bench.values, within).await.unwrap();
    let paid =
        expect(PageFact::Element { target: css("#result"), facts: vec![ElementFact::Text(Matcher::text("4242"))] });
    bench.page.act(&paid, &frames, &bench.values, within).await.unwrap();
    let outer_title = expect(PageFact::Title(Matcher::text("outer")));
    bench.page.act(&outer_title, &frames[..1], &bench.values, within).await.unwrap();
    let save = PageAction::Save(vec![PageSave {
        name: Spanned::new("paid".into(), span(1)),
        source: PageSource::Text(css("#result")),
        matcher: None,
        secret: false,
    }]);
    let saved = bench.page.act(&save, &frames, &bench.values, within).await.unwrap();
    assert_eq!(saved, [("paid".to_owned(), json!("4242"), false)]);
    let script = PageAction::Script {
        script: Spanned::new("return document.title".into(), span(1)),
        args: vec![],
        save: Some(Spanned::new("t".into(), span(1))),
    };
    let saved = bench.page.act(&script, &frames, &bench.values, within).await.unwrap();
    assert_eq!(saved[0].1, "card");
    let picture = bench.page.screenshot(Some(&css("button")), false, &frames, &bench.values, within).await.unwrap();
    assert_eq!(&picture[..4], b"\x89PNG");
    // The frame is left after a failure as well.
    let short = Duration::from_millis(600);
    let failure = bench.page.act(&click(role("button", "Cancel")), &frames, &bench.values, short).await.unwrap_err();
    assert_eq!(failure.message, r#"no element matches button "Cancel""#);
    let failure =
        bench.page.act(&click(role("button", "Pay")), &[title("Nowhere")], &bench.values, short).await.unwrap_err();
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::NotFound, r#"no element matches title "Nowhere""#));
    let failure =
        bench.page.act(&click(role("button", "Pay")), &[title("none")], &bench.values, short).await.unwrap_err();
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::Configuration, "<p> is not a frame"));
    bench.act(&click(role("button", "Pay"))).await;
    assert_eq!(bench.js("return document.title").await, "clicked");
    // The failure names the frame that contains the element, whatever its origin.
    let failure =
        bench.page.act(&fill(label("Card number"), "1"), &frames[..1], &bench.values, short).await.unwrap_err();
    let hint = r#"it is in frame Secure card form: add `within_frame: {title: "Secure card form"}`"#;
    assert!(failure.seen.as_deref().is_some_and(|seen| seen.contains(hint)), "{failure:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_in_another_or_any() {
    let html = "<title>no</title><style>button{display:block}</style><ul><li id=tea>Tea <button>Buy</button><li id=mug>Mug <button>Buy</button> <button>Gift</button></ul>
        <div id=host></div><a href=#login>Log in</a>
        <script>host.attachShadow({mode: 'open'}).innerHTML = '<section aria-label=Deep><slot></slot><button>Buy</button></section>';
        onclick = e => document.title = (e.composedPath()[0].closest('li') || {id: 'deep'}).id + ' ' + e.composedPath()[0].textContent;</script>";
    let mut bench = Bench::new(&[("/", html)]).await;
    bench.act(&goto("/")).await;
    let buy = || role("button", "Buy");
    let nth = |target: Locator, n: u32| Locator { nth: Some(n), ..target };
    let within = |target: Locator, outer: Locator| Locator { within: Some(Box::new(outer)), ..target };
    let log_in =
        target(LocatorStrategy::Role { role: "link".into(), name: Some(Matcher::Contains(Template::literal("Log"))) });
    let any = |targets: Vec<Locator>| target(LocatorStrategy::AnyOf(targets));
    for (target, clicked) in [
        (nth(buy(), 2), "mug Buy"),
        (within(buy(), css("#tea")), "tea Buy"),
        (within(buy(), nth(css("li"), 2)), "mug Buy"),
        (nth(within(target(LocatorStrategy::Role { role: "button".into(), name: None }), css("#mug")), 2), "mug Gift"),
        (within(buy(), role("region", "Deep")), "deep Buy"),
        (nth(within(buy(), within(css("li"), css("ul:has(#mug)"))), 1), "tea Buy"),
        (any(vec![role("button", "Gift"), buy()]), "mug Gift"),
        (any(vec![role("button", "Sign in"), log_in]), "deep Log in"),
        (within(any(vec![role("link", "Buy"), buy()]), css("#mug")), "mug Buy"),
    ] {
        bench.act(&click(target.clone())).await;
        assert_eq!(bench.js("return document.title").await, clicked, "{target:?}");
    }
    assert_eq!(
        bench.page.take_drifts(),
        [
            r#"button "Sign in" was not found; link that contains "Log" was used"#,
            r#"link "Buy" was not found; button "Buy" was used"#
        ]
    );
    assert!(bench.page.take_drifts().is_empty());
    for (target, reason, text) in [
        (nth(buy(), 4), Reason::NotFound, "3 elements match"),
        (within(buy(), css("#none")), Reason::NotFound, "the containing element was not found"),
        (within(buy(), css("ul")), Reason::Ambiguous, "2 elements match"),
        (any(vec![role("button", "No"), role("link", "Nor")]), Reason::NotFound, r#"any of button "No", link "Nor""#),
    ] {
        let failure = bench.fail(&click(target)).await;
        assert_eq!(failure.reason, reason, "{failure:?}");
        assert!(format!("{} {:?}", failure.message, failure.seen).contains(text), "{failure:?}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_conditions_are_looked_at() {
    let mut bench =
        Bench::new(&[("/", "<title>home</title><script>document.cookie = 'plan=gold'</script><p>Hello</p>")]).await;
    bench.act(&goto("/")).await;
    let cookie = |name: &str, matcher: Matcher| PageFact::Cookie(name.into(), matcher);
    bench.act(&expect(cookie("plan", Matcher::text("gold")))).await;
    bench.act(&expect(cookie("none", Matcher::Exists(false)))).await;
    let failure = bench.fail(&expect(cookie("plan", Matcher::text("tin")))).await;
    assert_eq!(failure.message, "the cookie `plan` does not match");
    let save = |source: PageSource| {
        PageAction::Save(vec![PageSave {
            name: Spanned::new("v".into(), span(1)),
            source,
            matcher: None,
            secret: false,
        }])
    };
    for (source, value) in [
        (PageSource::Cookie("plan".into()), json!("gold")),
        (PageSource::Script(Spanned::new("return {n: 1}".into(), span(1))), json!({"n": 1})),
    ] {
        let saved = bench.page.act(&save(source), &[], &bench.values, Duration::from_secs(5)).await.unwrap();
        assert_eq!(saved[0].1, value);
    }
    let failure = bench.fail(&save(PageSource::Script(Spanned::new("throw 'late'".into(), span(1))))).await;
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::Script, "the script threw late"));
    let holds = |what: PageFact| vec![PageExpectation { span: span(2), what }];
    for (what, expected) in [
        (PageFact::Visible(target(LocatorStrategy::Text(Matcher::text("Hello")))), true),
        (PageFact::Visible(target(LocatorStrategy::Text(Matcher::text("Bye")))), false),
        (PageFact::Title(Matcher::text("home")), true),
    ] {
        let since = Instant::now();
        assert_eq!(bench.page.holds(&holds(what), &bench.values, Duration::from_secs(5)).await.unwrap(), expected);
        assert!(since.elapsed() < Duration::from_secs(2));
    }
    assert!(bench.page.holds(&holds(PageFact::Console), &bench.values, Duration::from_secs(5)).await.unwrap());
    let status = |matcher| PageAction::Goto { url: at("/404"), status: Some(matcher) };
    bench.act(&status(Matcher::Equals(number(404)))).await;
    let empty = PageAction::Goto { url: at("/503-empty"), status: Some(Matcher::Equals(number(503))) };
    bench.act(&empty).await;
    let failure = bench.fail(&status(Matcher::Equals(number(200)))).await;
    assert_eq!((failure.reason, failure.seen.as_deref()), (Reason::Status, Some("404")));
    bench.end().await;
}
