//! The documents say what the program does: keys, examples, schema.

use std::path::{Path, PathBuf};

use wachta::diagnostic::Severity;
use wachta::scenario::keys::{self, ActionSpec, Key};
use wachta::scenario::usual;
use wachta::scenario::{Lookup, LookupError, load};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// Compares with a file, or writes it anew when asked to.
fn same(name: &str, text: &str) {
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(path(name), text).unwrap();
    }
    assert_eq!(read(name), text, "{name} is not up to date: WACHTA_BLESS=1 cargo test documents");
}

/// Surroundings in which nothing is missing.
struct Anything;

impl Lookup for Anything {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Ok(format!("value-of-{name}"))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let text = read("docs/scenarios.md");
            return Ok(examples(&text).find(|yaml| is_used(yaml)).unwrap().as_bytes().to_vec());
        }
        Ok(b"a-file".to_vec())
    }
    fn exec(&self, _: &str) -> Result<Vec<(String, String)>, LookupError> {
        Ok(Vec::new())
    }
}

/// The examples in a document.
fn examples(text: &str) -> impl Iterator<Item = &str> {
    text.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap())
}

/// Whether an example is a file that others use.
fn is_used(yaml: &str) -> bool {
    yaml.starts_with("parameters:")
}

fn rows(keys: &[Key]) -> String {
    let (now, later): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| key.shape.is_some());
    let mut text = String::from("| Key | Description |\n|---|---|\n");
    for key in now {
        text.push_str(&format!("| `{}` | {} |\n", key.name, key.doc.replace('|', "\\|")));
    }
    if !later.is_empty() {
        let names: Vec<String> = later.iter().map(|key| format!("`{}`", key.name)).collect();
        text.push_str(&format!("\nNot supported yet: {}.\n", names.join(", ")));
    }
    text
}

fn kinds(kinds: &[ActionSpec]) -> String {
    let mut text = String::from("| Key | Description | Additional keys |\n|---|---|---|\n");
    for kind in kinds.iter().filter(|kind| kind.key.shape.is_some()) {
        let beside: Vec<String> =
            kind.sibling_keys.iter().filter(|key| key.shape.is_some()).map(|key| format!("`{}`", key.name)).collect();
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            kind.key.name,
            kind.key.doc.replace('|', "\\|"),
            beside.join(" ")
        ));
    }
    let later: Vec<String> =
        kinds.iter().filter(|kind| kind.key.shape.is_none()).map(|kind| format!("`{}`", kind.key.name)).collect();
    if !later.is_empty() {
        text.push_str(&format!("\nNot supported yet: {}.\n", later.join(", ")));
    }
    text
}

#[test]
fn every_key_is_documented() {
    let sections = [
        ("A scenario", rows(keys::SCENARIO)),
        ("A file of checks", rows(keys::CHECKS)),
        ("`defaults` of a scenario", rows(keys::SCENARIO_DEFAULTS)),
        ("`defaults` of checks", rows(keys::CHECK_DEFAULTS)),
        ("Any check", rows(keys::CHECK)),
        ("Kinds of checks", kinds(keys::CHECK_KINDS)),
        ("`alert`", rows(keys::ALERT)),
        ("Fragments", rows(keys::FRAGMENT)),
        ("`browser`", rows(keys::BROWSER)),
        ("`browser: {geolocation: …}`", rows(keys::GEOLOCATION)),
        ("`browser: {cookies: {NAME: …}}`", rows(keys::PRESET_COOKIE)),
        ("`browser: {basic_auth: …}`", rows(keys::BASIC_AUTH)),
        ("`browser: {trust: …}`", rows(keys::BROWSER_TRUST)),
        ("`evidence`", rows(keys::EVIDENCE)),
        ("`budget`", rows(keys::BUDGET)),
        ("`slo`", rows(keys::SLO)),
        ("`slower_than_usual`", rows(usual::USUAL)),
        ("`secrets`", rows(keys::SECRET)),
        ("`totp`", rows(keys::TOTP)),
        ("Options for any step", rows(keys::MODIFIERS)),
        ("Steps on a page", kinds(keys::PAGE_ACTIONS)),
        ("Options of a request (`GET POST PUT PATCH DELETE HEAD OPTIONS`)", rows(keys::REQUEST)),
        ("`multipart: {NAME: …}`", rows(keys::PART)),
        ("`graphql`", rows(keys::GRAPHQL)),
        ("`basic_auth` of a request", rows(keys::REQUEST_BASIC_AUTH)),
        ("`oauth2`", rows(keys::OAUTH2)),
        ("`eventually`", rows(keys::EVENTUALLY)),
        ("`trust`", rows(keys::TRUST)),
        ("`group` and `use`", kinds(&[keys::GROUP, keys::USE])),
        ("Locators", rows(keys::HOW)),
        ("Locator options", rows(keys::TARGET_BESIDE)),
        ("Matchers", rows(keys::MATCHERS)),
        ("`expect` on a page", rows(keys::PAGE_FACTS)),
        ("`expect: {element: …}`", rows(keys::ELEMENT_FACTS)),
        ("`expect: {download: …}`", rows(keys::DOWNLOAD)),
        ("`expect: {request: …}`", rows(keys::SENT)),
        ("`expect` on a response", rows(keys::RESPONSE_FACTS)),
        ("`save` on a page", rows(keys::PAGE_SOURCES)),
        ("`save` on a response", rows(keys::RESPONSE_SOURCES)),
    ];
    let checks = keys::CHECK_EXPECT.iter().map(|(title, table)| (*title, rows(table)));
    let (begin, end) = ("the reader uses -->\n", "<!-- end of keys -->\n");
    let page = read("docs/scenarios.md");
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let mut text = format!("{before}{begin}");
    for (title, table) in sections.into_iter().chain(checks) {
        text.push_str(&format!("\n### {title}\n\n{table}"));
    }
    text.push_str(&format!("\n{end}{after}"));
    same("docs/scenarios.md", &text);
}

#[test]
fn every_example_in_the_documents_loads() {
    let mut seen = 0;
    for document in ["README.md", "docs/scenarios.md", "docs/checks.md", "docs/opentelemetry.md"] {
        let text = read(document);
        for yaml in examples(&text) {
            if yaml.starts_with("location:") {
                let (config, found) = wachta::app::config::read(document, yaml);
                assert!(config.is_some() && found.is_empty(), "{document}: {found:#?}");
            } else {
                let loaded = load(document, yaml, &Anything);
                let errors: Vec<String> = loaded
                    .diagnostics
                    .iter()
                    .filter(|found| found.severity > Severity::Warning)
                    .map(|found| found.render(false))
                    .collect();
                let found = loaded.scenarios.is_empty() == is_used(yaml);
                assert!(errors.is_empty() && found, "{document}:\n{}", errors.join("\n"));
            }
            seen += 1;
        }
    }
    assert!(seen >= 18, "only {seen} examples were found");
}

#[test]
fn the_schema_beside_the_examples_is_the_one_that_is_printed() {
    let mut printed = Vec::new();
    let args = wachta::cli::schema::SchemaArgs { config: false };
    wachta::cli::schema::schema(&args, &mut printed).unwrap();
    same("scenarios/scenario.schema.json", &String::from_utf8(printed).unwrap());
}
