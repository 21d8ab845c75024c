//! The HAR of a run: valid by somebody else's validator, and what the server saw.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use wachta::app::lookup::Environment;
use wachta::outcome::{EvidenceKind, Verdict};
use wachta::scenario::{Engine, load};

use crate::support::group::tools;
use crate::support::places::{Place, told};
use crate::support::site::{Access, Site};

const SCENARIO: &str = "scenario: Traffic\nbase_url: ${env.SITE_URL}\nevidence: {har: true}\nsteps:\n\
    \x20 - goto: /traffic.html\n\
    \x20 - expect: {element: {testid: done}, text: \"4 answers\"}\n\
    \x20 - click: {link: Next page}\n\
    \x20 - expect: {title: Posted}\n";

/// Says on standard error what is wrong with a HAR file.
const VALIDATOR: &str = "const [tools, file] = process.argv.slice(1);\n\
    const {har} = require(tools + '/har/node_modules/har-validator/lib/promise');\n\
    har(JSON.parse(require('fs').readFileSync(file))).catch(error => { console.error(JSON.stringify(error.errors || String(error))); process.exit(1); });\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_har_is_valid_and_has_what_the_server_saw() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser-suite/site");
    for engine in Engine::ALL {
        let site = Site::open(&pages).await;
        let environment = Environment::everything().with([("SITE_URL".to_owned(), site.url())]);
        let scenario = load("traffic.yaml", SCENARIO, &environment).scenarios.remove(0);
        let place = Place::new(engine, None, environment);
        let outcome = place.run(&[scenario]).await.remove(0);
        assert_eq!(outcome.verdict, Verdict::Passed, "{}", told(&outcome));
        let har = outcome.evidence.iter().find(|evidence| evidence.kind == EvidenceKind::Har).expect("there is a HAR");
        let bytes = place.evidence(&har.path);
        place.close().await;
        valid(&bytes);

        let har: Value = serde_json::from_slice(&bytes).unwrap();
        let mut recorded = BTreeMap::new();
        for entry in har["log"]["entries"].as_array().unwrap() {
            let url = url::Url::parse(entry["request"]["url"].as_str().unwrap()).unwrap();
            assert_eq!(url.port(), Some(site.address.port()), "{engine}: {url}");
            let access = Access {
                method: entry["request"]["method"].as_str().unwrap().to_owned(),
                path: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
                status: u16::try_from(entry["response"]["status"].as_u64().unwrap()).unwrap(),
            };
            *recorded.entry(access).or_insert(0) += 1;
        }
        let mut served = BTreeMap::new();
        for access in site.log() {
            *served.entry(access).or_insert(0) += 1;
        }
        assert_eq!(recorded, served, "{engine}");
        assert_eq!(har["log"]["pages"].as_array().map(Vec::len), Some(2), "{engine}");
    }
}

/// Panics with what the validator says.
fn valid(har: &[u8]) {
    let file = std::env::temp_dir().join(format!("wachta-test-har-{}.json", std::process::id()));
    std::fs::write(&file, har).unwrap();
    let output = Command::new("node").args(["-e", VALIDATOR, "--"]).arg(tools("har")).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
