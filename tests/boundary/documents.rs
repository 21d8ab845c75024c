//! The documents say what the program does: keys, examples, schema.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use wachta::app::config;
use wachta::bounded::credential::SECRET;
use wachta::diagnostic::Severity;
use wachta::scenario::keys::{self, ActionSpec, Key, Shape};
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

/// Compares the part of a document that lists keys with these sections, or writes that part again when asked to.
fn same_keys<T: Display>(name: &str, sections: impl Iterator<Item = (T, String)>) {
    let (begin, end) = ("the reader uses -->\n", "<!-- end of keys -->\n");
    let page = read(name);
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let mut text = format!("{before}{begin}");
    for (title, table) in sections {
        text.push_str(&format!("\n### {title}\n\n{table}"));
    }
    text.push_str(&format!("\n{end}{after}"));
    same(name, &text);
}

/// Returns the description of a key for a cell of a table.
fn described(key: &Key) -> String {
    key.doc.replace('|', "\\|")
}

fn rows(keys: &[Key]) -> String {
    table(&["Description"], keys.iter(), |key| vec![described(key)])
}

/// Writes a table of keys with these columns after the name. `cells` returns the content of the columns.
fn table<'k>(columns: &[&str], keys: impl Iterator<Item = &'k Key>, cells: impl Fn(&Key) -> Vec<String>) -> String {
    let (now, later): (Vec<&Key>, Vec<&Key>) = keys.partition(|key| key.shape.is_some());
    let mut text = format!("| Key | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for key in now {
        text.push_str(&format!("| `{}` | {} |\n", key.name, cells(key).join(" | ")));
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
        text.push_str(&format!("| `{}` | {} | {} |\n", kind.key.name, described(&kind.key), beside.join(" ")));
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
    same_keys("docs/scenarios.md", sections.into_iter().chain(checks));
}

/// Map of the agent configuration.
struct MapOfKeys {
    /// Heading in words. If it is absent, the places are the heading.
    title: Option<&'static str>,
    /// Paths of all keys with such a map.
    places: Vec<String>,
    /// Keys of the map.
    tables: &'static [&'static [Key]],
}

impl MapOfKeys {
    fn title(&self) -> String {
        let places = || self.places.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(", ");
        self.title.map_or_else(places, str::to_owned)
    }

    /// Returns the part of a link to the heading after the `#`.
    fn anchor(&self) -> String {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        self.title().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    }
}

/// Returns the index of the map with these keys.
fn position(maps: &[MapOfKeys], tables: &[&[Key]]) -> Option<usize> {
    let wanted = format!("{tables:?}");
    maps.iter().position(|map| format!("{:?}", map.tables) == wanted)
}

/// Collects the maps in the shape of the key with this path, each once.
fn maps_in(place: &str, shape: &Shape, found: &mut Vec<MapOfKeys>) {
    match *shape {
        Shape::List(inner) | Shape::OneOrMany(inner) => maps_in(place, inner, found),
        Shape::Map(inner) => maps_in(&format!("{place}.NAME"), inner, found),
        Shape::Either(shapes) => {
            for shape in shapes {
                maps_in(place, shape, found);
            }
        }
        Shape::Keys(tables) => {
            if let Some(known) = position(found, tables) {
                found[known].places.push(place.to_owned());
                return;
            }
            if tables.iter().all(|table| table.is_empty()) {
                return;
            }
            found.push(MapOfKeys { title: None, places: vec![place.to_owned()], tables });
            for key in tables.iter().copied().flatten() {
                let below = if place.is_empty() { key.name.to_owned() } else { format!("{place}.{}", key.name) };
                if let Some(shape) = &key.shape {
                    maps_in(&below, shape, found);
                }
            }
        }
        Shape::Text
        | Shape::Bool
        | Shape::Count
        | Shape::Whole
        | Shape::Number
        | Shape::Size
        | Shape::Pixels
        | Shape::Duration
        | Shape::Any
        | Shape::Words(_)
        | Shape::Ref(_) => {}
    }
}

/// Describes a shape in words, in the plural if there are `many`, with links to the maps.
fn in_words(shape: &Shape, many: bool, maps: &[MapOfKeys]) -> String {
    let s = if many { "s" } else { "" };
    match shape {
        Shape::Text => format!("text{s}"),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Count => format!("whole number{s} above 0"),
        Shape::Whole => format!("whole number{s}"),
        Shape::Number => format!("number{s}"),
        Shape::Size => format!("size{s}"),
        Shape::Pixels => format!("number{s} of pixels"),
        Shape::Duration => format!("duration{s}"),
        Shape::Any => format!("any value{s}"),
        Shape::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
        Shape::Ref(name) => format!("{name}{s}"),
        Shape::List(inner) => format!("list{s} of {}", in_words(inner, true, maps)),
        Shape::OneOrMany(inner) => {
            format!("{}, or list of {}", in_words(inner, many, maps), in_words(inner, true, maps))
        }
        Shape::Map(inner) => format!("map{s} from names to {}", in_words(inner, true, maps)),
        Shape::Either(shapes) => {
            shapes.iter().map(|shape| in_words(shape, many, maps)).collect::<Vec<_>>().join(" or ")
        }
        Shape::Keys(tables) => match position(maps, tables) {
            Some(map) => format!("[map{s}](#{})", maps[map].anchor()),
            None => "`{}`".to_owned(),
        },
    }
}

/// Collects the names and descriptions of the keys in a JSON Schema.
fn keys_of_schema(schema: &serde_json::Value, found: &mut BTreeSet<(String, String)>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        found.insert((name.clone(), key["description"].as_str().unwrap().to_owned()));
    }
    let parts: Vec<&serde_json::Value> = match schema {
        serde_json::Value::Object(parts) => parts.values().collect(),
        serde_json::Value::Array(parts) => parts.iter().collect(),
        _ => Vec::new(),
    };
    for part in parts {
        keys_of_schema(part, found);
    }
}

#[test]
fn every_key_of_the_agent_configuration_is_documented() {
    let mut maps = Vec::new();
    maps_in("", &SECRET, &mut maps);
    maps_in("", &Shape::Keys(config::KEYS), &mut maps);
    (maps[0].title, maps[1].title) = (Some("Secrets"), Some("Top level"));
    // Many maps refer to secrets, so they come last.
    maps.rotate_left(1);
    let columns = ["Value", "Description"];
    let sections = maps.iter().map(|map| {
        let value = |key: &Key| key.shape.as_ref().map(|shape| in_words(shape, false, &maps)).unwrap_or_default();
        let keys = map.tables.iter().copied().flatten();
        (map.title(), table(&columns, keys, |key| vec![value(key), described(key)]))
    });
    same_keys("docs/configuration.md", sections);

    // The schema is derived from the same tables by other code: it has no key that is not on the page.
    let mut keys = BTreeSet::new();
    keys_of_schema(&config::schema(), &mut keys);
    assert!(keys.len() > 100, "the schema has only {} keys", keys.len());
    let page = read("docs/configuration.md");
    for (name, doc) in keys {
        let (begin, end) = (format!("| `{name}` | "), format!(" | {} |", doc.replace('|', "\\|")));
        let is_there = page.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end));
        assert!(is_there, "`{name}` is missing: {doc}");
    }
}

#[test]
fn every_example_in_the_documents_loads() {
    let mut seen = 0;
    for document in [
        "README.md",
        "docs/configuration.md",
        "docs/first-scenario.md",
        "docs/scenarios.md",
        "docs/checks.md",
        "docs/opentelemetry.md",
    ] {
        let text = read(document);
        for yaml in examples(&text) {
            if yaml.starts_with("location:") {
                let (config, found) = config::read(document, yaml);
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
