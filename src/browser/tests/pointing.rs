//! Mouse actions: buttons, positions, hovering, dragging, scrolling.

use serde_json::json;

use super::*;
use crate::scenario::{Engine, MouseButton, Scroll};

const PAD: &str = "<title>pad</title><style>body{margin:0}#pad{border:0;position:absolute;left:50px;top:40px;width:200px;height:100px;background:#ccc}</style>
<button id=pad>Pad</button><script>window.log = [];
for (const kind of ['click', 'auxclick', 'contextmenu', 'dblclick', 'mouseenter']) pad.addEventListener(kind, e => log.push([kind, e.button, e.offsetX, e.offsetY]));
oncontextmenu = e => e.preventDefault();</script>";

#[tokio::test(flavor = "multi_thread")]
async fn clicks_have_a_button_and_a_place() {
    let tall = "<style>#x{height:3000px;width:300px;display:block}</style><a id=x href=#a onclick=\"document.title = event.offsetY\">Tall</a>";
    let mut bench = Bench::new(&[("/", PAD), ("/tall", tall)]).await;
    bench.act(&goto("/")).await;
    let pad = || role("button", "Pad");
    let click = |button, position| PageAction::Click { target: pad(), button, position, force: false };
    bench.act(&click(MouseButton::Left, None)).await;
    bench.act(&click(MouseButton::Left, Some((10.0, 20.0)))).await;
    bench.act(&click(MouseButton::Right, None)).await;
    bench.act(&click(MouseButton::Middle, Some((190.0, 90.0)))).await;
    bench.act(&PageAction::DoubleClick(pad())).await;
    let log = bench.js("return log").await;
    let has = |entry: serde_json::Value| assert!(log.as_array().unwrap().contains(&entry), "{entry} is not in {log}");
    has(json!(["click", 0, 100, 50]));
    has(json!(["click", 0, 10, 20]));
    has(json!(["contextmenu", 2, 100, 50]));
    has(json!(["auxclick", 1, 190, 90]));
    has(json!(["dblclick", 0, 100, 50]));
    let failure = bench.fail(&click(MouseButton::Left, Some((500.0, 5.0)))).await;
    assert!(failure.message.contains("only 200x100 pixels large"), "{failure:?}");

    bench.act(&goto("/tall")).await;
    let far = PageAction::Click {
        target: role("link", "Tall"),
        button: MouseButton::Left,
        position: Some((5.0, 2500.0)),
        force: false,
    };
    bench.act(&far).await;
    assert_eq!(bench.js("return document.title").await, "2500");

    bench.act(&goto("/")).await;
    bench.act(&PageAction::Hover(pad())).await;
    assert_eq!(bench.js("return log.map(one => one[0])").await, json!(["mouseenter"]));
    assert_eq!(bench.js("return document.querySelector('#pad:hover') !== null").await, true);
    bench.end().await;
}

/// Uses a wizard whose pages are alike: an action for the next page must not be performed on the current one.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_click_or_a_key_is_done_on_the_page_that_it_opens() {
    let page = |to: &str| {
        format!(
            "<title>{to}</title><form action=/{to}><label>Name <input name=n></label><button>Next</button></form>
             <script>document.forms[0].onsubmit = () => {{ sessionStorage.sent = +(sessionStorage.sent || 0) + 1; }};</script>"
        )
    };
    let names: Vec<String> = (1..=6).map(|n| format!("w{n}")).collect();
    let texts: Vec<(String, String)> = names.windows(2).map(|pair| (format!("/{}", pair[0]), page(&pair[1]))).collect();
    let mut pages: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    pages.push(("/w6", "<title>end</title>"));
    let clicks = click(role("button", "Next"));
    let enter = PageAction::Press { keys: Spanned::new(vec!["Enter".to_owned()], span(8)), into: Some(label("Name")) };
    for (engine, step) in [(Engine::Chromium, &clicks), (Engine::Firefox, &clicks), (Engine::Chromium, &enter)] {
        let mut bench = Bench::of(engine, &pages).await;
        bench.act(&goto("/w1")).await;
        for _ in 0..5 {
            bench.act(step).await;
        }
        let seen = bench.js("return [document.title, sessionStorage.sent]").await;
        assert_eq!(seen, json!(["end", "5"]), "{engine} {step:?}");
        bench.end().await;
    }
}

const DRAGS: &str = "<title>no</title><style>div{width:100px;height:60px;margin:20px;background:#ddd}</style>
<div id=card draggable=true>Card</div><div id=bin>Bin</div><div id=knob>Knob</div><div id=rail>Rail</div>
<div style='height:2000px'></div><div id=far>Far</div>
<script>window.log = [];
card.ondragstart = e => e.dataTransfer.setData('text/plain', 'the card');
card.ondragend = e => log.push('end ' + e.dataTransfer.dropEffect);
for (const place of [bin, far]) { place.ondragover = e => { e.preventDefault(); };
place.ondrop = e => { e.preventDefault(); log.push('drop ' + place.id + ' ' + e.dataTransfer.getData('text/plain')); }; }
let held = false, moves = 0;
knob.onmousedown = () => { held = true; }; onmousemove = () => { if (held) moves += 1; };
onmouseup = e => { if (held) log.push('up ' + document.elementFromPoint(e.clientX, e.clientY).id + ' ' + (moves > 2)); held = false; };</script>";

#[tokio::test(flavor = "multi_thread")]
async fn things_are_dragged_on_both_kinds_of_pages() {
    let mut bench = Bench::new(&[("/", DRAGS)]).await;
    bench.act(&goto("/")).await;
    let drag = |from: &str, to: &str| PageAction::Drag { target: css(from), to: css(to) };
    bench.act(&drag("#card", "#bin")).await;
    assert_eq!(bench.js("return log").await, json!(["drop bin the card", "end copy"]));
    bench.act(&drag("#knob", "#rail")).await;
    assert_eq!(bench.js("return log.slice(2)").await, json!(["up rail true"]));
    bench.act(&drag("#knob", "#far")).await;
    assert_eq!(bench.js("return log.slice(3)").await, json!(["up far true"]));
    bench.act(&drag("#card", "#far")).await;
    assert_eq!(bench.js("return log.slice(4)").await, json!(["drop far the card", "end copy"]));
    // Nothing is dragged if the target does not exist.
    let failure = bench.fail(&drag("#knob", "#nowhere")).await;
    assert_eq!(failure.message, "no element matches css `#nowhere`");
    assert_eq!(bench.js("return [held, log.length]").await, json!([false, 6]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_their_parts_are_scrolled() {
    let long = "<div style='height:5000px'>top</div><p id=end>End</p>";
    let part = "<style>html,body{height:100%;margin:0;overflow:hidden}#part{height:100%;overflow:auto}</style><div id=part><div style='height:5000px'>x</div></div>";
    let mut bench = Bench::new(&[("/", long), ("/part", part)]).await;
    bench.act(&goto("/")).await;
    bench.act(&PageAction::Scroll(Scroll::By(800))).await;
    assert_eq!(bench.js("return scrollY").await, 800);
    bench.act(&PageAction::Scroll(Scroll::By(-300))).await;
    assert_eq!(bench.js("return scrollY").await, 500);
    bench.act(&PageAction::Scroll(Scroll::To(css("#end")))).await;
    assert_eq!(
        bench.js("return document.getElementById('end').getBoundingClientRect().bottom <= innerHeight").await,
        true
    );
    bench.act(&goto("/part")).await;
    bench.act(&PageAction::Scroll(Scroll::By(700))).await;
    assert_eq!(bench.js("return document.getElementById('part').scrollTop").await, 700);
    bench.end().await;
}

const INNER: &str = "<body style='margin:0'><button style='position:absolute;left:600px;top:300px;width:80px' onclick=\"top.postMessage('right','*')\">Inner</button>
<button style='position:absolute;left:300px;top:150px;width:80px' onclick=\"top.postMessage('wrong','*')\">Trap</button>
<label style='position:absolute;left:100px;top:400px'><input type=checkbox onchange=\"top.postMessage('checked','*')\"> Agree</label><div style='height:1500px'></div>";

/// Clicks in frames with any scale, zoom or rotation, and of any origin.
#[tokio::test(flavor = "multi_thread")]
async fn clicks_in_frames_hit_what_they_name() {
    let styles = [
        "padding:0",
        "transform:scale(.5)",
        "transform:scale(.8)",
        "zoom:.5",
        "transform:translate(200px,0) rotate(20deg) scale(.6)",
        "scale:.5;rotate:10deg;translate:150px",
    ];
    let far = site(&[("/inner", INNER)]).await.replace("127.0.0.1", "localhost");
    let mut texts = Vec::new();
    for (at, style) in styles.iter().enumerate() {
        for (kind, source) in [("same", "/inner".to_owned()), ("cross", format!("{far}inner"))] {
            let html = format!(
                "<title>-</title><div style='{style};transform-origin:0 0;margin-top:50px'><iframe title=Scaled width=1000 height=600 style='padding:5px' src='{source}'></iframe></div>
                 <script>onmessage = e => document.title += e.data</script>"
            );
            texts.push((format!("/{kind}{at}"), html));
        }
    }
    let mut pages: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    pages.push(("/inner", INNER));
    for engine in [Engine::Chromium, Engine::Firefox] {
        let mut bench = Bench::of(engine, &pages).await;
        let mut wrong = Vec::new();
        for (path, _) in &texts {
            bench.act(&goto(path)).await;
            let frame = [target(LocatorStrategy::Title(Matcher::text("Scaled")))];
            let within = Duration::from_secs(20);
            let agree = PageAction::Check { target: role("checkbox", "Agree"), on: true };
            for step in [click(role("button", "Inner")), agree] {
                if let Err(failure) = bench.page.act(&step, &frame, &bench.values, within).await {
                    wrong.push(format!("{engine} {path}: {failure:?}"));
                }
            }
            if bench.within(5.0, &expect(PageFact::Title(Matcher::text("-rightchecked")))).await.is_err() {
                wrong.push(format!("{engine} {path}: {}", bench.js("return document.title").await));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        bench.end().await;
    }
}

const AIMS: &str = "<title>-</title><style>button,a{font:16px sans-serif}#contents{display:contents}#flat{height:0}#flat b{float:left;width:80px;height:30px;background:#eee}</style>
<label id=label style='display:block;width:400px;text-align:center'><input type=checkbox onchange=\"log('checked')\" style='position:absolute;left:0;opacity:0'>I agree to <a href='#terms' onclick=\"log('link')\">the terms of use and all that is in them</a></label>
<div style='height:60px'></div><a id=contents href='#c' onclick=\"log('contents')\"><span>Contents</span></a>
<div style='height:20px'></div><div id=flat role=button tabindex=0 onclick=\"log('flat')\"><b>Flat</b></div><div style='clear:both;height:60px'></div>
<div style='transform:rotate(30deg) scale(.7);width:200px'><button onclick=\"log('turned')\">Turned</button></div>
<img alt=Map usemap='#m' width=200 height=100 src=data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7><map name=m><area alt=East shape=rect coords='100,0,200,100' href='#e' onclick=\"log('east')\"><area alt=West shape=rect coords='0,0,100,100' href='#w' onclick=\"log('west')\"></map>
<button id=none style='pointer-events:none' onclick=\"log('none')\">None</button>
<button id=stolen onmouseover=\"document.getElementById('veil').style.display = 'block'\" onclick=\"log('stolen')\">Stolen</button><div id=veil style='display:none;position:fixed;inset:0'></div>
<script>function log(text) { document.title += text; }</script>";

#[tokio::test(flavor = "multi_thread")]
async fn clicks_are_got_by_what_they_name_or_fail() {
    for engine in [Engine::Chromium, Engine::Firefox] {
        let mut bench = Bench::of(engine, &[("/", AIMS)]).await;
        for (target, logged) in [
            (css("#label"), "-checked"),
            (role("link", "Contents"), "-contents"),
            (css("#flat"), "-flat"),
            (role("button", "Turned"), "-turned"),
            (role("link", "East"), "-east"),
            (role("link", "West"), "-west"),
        ] {
            bench.act(&goto("/")).await;
            if let Err(failure) = bench.within(10.0, &click(target)).await {
                panic!("{engine} {logged}: {failure:?}");
            }
            assert_eq!(bench.js("return document.title").await, logged, "{engine}");
        }
        bench.act(&goto("/")).await;
        let failure = bench.fail(&click(css("#none"))).await;
        assert!(failure.message.contains("pointer-events: none"), "{engine} {failure:?}");
        let failure = bench.within(5.0, &click(css("#stolen"))).await.unwrap_err();
        assert_eq!(failure.message, r#"css `#stolen` did not receive the click, but <div id="veil"> did"#, "{engine}");
        assert_eq!(bench.js("return document.title").await, "-", "{engine}");
        bench.end().await;
    }
}
