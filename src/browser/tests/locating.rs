//! Elements found by locators, and conditions for acting on them.

use super::*;
use crate::names::Reason;
use crate::scenario::Pattern;

/// Checks rows of a page, a locator and the id of the element that must be found.
#[tokio::test(flavor = "multi_thread")]
async fn targets_find_what_people_mean() {
    let named = |role: &str, matcher: Matcher| target(LocatorStrategy::Role { role: role.into(), name: Some(matcher) });
    let text = Matcher::text;
    let rows: Vec<(&str, Locator)> = vec![
        ("<button id=x>Sign in</button><button>Sign in now</button>", role("button", "Sign in")),
        ("<button id=x> Sign\n  <b>in</b></button>", role("button", "Sign in")),
        ("<button id=x aria-label='Close'>×</button>", role("button", "Close")),
        (
            "<span id=a>Add</span><span id=b>mug</span><button id=x aria-labelledby='a b'>+</button>",
            role("button", "Add mug"),
        ),
        ("<div id=x role=button tabindex=0>Go</div>", role("button", "Go")),
        ("<input id=x type=submit value='Send it'>", role("button", "Send it")),
        ("<input id=x type=submit>", role("button", "Submit")),
        ("<button id=x><img alt='Search' width=9 height=9></button>", role("button", "Search")),
        ("<button id=x title='Help'></button><style>button{width:9px;height:9px}</style>", role("button", "Help")),
        ("<button id=x>Pay<span hidden> later</span><i aria-hidden=true>!</i></button>", role("button", "Pay")),
        ("<style>#x::before{content:'New '}</style><button id=x>mail</button>", role("button", "New mail")),
        ("<button id=x><div>one</div><div>two</div></button>", role("button", "one two")),
        ("<a>Shop</a><a id=x href=/>Shop</a>", role("link", "Shop")),
        ("<h2 id=x>My account</h2>", role("heading", "My account")),
        ("<img id=x alt='A mug' width=9 height=9><img alt='' width=9 height=9>", role("img", "A mug")),
        ("<label for=x>Email</label><input id=x type=email>", role("textbox", "Email")),
        ("<label>Agree <input id=x type=checkbox></label>", role("checkbox", "Agree")),
        ("<label>Size <select id=x><option>S<option>L</select></label>", role("combobox", "Size")),
        ("<select><option id=x>Large</select>", role("option", "Large")),
        ("<input id=x type=search placeholder='Find things'>", role("searchbox", "Find things")),
        ("<ul role=tablist><li id=x role=tab>Two</li></ul>", role("tab", "Two")),
        ("<div id=x role='image' aria-label=Logo style='width:9px;height:9px'></div>", role("img", "Logo")),
        ("<table><tr><td>1<td id=x>2</table>", role("cell", "2")),
        ("<fieldset id=x><legend>Address</legend></fieldset>", role("group", "Address")),
        ("<button hidden>Go</button><button id=x>Go</button>", role("button", "Go")),
        ("<div aria-hidden=true><button>Go</button></div><button id=x>Go</button>", role("button", "Go")),
        ("<div style='visibility:hidden'><button>Go</button></div><button id=x>Go</button>", role("button", "Go")),
        (
            "<button id=x>Pay 12.50 €</button><button>Pal</button>",
            named("button", Matcher::StartsWith(Template::literal("Pay"))),
        ),
        (
            "<button id=x>Item 42</button><button>Item x</button>",
            named("button", Matcher::Matches(Pattern::new(Template::literal(r"^Item \d+$")).unwrap())),
        ),
        ("<button id=x>a</button><button>b</button>", named("button", Matcher::Not(Box::new(text("b"))))),
        ("<main id=x>one</main><nav>two</nav>", target(LocatorStrategy::Role { role: "main".into(), name: None })),
        ("<label for=x>Password</label><input id=x type=password>", label("Password")),
        ("<label>Password <input id=x type=password value=abc></label>", label("Password")),
        ("<input id=x aria-label=City>", label("City")),
        ("<span id=l>Zip</span><input id=x aria-labelledby=l>", label("Zip")),
        (
            "<label for=x>Email *</label><input id=x>",
            target(LocatorStrategy::Label(Matcher::StartsWith(Template::literal("Email")))),
        ),
        ("<input id=x placeholder='Your name'>", target(LocatorStrategy::Placeholder(text("Your name")))),
        ("<div><p>Total: <b id=x>12 €</b></p></div>", target(LocatorStrategy::Text(text("12 €")))),
        ("<div><p id=x>Total: <b>12 €</b></p></div>", target(LocatorStrategy::Text(text("Total: 12 €")))),
        ("<p id=x>Thank <span style='display:none'>no</span>you</p>", target(LocatorStrategy::Text(text("Thank you")))),
        ("<p id=x style='text-transform:uppercase'>loud</p>", target(LocatorStrategy::Text(text("LOUD")))),
        (
            "<div><p id=x>Order 17 is on its way</p></div>",
            target(LocatorStrategy::Text(Matcher::Contains(Template::literal("Order 17")))),
        ),
        ("<img id=x alt=Mug width=9 height=9>", target(LocatorStrategy::Alt(text("Mug")))),
        ("<p id=x title='More on this'>?</p>", target(LocatorStrategy::Title(text("More on this")))),
        ("<p id=x data-testid=cart>0</p>", target(LocatorStrategy::TestId(text("cart")))),
        ("<p id=x>0</p>", target(LocatorStrategy::Id(Template::literal("x")))),
        ("<p>0</p><p id=x class=b>1</p>", css("p.b")),
        ("<p>0</p><p id=x>1</p>", target(LocatorStrategy::Xpath(Template::literal("//p[2]")))),
        ("<div><template shadowrootmode=open><button id=x>Deep</button></template></div>", role("button", "Deep")),
        ("<div><template shadowrootmode=open><p id=x class=deep>1</p></template></div>", css(".deep")),
        (
            "<div><template shadowrootmode=open><button id=x><slot></slot></button></template>Slotted</div>",
            role("button", "Slotted"),
        ),
    ];
    let pages: Vec<(String, &str)> = rows.iter().enumerate().map(|(i, (html, _))| (format!("/{i}"), *html)).collect();
    let pages: Vec<(&str, &str)> = pages.iter().map(|(path, html)| (path.as_str(), *html)).collect();
    let mut bench = Bench::new(&pages).await;
    let mut wrong = Vec::new();
    for (i, (html, target)) in rows.iter().enumerate() {
        bench.act(&goto(&format!("/{i}"))).await;
        let fact = PageFact::Element {
            target: target.clone(),
            facts: vec![crate::scenario::ElementFact::Attribute("id".into(), Matcher::text("x"))],
        };
        if let Err(failure) = bench.within(0.3, &expect(fact)).await {
            wrong.push(format!("{html}\n  {:?}\n  {} / {:?}", target.how, failure.message, failure.seen));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bench.end().await;
}

const SHIFTING: &str = "<title>no</title><style>#over{position:fixed;inset:0;background:#fff8}</style>
<button id=late disabled onclick=\"document.title='late'\">Late</button>
<button id=moving style='position:absolute;top:100px;left:0' onclick=\"document.title='moving'\">Moving</button>
<button onclick=\"document.title='covered'\" style='position:absolute;top:200px'>Covered</button>
<button onclick=\"document.title='far'\" style='position:absolute;top:3000px'>Far</button>
<div id=over class=veil></div>
<script>
  setTimeout(() => late.disabled = false, 400);
  setTimeout(() => over.remove(), 700);
  let x = 0; const step = () => { moving.style.left = ++x * 3 + 'px'; if (x < 60) requestAnimationFrame(step); }; step();
  setTimeout(() => document.body.insertAdjacentHTML('beforeend', '<button onclick=\"document.title=`born`\">Born</button>'), 900);
</script>";

#[tokio::test(flavor = "multi_thread")]
async fn actions_wait_until_the_element_can_take_them() {
    let mut bench = Bench::new(&[("/", SHIFTING)]).await;
    for name in ["Late", "Moving", "Covered", "Born", "Far"] {
        bench.act(&goto("/")).await;
        bench.act(&click(role("button", name))).await;
        assert_eq!(bench.js("return document.title").await, name.to_lowercase());
    }
    bench.end().await;
}

/// Uses a page that never loads completely: an image hangs, as that of a third party may.
#[tokio::test(flavor = "multi_thread")]
async fn a_click_does_not_wait_for_every_part_of_the_page() {
    let slow = "<h1>Slow</h1><button onclick=\"document.title='done'\">Go on</button><img src=/hang>";
    let mut bench = Bench::new(&[("/", "<a href=/slow>Slow</a>"), ("/slow", slow)]).await;
    bench.act(&goto("/")).await;
    bench.act(&click(role("link", "Slow"))).await;
    bench.act(&click(role("button", "Go on"))).await;
    assert_eq!(bench.js("return [document.title, document.readyState].join()").await, "done,interactive");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_acted_on_is_told_in_words() {
    let stuck = "<button disabled>Off</button><button>Twin</button><button class=b>Twin</button><a href=/>Sign in</a>
        <button>Sign up</button><button style='position:absolute;top:200px'>Under</button>
        <button style='display:none'>Gone</button>
        <div class=veil style='position:absolute;top:150px;left:0;width:500px;height:200px'></div>
        <button id=run style='position:absolute;top:500px'>Runs</button><label>Mail<input></label>
        <script>let x = 0; const step = () => { run.style.left = (x = (x + 2) % 300) + 'px'; requestAnimationFrame(step); }; step();</script>";
    let mut bench = Bench::new(&[("/", stuck)]).await;
    bench.act(&goto("/")).await;
    for (target, reason, parts) in [
        (role("button", "Off"), Reason::Timeout, &["it is disabled"][..]),
        (role("button", "Under"), Reason::Timeout, &[r#"<div class="veil"> covers it"#]),
        (role("button", "Runs"), Reason::Timeout, &["it is moving"]),
        (role("button", "Gone"), Reason::NotFound, &["is not visible"]),
        (role("button", "Twin"), Reason::Ambiguous, &["2 elements match", r#"button "Twin" <button class="b">"#]),
        (
            role("button", "Sign in"),
            Reason::NotFound,
            &[r#"no element matches button "Sign in""#, r#""Sign up""#, r#"but link "Sign in" <a href="/">"#],
        ),
        (label("Email"), Reason::NotFound, &[r#"1 label: "Mail""#]),
        (target(LocatorStrategy::Text(Matcher::text("sign UP"))), Reason::NotFound, &[r#"nearly: "Sign up""#]),
    ] {
        let failure = bench.fail(&click(target.clone())).await;
        assert_eq!(failure.reason, reason, "{target:?}: {failure:?}");
        let told = format!("{} {}", failure.message, failure.seen.clone().unwrap_or_default());
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in `{told}`");
        }
        assert!(failure.waited.is_some());
        assert_eq!(failure.span.map(|span| span.line), Some(7));
    }
    bench.end().await;
}
