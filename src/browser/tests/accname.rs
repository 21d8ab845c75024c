//! Roles and names compared with a table, and the table compared with the browser's own results.
//!
//! The cases follow W3C's tests for accname-1.2 and HTML-AAM (`comp_*`, roles). If Chromium differs from the table, the
//! row says why.

use super::*;
use crate::browser::command::{Command, ElementId};
use crate::browser::page::PROMPT;

/// A page, the role and the name of its element `x`, and the reason why Chromium differs.
const CASES: &[(&str, &str, &str, &str)] = &[
    // Aria-labelledby.
    (
        r#"<span id=a>Add</span> <span id=b>mug</span><button id=x aria-labelledby="a b">+</button>"#,
        "button",
        "Add mug",
        "",
    ),
    (
        r#"<button id=x aria-labelledby="x b" aria-label=Remove>r</button><span id=b>mug</span>"#,
        "button",
        "Remove mug",
        "",
    ),
    (r#"<button id=x aria-labelledby="b x">Remove</button><span id=b>mug:</span>"#, "button", "mug: Remove", ""),
    ("<button id=x aria-labelledby=nothing>Go</button>", "button", "Go", ""),
    (r#"<button id=x aria-labelledby="">Go</button>"#, "button", "Go", ""),
    (r#"<button id=x aria-labelledby="nothing b">Go</button><i id=b>there</i>"#, "button", "there", ""),
    ("<span id=b></span><button id=x aria-labelledby=b aria-label=Label>Go</button>", "button", "Label", ""),
    (
        "<span id=a aria-labelledby=b>one</span><span id=b>two</span><button id=x aria-labelledby=a>Go</button>",
        "button",
        "one",
        "",
    ),
    ("<img id=b alt=Mug><a id=x href=/ aria-labelledby=b>Go</a>", "link", "Mug", ""),
    ("<div id=b>one<div>two</div></div><input id=x aria-labelledby=b>", "textbox", "one two", ""),
    ("<input id=b value=typed aria-label=City><button id=x aria-labelledby=b>Go</button>", "button", "typed", ""),
    ("<label for=x>native</label><span id=b>ref</span><input id=x aria-labelledby=b>", "textbox", "ref", ""),
    ("<div id=x role=group aria-labelledby=b><h2 id=b>Address</h2></div>", "group", "Address", ""),
    ("<section id=x aria-labelledby=b><h2 id=b>News</h2>text</section>", "region", "News", ""),
    ("<div id=b role=none>text</div><button id=x aria-labelledby=b></button>", "button", "text", ""),
    // Aria-label.
    ("<button id=x aria-label=Close>×</button>", "button", "Close", ""),
    (r#"<button id=x aria-label="  ">Close</button>"#, "button", "Close", ""),
    (r#"<button id=x aria-label=" a   b ">Close</button>"#, "button", "a b", ""),
    ("<input id=x aria-label=City placeholder=Town>", "textbox", "City", ""),
    ("<label for=x>Town</label><input id=x aria-label=City>", "textbox", "City", ""),
    ("<a id=x href=/><span aria-label=Inner>text</span></a>", "link", "Inner", ""),
    ("<button id=x>Pay <b aria-label=now>later</b></button>", "button", "Pay now", ""),
    (r#"<div id=x role=img aria-label=Logo style="width:9px;height:9px"></div>"#, "img", "Logo", ""),
    ("<nav id=x aria-label=Main></nav>", "navigation", "Main", ""),
    // HTML labels.
    ("<label for=x>Email</label><input id=x type=email>", "textbox", "Email", ""),
    ("<label>Email <input id=x type=email></label>", "textbox", "Email", ""),
    ("<label>Size <select id=x><option>S<option>L</select></label>", "combobox", "Size", ""),
    ("<label for=x>One</label><label for=x>Two</label><input id=x>", "textbox", "One Two", ""),
    ("<label>Agree <input id=x type=checkbox> to all</label>", "checkbox", "Agree to all", ""),
    ("<label for=x aria-label=Hidden>Seen</label><input id=x>", "textbox", "Hidden", ""),
    ("<label for=x><img alt=Phone></label><input id=x type=tel>", "textbox", "Phone", ""),
    ("<label for=x title=Tip></label><input id=x>", "textbox", "Tip", ""),
    ("<label for=x></label><input id=x title=Tip>", "textbox", "Tip", "an empty label is none; Chromium stops at it"),
    (
        r#"<label for=x style="display:none">Quiet</label><input id=x>"#,
        "textbox",
        "Quiet",
        "accname-1.2 takes labels that are hidden, as it takes other references",
    ),
    ("<label for=x>Name <span hidden>no</span><i aria-hidden=true>*</i></label><input id=x>", "textbox", "Name", ""),
    ("<label for=x>Send it</label><button id=x>Go</button>", "button", "Send it", ""),
    ("<label for=x>Done</label><progress id=x value=1></progress>", "progressbar", "Done", ""),
    ("<label for=x>Space</label><meter id=x value=1></meter>", "meter", "Space", ""),
    ("<label for=x>Sum</label><output id=x>3</output>", "status", "Sum", ""),
    ("<fieldset id=x><legend>Address</legend><input></fieldset>", "group", "Address", ""),
    ("<fieldset id=x><div><legend>Deep</legend></div></fieldset>", "group", "", ""),
    ("<fieldset id=x><legend>Pay <b>now</b></legend></fieldset>", "group", "Pay now", ""),
    ("<table id=x><caption>Orders</caption><tr><td>1</table>", "table", "Orders", ""),
    (
        "<figure id=x><figcaption>A mug</figcaption><img alt=mug></figure>",
        "figure",
        "A mug",
        "HTML-AAM names figures by their captions; Chromium does not",
    ),
    ("<select><optgroup id=x label=Hot><option>tea</optgroup></select>", "group", "Hot", ""),
    ("<select><option id=x>Large</select>", "option", "Large", ""),
    ("<select><option id=x label=Big>Large</select>", "option", "Big", ""),
    // HTML buttons.
    (r#"<input id=x type=submit value="Send it">"#, "button", "Send it", ""),
    ("<input id=x type=submit>", "button", "Submit", ""),
    ("<input id=x type=reset>", "button", "Reset", ""),
    ("<input id=x type=button value=Go title=Tip>", "button", "Go", ""),
    ("<input id=x type=button title=Tip>", "button", "Tip", ""),
    ("<input id=x type=image alt=Search src=data:>", "button", "Search", ""),
    ("<input id=x type=image title=Find src=data:>", "button", "Find", ""),
    ("<input id=x type=image src=data:>", "button", "Submit", ""),
    (
        "<details open><summary id=x>More</summary>text</details>",
        "button",
        "More",
        "Chromium's own role for it is DisclosureTriangle",
    ),
    ("<button id=x title=Help></button>", "button", "Help", ""),
    ("<button id=x title=Help>?</button>", "button", "?", ""),
    // Images.
    (r#"<img id=x alt="A mug">"#, "img", "A mug", ""),
    (r#"<img id=x alt="A mug" title=Tip>"#, "img", "A mug", ""),
    ("<img id=x title=Tip>", "img", "Tip", ""),
    ("<img id=x src=data:>", "img", "", ""),
    (r#"<img id=x alt="">"#, "", "", ""),
    (r#"<img id=x alt="" tabindex=0>"#, "img", "", ""),
    (r#"<img id=x alt="" aria-label=Mug>"#, "img", "Mug", ""),
    ("<map name=m><area id=x href=/ alt=North></map><img usemap=#m width=9 height=9>", "link", "North", ""),
    ("<svg id=x width=9 height=9><title>Chart</title><rect width=9 height=9 /></svg>", "img", "Chart", ""),
    ("<svg id=x width=9 height=9 role=img aria-label=Chart><title>no</title></svg>", "img", "Chart", ""),
    ("<button id=x><svg width=9 height=9><title>Close</title></svg></button>", "button", "Close", ""),
    (
        "<a id=x href=/><svg width=9 height=9><desc>no</desc><text>yes</text></svg></a>",
        "link",
        "yes",
        "Chromium takes no text of an image into a name",
    ),
    ("<button id=x><img alt=Search width=9 height=9></button>", "button", "Search", ""),
    ("<a id=x href=/>Go<img alt=home width=9 height=9>now</a>", "link", "Go home now", ""),
    // Text of an element.
    (
        "<button id=x> Sign
  <b>in</b></button>",
        "button",
        "Sign in",
        "",
    ),
    ("<button id=x><span>Sign</span><span>in</span></button>", "button", "Signin", ""),
    ("<button id=x><div>one</div><div>two</div></button>", "button", "one two", ""),
    ("<button id=x>one<br>two</button>", "button", "one two", ""),
    ("<h1 id=x>My <em>own</em> account</h1>", "heading", "My own account", ""),
    ("<h3 id=x></h3>", "heading", "", ""),
    ("<p id=x>text</p>", "paragraph", "", ""),
    ("<div id=x>text</div>", "", "", ""),
    ("<ul><li id=x>text</li></ul>", "listitem", "", ""),
    ("<table><tr><td id=x>2<td>3</table>", "cell", "2", "Chromium takes so small a table for layout"),
    ("<table><tr><th id=x>Sum<td>3</table>", "rowheader", "Sum", ""),
    ("<table><tr><th id=x>Sum<th>Tax</table>", "columnheader", "Sum", ""),
    ("<table><tr><th id=x scope=row>Sum<th>Tax</table>", "rowheader", "Sum", ""),
    ("<table><tr><th id=x scope=col>Sum<td>1</table>", "columnheader", "Sum", ""),
    ("<table role=grid><tr><td id=x>1<td>2</table>", "gridcell", "1", ""),
    ("<table><tr id=x><td>1<td>2</table>", "row", "1 2", "Chromium names rows of interactive tables only"),
    ("<ul role=tablist><li id=x role=tab>Two</li></ul>", "tab", "Two", ""),
    ("<div role=menu><div id=x role=menuitem>Open <kbd>Ctrl</kbd></div></div>", "menuitem", "Open Ctrl", ""),
    ("<div role=listbox><div id=x role=option>One</div></div>", "option", "One", ""),
    ("<div role=tree><div id=x role=treeitem>Leaf</div></div>", "treeitem", "Leaf", ""),
    ("<div id=x role=tooltip>Tip</div>", "tooltip", "Tip", ""),
    ("<div id=x role=switch aria-checked=true>Dark</div>", "switch", "Dark", ""),
    ("<div id=x role=dialog>text</div>", "dialog", "", ""),
    ("<div id=x role=alert>text</div>", "alert", "", ""),
    ("<button id=x>a<!-- b -->c</button>", "button", "ac", ""),
    ("<button id=x><script>no</script><style>i{}</style>yes</button>", "button", "yes", ""),
    ("<button id=x><p role=none>one</p> two</button>", "button", "one two", ""),
    (
        r#"<style>#x::before{content:"New "}#x::after{content:"!"}</style><button id=x>mail</button>"#,
        "button",
        "New mail!",
        "",
    ),
    (r#"<style>#x::before{content:"→" / "next"}</style><button id=x> page</button>"#, "button", "next page", ""),
    ("<style>#x::after{content:attr(data-n)}</style><button id=x data-n=7>n </button>", "button", "n 7", ""),
    (r#"<style>#x::before{content:"no";display:none}</style><button id=x>yes</button>"#, "button", "yes", ""),
    (r#"<style>#x::before{content:"one";display:block}</style><button id=x>two</button>"#, "button", "one two", ""),
    // Hidden content.
    ("<button id=x>Pay<span hidden> later</span><i aria-hidden=true>!</i></button>", "button", "Pay", ""),
    (r#"<button id=x>Pay<span style="visibility:hidden"> later</span></button>"#, "button", "Pay", ""),
    (
        r#"<button id=x>Pay<span style="visibility:hidden"> no <b style="visibility:visible">yes</b></span></button>"#,
        "button",
        "Pay",
        "",
    ),
    ("<span id=b hidden>Quiet</span><button id=x aria-labelledby=b>Go</button>", "button", "Quiet", ""),
    ("<div hidden><span id=b>Deep</span></div><button id=x aria-labelledby=b>Go</button>", "button", "Deep", ""),
    (
        "<span id=b hidden>Quiet <i hidden>too</i></span><button id=x aria-labelledby=b>Go</button>",
        "button",
        "Quiet too",
        "",
    ),
    ("<span id=b>Loud <i hidden>not</i></span><button id=x aria-labelledby=b>Go</button>", "button", "Loud", ""),
    ("<span id=b aria-hidden=true>Quiet</span><button id=x aria-labelledby=b>Go</button>", "button", "Quiet", ""),
    (r#"<button id=x><span style="display:contents">shown</span></button>"#, "button", "shown", ""),
    (r#"<button id=x><span style="opacity:0">clear</span></button>"#, "button", "clear", ""),
    // Controls within a label.
    ("<label for=x>Flash <input value=5> times</label><input id=x type=checkbox>", "checkbox", "Flash 5 times", ""),
    (
        "<label for=x>Flash <select><option>1<option selected>2</select> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash 2 times",
        "",
    ),
    (
        "<label for=x>Flash <input type=range value=7 max=9> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash 7 times",
        "",
    ),
    (
        "<label for=x>Flash <input type=number value=3> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash 3 times",
        "",
    ),
    (
        "<label for=x>Flash <span role=slider aria-valuenow=4 aria-valuetext=four></span> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash four times",
        "",
    ),
    (
        "<label for=x>Flash <span role=textbox contenteditable>6</span> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash 6 times",
        "",
    ),
    (
        "<label for=x>Flash <ul role=listbox><li role=option>1<li role=option aria-selected=true>8</ul> times</label><input id=x type=checkbox>",
        "checkbox",
        "Flash 8 times",
        "",
    ),
    (
        "<label for=x>Flash <button>now</button> please</label><input id=x type=checkbox>",
        "checkbox",
        "Flash now please",
        "",
    ),
    ("<label>Flash <input id=x value=5> times</label>", "textbox", "Flash times", ""),
    ("<label for=x>Pick <textarea>one</textarea></label><input id=x type=radio>", "radio", "Pick one", ""),
    ("<div id=x role=checkbox>Flash <input value=5 aria-label=n> times</div>", "checkbox", "Flash 5 times", ""),
    // Aria-owns.
    (
        "<div id=x role=button aria-owns=b>one</div><span id=b>two</span>",
        "button",
        "onetwo",
        "Chromium sets a space between",
    ),
    ("<div role=group aria-owns=b><button id=x>go</button></div><i id=b>far</i>", "button", "go", ""),
    ("<button id=x>stay <i id=b>gone</i></button><div role=group aria-owns=b></div>", "button", "stay", ""),
    ("<div id=x role=link aria-owns=y>one <span id=y aria-owns=x>two</span></div>", "link", "one two", ""),
    // Tooltips and placeholders.
    ("<input id=x placeholder=Town>", "textbox", "Town", ""),
    ("<input id=x placeholder=Town title=Tip>", "textbox", "Tip", ""),
    ("<textarea id=x placeholder=Words></textarea>", "textbox", "Words", ""),
    ("<div id=x role=textbox contenteditable aria-placeholder=Words></div>", "textbox", "Words", ""),
    ("<a id=x href=/ title=Home></a>", "link", "Home", ""),
    (r#"<a id=x href=/><abbr title="World Health">WHO</abbr></a>"#, "link", "WHO", ""),
    (r#"<iframe id=x title="Card form"></iframe>"#, "", "Card form", "Chromium calls it Iframe"),
    // Shadow roots and slots.
    ("<button id=x><span><template shadowrootmode=open>deep</template></span></button>", "button", "deep", ""),
    (
        "<button id=x><span><template shadowrootmode=open>a <slot></slot> c</template>b</span></button>",
        "button",
        "a b c",
        "",
    ),
    (
        "<button id=x><span><template shadowrootmode=open><slot>default</slot></template></span></button>",
        "button",
        "default",
        "",
    ),
    (
        "<button id=x><span><template shadowrootmode=open><slot name=n></slot></template>no<i slot=n>yes</i></span></button>",
        "button",
        "yes",
        "",
    ),
    (
        "<span id=b><template shadowrootmode=open>within</template></span><button id=x aria-labelledby=b></button>",
        "button",
        "within",
        "",
    ),
    // Roles.
    ("<a id=x>Shop</a>", "", "", ""),
    ("<a id=x href=/ role=button>Shop</a>", "button", "Shop", ""),
    (r#"<div id=x role="unknown button">Go</div>"#, "button", "Go", ""),
    (r#"<div id=x role="widget link">Go</div>"#, "link", "Go", ""),
    ("<h2 id=x role=unknown>Go</h2>", "heading", "Go", ""),
    ("<h2 id=x role=none>Go</h2>", "", "", ""),
    ("<h2 id=x role=none aria-label=Go></h2>", "heading", "Go", ""),
    ("<button id=x role=presentation>Go</button>", "button", "Go", ""),
    ("<div id=x role=BUTTON>Go</div>", "button", "Go", ""),
    ("<div id=x role=image aria-label=Go>i</div>", "img", "Go", ""),
    ("<ul role=none><li id=x>one</ul>", "", "", ""),
    ("<table role=presentation><tr><td id=x>one</table>", "", "", ""),
    ("<ul id=x><li>one</ul>", "list", "", ""),
    ("<ol id=x><li>one</ol>", "list", "", ""),
    ("<header id=x>top</header>", "banner", "", ""),
    ("<article><header id=x>top</header></article>", "", "", "Chromium follows ARIA 1.3's draft: sectionheader"),
    ("<footer id=x>end</footer>", "contentinfo", "", ""),
    ("<aside id=x>side</aside>", "complementary", "", ""),
    ("<main id=x>all</main>", "main", "", ""),
    ("<section id=x>some</section>", "", "", ""),
    ("<form id=x></form>", "", "", "Chromium says form of one without a name, too"),
    ("<form id=x aria-label=Login></form>", "form", "Login", ""),
    ("<div id=x role=region>some</div>", "", "", ""),
    (r#"<div id=x role="region group">some</div>"#, "group", "", ""),
    ("<select id=x multiple><option>one</select>", "listbox", "", ""),
    ("<select id=x size=3><option>one</select>", "listbox", "", ""),
    ("<input id=x list=l><datalist id=l><option>a</datalist>", "combobox", "", ""),
    ("<input id=x type=search aria-label=q>", "searchbox", "q", ""),
    ("<input id=x type=password aria-label=p>", "textbox", "p", ""),
    ("<input id=x type=number aria-label=n>", "spinbutton", "n", ""),
    ("<input id=x type=range aria-label=r>", "slider", "r", ""),
    ("<input id=x type=radio aria-label=o>", "radio", "o", ""),
    ("<input id=x type=checkbox role=switch aria-label=d>", "switch", "d", ""),
    ("<dialog id=x open aria-label=Sure>?</dialog>", "dialog", "Sure", ""),
    ("<hr id=x>", "separator", "", ""),
    ("<article id=x>text</article>", "article", "", ""),
    ("<search id=x>s</search>", "search", "", ""),
    ("<math id=x></math>", "math", "", "Chromium says MathMLMath"),
    ("<time id=x>12:00</time>", "time", "", ""),
    ("<dl><dt id=x>Term</dl>", "term", "", "a term has no name from its text in ARIA 1.3"),
    ("<dl><dd id=x>Text</dl>", "definition", "", ""),
    ("<p><strong id=x>a</strong></p>", "strong", "", ""),
    ("<p><code id=x>a</code></p>", "code", "", ""),
    ("<p><del id=x>a</del></p>", "deletion", "", ""),
    ("<blockquote id=x>a</blockquote>", "blockquote", "", ""),
    ("<div role=list><div id=x role=listitem>one</div></div>", "listitem", "", ""),
];

/// Returns the HTML-AAM name of a role for which browsers use their own name.
fn plain(role: &str) -> &str {
    match role {
        "image" => "img",
        "generic" | "none" | "presentation" => "",
        role => role,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_names_are_those_of_the_standards() {
    let mut bench = Bench::new(&[("/", "<title>names</title>")]).await;
    bench.act(&goto("/")).await;
    let script = "document.body.setHTMLUnsafe(arguments[0]); const x = document.getElementById('x'); return [x, ...wachta.describe(x)];";
    let mut wrong = Vec::new();
    for (html, expected_role, expected_name, why) in CASES {
        let deadline = tokio::time::Instant::now() + PROMPT;
        let found = bench.page.script(script, &serde_json::Value::from(*html), deadline).await.unwrap();
        let (role, name) = (found[1].as_str().unwrap(), found[2].as_str().unwrap());
        if (role, name) != (*expected_role, *expected_name) {
            wrong.push(format!("{html}\n  expected {expected_role:?} {expected_name:?}, found {role:?} {name:?}"));
        }
        let element = ElementId::read(&found[0]).unwrap();
        let its_role = bench.page.call(Command::of(&element, "computedrole"), PROMPT).await.unwrap();
        let its_name = bench.page.call(Command::of(&element, "computedlabel"), PROMPT).await.unwrap();
        let its = (plain(its_role.as_str().unwrap()), its_name.as_str().unwrap().trim());
        if (its == (*expected_role, *expected_name)) != why.is_empty() {
            wrong.push(format!(
                "{html}\n  expected {expected_role:?} {expected_name:?}, Chromium says {its:?}; {why:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CASES.len() >= 120, "{} cases", CASES.len());
    bench.end().await;
}
