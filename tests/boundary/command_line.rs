//! The command line as scripts see it: exit codes, what is printed, reports.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use wachta::demo::{Demo, DemoLookup, Fault};

use crate::support::Folder;
use crate::support::receiver::Receiver;

/// What a command did.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Everything it said.
    pub fn said(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// The examples of the repository.
fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name).display().to_string()
}

/// Runs `wachta` in a folder, with what the shop's scenarios need when there is a shop.
pub async fn wachta(folder: &Folder, shop: Option<&Demo>, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["SHOP_URL", "SHOP_ADDRESS", "SHOP_TLS_ADDRESS", "SHOP_CA", "SHOP_USER", "SHOP_PASSWORD", "WACHTA_LOG"]
    {
        command.env_remove(name);
    }
    if let Some(shop) = shop {
        folder.write("ca.pem", shop.authority.pem());
        for (name, value) in DemoLookup::new(shop).variables() {
            command.env(name, value);
        }
        command.env("SHOP_CA", folder.path().join("ca.pem"));
    }
    let output = tokio::time::timeout(Duration::from_secs(90), command.output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn open() -> (CancellationToken, Demo) {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    (stop, shop)
}

/// Ten files' worth of mistakes: each with its text and the place it must be told at.
const MISTAKES: [(&str, &str, &str); 10] = [
    ("a.yaml", "checks:\n  a: {tcp: x}\n", "2:12"),
    ("b.yaml", "checks:\n  b: {tsl: \"a:1\"}\n", "2:7"),
    ("c.yaml", "checks:\n  c: {http: /x}\n", "2:13"),
    ("d.yaml", "checks:\n  d: {tcp: \"a:1\", evry: 1m}\n", "2:19"),
    ("e.yaml", "checks:\n  e: {tcp: \"a:1\", every: 5}\n", "2:26"),
    ("f.yaml", "scenario: F\nsteps:\n  - clik: {button: Go}\n", "3:5"),
    ("g.yaml", "scenario: G\nsteps:\n  - goto: https://a.example/\n  - click: {buton: Go}\n", "4:13"),
    ("h.yaml", "scenario: H\nsteps:\n  - GET: https://a.example/${vars.nothing}\n", "3:10"),
    ("i.yaml", "scenario: {\n", "1:11"),
    ("deep/j.yml", "scenario: J\nsteps:\n  - GET: https://a.example/\n    expect: {status: many}\n", "4:22"),
];

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_mistake_with_its_place() {
    let folder = Folder::new("check");
    for (file, text, _) in MISTAKES {
        folder.write(&format!("scenarios/{file}"), text);
    }
    folder.write("scenarios/good.yaml", "checks:\n  good: {tcp: \"a:1\"}\n");
    let ran = wachta(&folder, None, &["check", "scenarios"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    for (file, _, place) in MISTAKES {
        assert!(
            ran.out.contains(&format!("--> scenarios/{file}:{place} "))
                || ran.out.contains(&format!("--> scenarios/{file}:{place}\n")),
            "{file}:{place}\n{}",
            ran.out
        );
    }
    assert!(ran.out.ends_with("11 files, 1 scenario, 10 errors, 0 warnings\n"), "{}", ran.out);

    let ran = wachta(&folder, None, &["check", "--format", "json", "scenarios"]).await;
    let told: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let place = |one: &Value| format!("{}:{}:{}", one["file"].as_str().unwrap(), one["line"], one["column"]);
    let mut told: Vec<_> = told.iter().map(place).collect();
    told.sort();
    let mut expected: Vec<_> = MISTAKES.iter().map(|(file, _, at)| format!("scenarios/{file}:{at}")).collect();
    expected.sort();
    assert_eq!((ran.code, told), (Some(2), expected));

    let ran = wachta(&folder, None, &["check", "scenarios/good.yaml"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    // What is missing on this machine is no mistake of the file.
    let ran = wachta(&folder, None, &["check", &example("")]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let ran = wachta(&folder, None, &["check", "nowhere"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.said().contains("nowhere"), "{}", ran.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn run_of_an_api_passes_and_fails() {
    let (stop, shop) = open().await;
    let folder = Folder::new("run-api");
    let orders = example("orders-api.yaml");
    let ran = wachta(&folder, Some(&shop), &["run", &orders]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.out.ends_with("1 run: 1 passed\n"), "{}", ran.out);

    shop.shop.set(Fault::Error500, true);
    let reports = ["--report", "junit=junit.xml", "--report", "json=out.json"];
    let ran = wachta(&folder, Some(&shop), &[&["run", orders.as_str()][..], &reports].concat()).await;
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    // The line of the scenario, a caret below it, what was expected and what was seen.
    let line =
        std::fs::read_to_string(&orders).unwrap().lines().position(|line| line.contains("status: 201")).unwrap() + 1;
    for part in [&format!("orders-api.yaml:{line}:"), "      status: 201", "^^^", "expected: 201", "actual: 500"] {
        assert!(ran.out.contains(part), "no {part:?} in\n{}", ran.out);
    }
    assert!(!ran.said().contains(wachta::demo::PASSWORD), "secrets are not shown");

    let xml = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((report.failures, report.errors), (1, 0), "{xml}");
    assert!(xml.contains("<failure ") && !xml.contains("<error"), "{xml}");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("out.json")).unwrap()).unwrap();
    assert!(json.to_string().contains("\"verdict\":\"failed\""), "{json:#}");
    assert!(!xml.contains(wachta::demo::PASSWORD) && !json.to_string().contains(wachta::demo::PASSWORD));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn run_of_a_page_shows_what_was_seen() {
    let (stop, shop) = open().await;
    shop.shop.set(Fault::MissingButton, true);
    let folder = Folder::new("run-page");
    let checkout = example("shop-checkout.yaml");
    let ran = wachta(&folder, Some(&shop), &["run", &checkout, "--evidence", "seen"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    let line =
        std::fs::read_to_string(&checkout).unwrap().lines().position(|line| line.contains("Add to cart")).unwrap() + 1;
    for part in
        [&format!("shop-checkout.yaml:{line}:"), "- click: {button: Add to cart}", "^^^", "expected: ", "actual: "]
    {
        assert!(ran.out.contains(part), "no {part:?} in\n{}", ran.out);
    }
    let shown =
        ran.out.lines().find_map(|line| line.trim().strip_prefix("= screenshot: ")).expect("a screenshot is named");
    assert!(shown.starts_with("seen/"), "{shown}");
    let picture = std::fs::read(folder.path().join(shown)).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "{shown} is no picture");
    assert!(!ran.said().contains(wachta::demo::PASSWORD));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_browser_nothing_is_called_failed() {
    let (stop, shop) = open().await;
    let folder = Folder::new("run-nowhere");
    let arguments = ["--webdriver", "http://127.0.0.1:1", "--report", "junit=junit.xml"];
    let ran =
        wachta(&folder, Some(&shop), &[&["run", example("shop-catalogue.yaml").as_str()][..], &arguments].concat())
            .await;
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.out.contains("WebDriver") && ran.out.ends_with("1 run: 1 unknown\n"), "{}", ran.out);
    let xml = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((report.failures, report.errors), (0, 1), "{xml}");
    // One that failed decides, also beside one that could not be tested.
    shop.shop.set(Fault::Error500, true);
    let both =
        ["run", &example("shop-catalogue.yaml"), &example("orders-api.yaml"), "--webdriver", "http://127.0.0.1:1"];
    let ran = wachta(&folder, Some(&shop), &both).await;
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_taken_or_refused_by_name() {
    let (stop, shop) = open().await;
    let folder = Folder::new("arguments");
    folder.write(
        "two.yaml",
        "defaults: {timeout: 5s}\nchecks:\n  one: {http: \"${env.SHOP_URL}/\", tags: {team: shop}}\n  two: {http: \"${env.SHOP_URL}/nowhere\", tags: {team: other}}\n",
    );
    folder.write(
        "vars.yaml",
        "scenario: Vars\nbase_url: ${env.OTHER_URL}\nsecrets: {password: {env: OTHER_PASSWORD}}\nvars: {path: /nowhere}\nsteps:\n  \
         - POST: /oauth/token\n    form: {client_id: anna@example.com, client_secret: \"${secret.password}\"}\n  - GET: ${vars.path}\n",
    );
    folder.write("exec.yaml", "checks:\n  good: {exec: [sh, -c, \"exit 0\"]}\n  bad: {exec: [sh, -c, \"exit 3\"]}\n");
    folder.write("page.yaml", "scenario: Page\nsteps:\n  - goto: http://127.0.0.1:1/\n");
    folder.write("empty/readme.txt", "");
    folder.write("agent.yaml", "location: here\nscenarios: [two.yaml]\nweb: {listen: \"0.0.0.0:2\", insecure: true}\n");
    folder.write("beat.yaml", "checks:\n  job: {heartbeat: job}\n");
    folder.write("env", &format!("# the shop\nexport OTHER_URL=\"http://{}\"\n", shop.http));
    let password = format!("password={}", wachta::demo::PASSWORD);
    let vars = ["run", "vars.yaml", "--env-file", "env", "--secret", &password];
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "two.yaml"], 1, "2 runs: 1 passed, 1 failed\n"),
        (&["run", "two.yaml", "--only", "one"], 0, "1 run: 1 passed\n"),
        (&["run", "two.yaml", "--only", "tow"], 2, "no scenario has the id `tow`; did you mean `two`?"),
        (&["run", "two.yaml", "--tag", "team=shop", "--repeat", "3"], 0, "3 runs: 3 passed\n"),
        (&["run", "two.yaml", "--tag", "team=nobody"], 2, "no scenario to run"),
        (&["run", "two.yaml", "--tag", "team"], 2, "write NAME=VALUE"),
        (&["run", "two.yaml", "--repeat", "0"], 2, "--repeat"),
        (&["run", "two.yaml", "--var", "a=b"], 2, "no scenario has `a` under `vars`"),
        (&["run", "two.yaml", "--secret", "a=b"], 2, "no scenario has `a` under `secrets`"),
        (&["run", "two.yaml", "--report", "html=x"], 2, "`--report html=` is not known: junit or json"),
        (&["run", "two.yaml", "--report", "json=no/such/folder/x"], 2, "cannot write no/such/folder/x: "),
        (&["run", "exec.yaml"], 2, "the program `sh` is not allowed; start with `--allow-exec`"),
        (&["run", "exec.yaml", "--allow-exec"], 1, "2 runs: 1 passed, 1 failed\n"),
        (&["check", "exec.yaml"], 0, ""),
        (&["run", "beat.yaml"], 0, "job: skipped, check-ins are received by `wachta serve` only\n"),
        (&["run", "two.yaml", "--browser", "safari"], 2, "`--browser safari` is not known: chromium or firefox"),
        (&["run", "two.yaml", "--only", "one", "--browser", "firefox", "--headed"], 0, "1 run: 1 passed\n"),
        (&["run", "two.yaml", "--webdriver", "ftp://here"], 2, "--webdriver"),
        (&["run", "two.yaml", "--only", "one", "--repeat", "4", "--parallel", "3"], 0, "4 runs: 4 passed\n"),
        (&["run", "two.yaml", "--parallel", "0"], 2, "--parallel"),
        (&["run", "page.yaml", "--headed"], 2, "`--headed` needs a display"),
        (&["run", "empty"], 2, "no scenario file (*.yaml, *.yml) in empty"),
        (&["check", "empty"], 2, "no scenario file (*.yaml, *.yml) in empty"),
        (&["explain", "empty"], 2, "no scenario file (*.yaml, *.yml) in empty"),
        (&["check", "agent.yaml"], 0, "`SHOP_URL` is not allowed; add it to `allow.env`"),
        (&["alerts", "list", "--url", "127.0.0.1:1"], 2, "no agent is reachable at http://127.0.0.1:1;"),
        (&["alerts", "list", "--config", "agent.yaml"], 2, "no agent is reachable at http://127.0.0.1:2;"),
        (&["alerts", "list", "--config", "none.yaml"], 2, "none.yaml cannot be read"),
        (&["run", "nowhere.yaml"], 2, "nowhere.yaml"),
        (&["run"], 2, "PATH"),
        (&["watch"], 2, "watch"),
        (&[], 2, "Usage"),
        (&["--version"], 0, "wachta 0."),
        (&["run", "vars.yaml"], 2, "vars.yaml:2:11"),
        (&["run", "vars.yaml", "--env-file", "env"], 2, "vars.yaml:3:"),
        (&["run", "vars.yaml", "--env-file", "none"], 2, "none cannot be read"),
        (&vars, 1, "1 run: 1 failed\n"),
        (&[&vars[..], &["--var", "path=/"]].concat(), 0, "1 run: 1 passed\n"),
    ];
    for (arguments, code, part) in cases {
        let ran = wachta(&folder, Some(&shop), arguments).await;
        assert_eq!(ran.code, Some(*code), "{arguments:?}\n{}", ran.said());
        assert!(ran.said().contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
        assert!(!ran.said().contains(wachta::demo::PASSWORD), "{arguments:?}\n{}", ran.said());
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_tried() {
    let (folder, hook) = (Folder::new("alerts-test"), Receiver::listen().await);
    let address = hook.address;
    folder.write(
        "wachta.yaml",
        "location: waw-1\nscenarios: []\nweb: {external_url: https://wachta.example.com}\nalerting:\n  receivers:\n    \
             hook: {webhook: {url: {file: hook}}}\n    away: {webhook: {url: \"http://127.0.0.1:9/hidden-token\"}}\n    \
             lost: {webhook: {url: {file: nowhere}}}\n",
    );
    folder.write("hook", &format!("http://{address}/hidden-token\n"));
    folder.write("bad.yaml", "location: waw-1\nscenarios: []\nalerting: {templates: {title: \"{{ nam }}\"}}\n");
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["alerts", "test", "hook"],
            0,
            "hook accepted the test: 204 No Content\nhook accepted the resolution of the test: 204",
        ),
        (&["alerts", "test", "hook", "--config", "./wachta.yaml"], 0, "hook accepted the test: 204"),
        (&["alerts", "test", "log"], 0, "log accepted the test"),
        (&["alerts", "test", "away"], 1, "away did not accept the test, but may later: no connection: "),
        (
            &["alerts", "test", "lost"],
            1,
            "lost did not accept the test, but may later: the file `nowhere` cannot be read",
        ),
        (&["alerts", "test", "hok"], 2, "no receiver `hok` in wachta.yaml; known receivers: hook, away, lost, log"),
        (&["alerts", "test", "hook", "--config", "bad.yaml"], 2, "bad.yaml:3:35"),
        (&["alerts", "test", "hook", "--config", "none.yaml"], 2, "none.yaml cannot be read"),
        (&["alerts", "test"], 2, "RECEIVER"),
        (&["alerts"], 2, "Usage"),
    ];
    for (arguments, code, part) in cases {
        let ran = wachta(&folder, None, arguments).await;
        assert_eq!(ran.code, Some(*code), "{arguments:?}\n{}", ran.said());
        assert!(ran.said().contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
        assert!(!ran.said().contains("hidden-token"), "{arguments:?}\n{}", ran.said());
    }
    let heard = hook.heard();
    assert_eq!(heard.len(), 4);
    assert!(
        heard.iter().all(|notification| notification["text"].as_str().unwrap().starts_with("[TEST] ")),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_and_explain() {
    let (stop, shop) = open().await;
    let folder = Folder::new("explain");
    for arguments in [&["schema"][..], &["schema", "--config"]] {
        let ran = wachta(&folder, None, arguments).await;
        let schema: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, schema["$schema"].is_string()), (Some(0), true), "{arguments:?}");
    }
    let ran = wachta(&folder, Some(&shop), &["explain", &example("")]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let blocks: Vec<&str> = ran.out.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
    for (id, parts) in [
        ("shop-checkout ", &["click button \"Add to cart\"", "timeout 5s", "Pay"][..]),
        ("orders-api ", &["POST /oauth/token", "DELETE", "every 10s"]),
        ("port ", &["every 5s"]),
    ] {
        let block = blocks.iter().find(|block| block.starts_with(id)).expect(id);
        for part in parts {
            assert!(block.contains(part), "no {part:?} in\n{block}");
        }
        let (_, dues) = block.split_once("next due\n").unwrap();
        let times = dues.lines().filter(|line| line.trim().starts_with("20")).count();
        assert_eq!(times, 10, "{block}");
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_says_why_it_does_not_start() {
    let folder = Folder::new("no-start");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = |store: &str, listen: &str| {
        format!("location: here\nscenarios: [scenarios/]\nstore: \"{store}\"\nweb: {{listen: \"{listen}\"}}\n")
    };
    folder.write("bad.yaml", "location: here\nscenarois: [scenarios/]\n");
    folder.write("taken.yaml", &file("sqlite:wachta.db", &address.to_string()));
    folder.write("folder.yaml", &file("sqlite:bad.yaml/wachta.db", "127.0.0.1:0"));
    folder.write("garbage.db", &"this is no database ".repeat(100));
    folder.write("garbage.yaml", &file("sqlite:garbage.db", "127.0.0.1:0"));
    let taken_says = format!("error: cannot listen on {address}: ");
    let cases: &[(&str, &[&str])] = &[
        ("wachta.yaml", &["error: wachta.yaml cannot be read", "--config"]),
        ("bad.yaml", &["bad.yaml:2:1", "did you mean `scenarios`?", "error: bad.yaml cannot be loaded"]),
        ("taken.yaml", &[&taken_says, "set another address as `web.listen`"]),
        ("folder.yaml", &["error: ", "bad.yaml/wachta.state"]),
        ("garbage.yaml", &["error: store: ", "garbage.db"]),
    ];
    for (config, parts) in cases {
        let ran = wachta(&folder, None, &["serve", "--config", config]).await;
        assert_eq!(ran.code, Some(2), "{config}\n{}", ran.said());
        for part in *parts {
            assert!(ran.err.contains(part), "{config}: no {part:?} in\n{}", ran.err);
        }
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
}

#[test]
fn the_agents_file_of_deploy_loads() {
    for (name, is_open) in [("wachta.yaml", false), ("wachta.container.yaml", true)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let (config, found) = wachta::app::config::read(name, &std::fs::read_to_string(path).unwrap());
        assert_eq!(found, Vec::new());
        let web = config.unwrap().web;
        assert_eq!((!web.listen.ip().is_loopback(), web.insecure), (is_open, is_open), "{name}");
    }
}
