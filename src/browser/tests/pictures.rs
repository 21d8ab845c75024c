//! Pictures, their hidden content, and the accessibility tree.

use super::*;
use crate::outcome::EvidenceKind;

fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..4], b"\x89PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_show_what_was_asked_for_and_no_secrets() {
    let inner = "<body style='margin:0'><input id=in style='caret-color:transparent'>";
    let html = "<style>body{margin:0;height:2500px}#card{width:123px;height:45px;background:red;position:absolute;top:1800px}*{caret-color:transparent!important}</style>
        <label>Token <input id=token style='color:green'></label><div id=rich contenteditable role=textbox aria-label=Rich style='width:300px'></div>
        <iframe title=inner src=/inner></iframe><div id=card></div>";
    let mut bench = Bench::new(&[("/", html), ("/inner", inner)]).await;
    bench.act(&goto("/")).await;
    let within = Duration::from_secs(10);
    let card = bench.page.screenshot(Some(&css("#card")), false, &[], &bench.values, within).await.unwrap();
    assert_eq!(size(&card), (123, 45));
    let full = bench.page.screenshot(None, true, &[], &bench.values, within).await.unwrap();
    assert_eq!(size(&full).1, 2500);
    let visible = bench.page.screenshot(None, false, &[], &bench.values, within).await.unwrap();
    assert_eq!(size(&visible), (1280, 800));

    // Two secrets of equal length result in the same picture; other texts do not.
    for secret in ["wwwwwwww", "iiiiiiii"] {
        assert!(bench.values.masker().add(secret));
    }
    let frames = [target(LocatorStrategy::Title(Matcher::text("inner")))];
    for place in ["token", "rich", "in"] {
        let mut pictures = Vec::new();
        for text in ["wwwwwwww", "iiiiiiii", "mmmmmmmm", "llllllll"] {
            let (frames, name): (&[Locator], _) = if place == "in" { (&frames, "#in") } else { (&[], place) };
            let field = if place == "in" { css(name) } else { css(&format!("#{place}")) };
            bench.page.act(&fill(field, text), frames, &bench.values, within).await.unwrap();
            pictures.push(bench.page.screenshot(None, false, &[], &bench.values, within).await.unwrap());
        }
        assert!(pictures[0] == pictures[1], "{place}: a secret is in the picture");
        assert!(pictures[2] != pictures[3], "{place}: a text is not in the picture");
    }
    // Also if the page has replaced the filled field, and in pictures of failures.
    bench.act(&fill(css("#token"), "wwwwwwww")).await;
    bench.js("const old = document.getElementById('token'), copy = old.cloneNode(); copy.value = old.value; old.replaceWith(copy);").await;
    bench.js(
        "window.seen = []; new MutationObserver(all => seen.push(...all.map(one => one.target.getAttribute('style')))).observe(document.getElementById('token'), {attributes: true});",
    )
    .await;
    let evidence = bench.page.evidence().await;
    assert_eq!((evidence[0].0, size(&evidence[0].2).1), (EvidenceKind::Screenshot, 2500));
    let seen = bench.js("return seen").await.to_string();
    assert!(seen.contains("-webkit-text-security: disc") && seen.contains("color: transparent"), "{seen}");
    // The page is unchanged afterwards.
    assert_eq!(bench.js("return document.getElementById('token').getAttribute('style')").await, "color:green");
    assert_eq!(bench.js("return document.getElementById('rich').hasAttribute('style')").await, true);
    // Fields that were overwritten with another text since then are visible again.
    assert_eq!(bench.page.typed.len(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_shows_what_a_screen_reader_finds() {
    let html = "<title>Shop</title><nav aria-label=Main><a href=/>Home</a></nav><main><h2>Order <b>7</b></h2><p>Three mugs</p><p hidden>no</p>
        <label>Mail <input value=a@b required></label><label>Password <input type=password value=abcd></label>
        <label><input type=checkbox checked> Agree</label><button disabled>Pay</button><button aria-expanded=false>More</button>
        <select aria-label=Size><option>S<option selected>L</select><img alt='' src=data:><div id=host></div>
        <iframe title=Frame srcdoc='<button>In</button>'></iframe></main><script>host.attachShadow({mode:'open'}).innerHTML='<button>Deep</button>'</script>";
    let mut bench = Bench::new(&[("/", html)]).await;
    bench.act(&goto("/")).await;
    let evidence = bench.page.evidence().await;
    let (_, name, tree) = evidence.iter().find(|(kind, ..)| *kind == EvidenceKind::Accessibility).unwrap();
    assert_eq!(*name, "failure.aria.txt");
    let expected = r#"document "Shop"
  navigation "Main"
    link "Home"
  main
    heading "Order 7" [level=2]
    paragraph
      text "Three mugs"
    text "Mail"
    textbox "Mail" [required, value="a@b"]
    text "Password"
    textbox "Password" [value=(hidden)]
    checkbox "Agree" [checked]
    text "Agree"
    button "Pay" [disabled]
    button "More" [collapsed]
    combobox "Size" [value="L"]
      option "S"
      option "L" [selected]
    button "Deep"
    iframe "Frame"
      button "In"
"#;
    assert_eq!(String::from_utf8_lossy(tree), expected);
    bench.js("document.body.innerHTML = '<p>word</p>'.repeat(5000)").await;
    let evidence = bench.page.evidence().await;
    let (.., tree) = evidence.iter().find(|(kind, ..)| *kind == EvidenceKind::Accessibility).unwrap();
    let tree = String::from_utf8_lossy(tree);
    assert!(tree.lines().count() <= 2001 && tree.ends_with("(and more)\n"), "{}", tree.lines().count());
    bench.end().await;
}
