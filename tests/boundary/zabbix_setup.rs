//! Setting Zabbix up, and finding out why it takes no values, against the servers of 6.0 and 7.0.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::bounded::credential::Credential;
use wachta::outcome::Verdict;
use wachta::sink::prometheus::Prometheus;
use wachta::sink::zabbix::Config;
use wachta::sink::zabbix::api::{self, Login};
use wachta::sink::zabbix::doctor::{Expected, Finding, examine};
use wachta::sink::zabbix::template::{Format, file};
use wachta::sink::{Context, Destination, Metrics, Parts, Sinks, Timing};
use wachta::store::Sqlite;
use wachta::store::evidence::EvidenceFolder;
use wachta::tasks::Tasks;

use crate::command_line::{Ran, wachta};
use crate::support::zabbix::{Api, Server, Version};
use crate::support::{Folder, until};
use crate::zabbix::{outcome, scenarios};

/// Runs a test against each version that can be had.
async fn each_version(test: impl AsyncFn(&Server, &Api)) {
    for version in Version::ALL {
        let server = tokio::task::spawn_blocking(move || Server::start(version)).await.unwrap();
        if let Some(server) = server {
            let api = Api::login(&server).await;
            test(&server, &api).await;
            tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        }
    }
}

fn config(server: &Server, api: &Api) -> Config {
    Config {
        servers: vec![server.trapper.clone()],
        host: api.host.clone(),
        tags: vec!["service".into()],
        ..Config::default()
    }
}

/// Sinks that send to Zabbix alone.
async fn sinks() -> Sinks {
    let sinks = Sinks::open(Parts {
        store: Arc::new(Sqlite::open("sqlite::memory:").await.unwrap()),
        is_durable: false,
        context: Context {
            location: "waw-1".into(),
            agent_state: Arc::new(|| json!({"version": "test"})),
            http_client: Arc::new(|_| Err("no HTTP client is needed".into())),
            evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
            prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "waw-1")),
        },
        metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
        tasks: Tasks::unregistered(CancellationToken::new()),
        timing: Timing {
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_millis(400),
            ..Timing::default()
        },
    });
    sinks.await.unwrap()
}

/// Takes away what an earlier test, or a benchmark, has made.
async fn clear(api: &Api) {
    for (get, delete, id) in [
        ("maintenance.get", "maintenance.delete", "maintenanceid"),
        ("host.get", "host.delete", "hostid"),
        ("template.get", "template.delete", "templateid"),
        ("dashboard.get", "dashboard.delete", "dashboardid"),
    ] {
        let filter = match get {
            "host.get" => json!({"search": {"host": "wachta-"}, "startSearch": true, "output": [id]}),
            "maintenance.get" => json!({"search": {"name": "wachta-test-"}, "startSearch": true, "output": [id]}),
            "template.get" => json!({"filter": {"host": "wachta"}, "output": [id]}),
            _ => json!({"filter": {"name": "wachta"}, "output": [id]}),
        };
        let found = api.call(get, filter).await;
        let ids: Vec<_> = found.as_array().unwrap().iter().map(|object| object[id].clone()).collect();
        if !ids.is_empty() {
            api.call(delete, json!(ids)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioning_twice_changes_nothing() {
    each_version(async |server, api| {
        clear(api).await;
        let folder = Folder::new("provision");
        folder.write("password", "zabbix\n");
        let text = format!(
            "location: here\nscenarios: []\nzabbix:\n  server: \"{}\"\n  host: {}\n  tags: [service]\n  api: {{url: \"{}\", \
             user: Admin, password: {{file: password}}}}\n",
            server.trapper, api.host, server.api
        );
        folder.write("wachta.yaml", &text);
        let run = async |more: &[&str]| -> Ran {
            let arguments = [&["zabbix", "provision", "--group", "Watched by tests"], more].concat();
            wachta(&folder, None, &arguments).await
        };
        let said = async |more: &[&str]| -> String {
            let ran = run(more).await;
            assert_eq!(ran.code, Some(0), "{}", ran.said());
            ran.out
        };
        let hosts = async || api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;

        let dry = said(&["--dry-run"]).await;
        assert!(dry.contains("would add the template `wachta`") && dry.contains("would add the host `"), "{dry}");
        assert_eq!(hosts().await, json!([]));
        let made = said(&[]).await;
        assert_eq!(made, dry.replace("would ", ""));
        assert_eq!(said(&[]).await, "nothing to change\n");
        assert_eq!(said(&["--dry-run"]).await, "nothing to change\n");

        // What was changed by hand, or is missing since a run was interrupted, is put in order, and nothing else.
        let template = api.call("template.get", json!({"filter": {"host": "wachta"}, "output": ["templateid"]})).await;
        let template = &template[0]["templateid"];
        let prototypes = json!({"templateids": [template], "filter": {"description": "{#NAME}: failed"}, "selectTags": "extend"});
        let failed = api.call("triggerprototype.get", prototypes.clone()).await;
        let tags: BTreeSet<_> =
            failed[0]["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap().to_owned()).collect();
        assert_eq!(tags, ["scenario", "scope", "service"].map(String::from).into());
        api.call("triggerprototype.update", json!({"triggerid": failed[0]["triggerid"], "priority": 5})).await;
        let changed = said(&["--dry-run"]).await;
        let expected = "would update the template `wachta`\n    ~ trigger prototype `{#NAME}: failed`: priority: DISASTER → WARNING\n";
        assert_eq!(changed, expected);
        api.call("host.delete", json!([hosts().await[0]["hostid"]])).await;
        let repaired = said(&[]).await;
        assert!(repaired.starts_with("update the template") && repaired.contains("\nadd the host `"), "{repaired}");
        let id = hosts().await[0]["hostid"].clone();
        let unlink = json!({"hostid": id, "templates_clear": [{"templateid": template}]});
        api.call("host.update", unlink).await;
        let linked = said(&[]).await;
        assert!(linked.starts_with("link the host `"), "{linked}");

        // An agent with other tags leaves those of the first.
        folder.write("wachta.yaml", &text.replace("[service]", "[team]"));
        assert!(said(&[]).await.contains("+team:{#TAG.TEAM}"));
        folder.write("wachta.yaml", &text);
        let addresses = said(&["--allowed-hosts", "192.0.2.7"]).await;
        assert!(addresses.contains("that of the template → 192.0.2.7"), "{addresses}");
        assert_eq!(said(&["--allowed-hosts", "192.0.2.7"]).await, "nothing to change\n");

        // What Zabbix refuses is said with what to do.
        folder.write("password", "wrong\n");
        let ran = run(&[]).await;
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("user.login") && ran.err.contains("check the token, or the user"), "{}", ran.err);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_the_template_are_imported() {
    each_version(async |server, api| {
        clear(api).await;
        for format in [Format::V6_0, Format::V7_0] {
            if format == Format::V7_0 && server.version == Version::V6_0 {
                continue;
            }
            let all = json!({"createMissing": true, "updateExisting": true});
            let mut rules = json!({
                "templates": all, "valueMaps": all, "items": all, "triggers": all, "graphs": all, "discoveryRules": all,
                "templateDashboards": all,
            });
            let groups = if server.version == Version::V6_0 { "groups" } else { "template_groups" };
            rules[groups] = json!({"createMissing": true});
            let import = json!({"format": "yaml", "source": file(format, &[]), "rules": rules});
            // A new version goes over an old one.
            for _ in 0..2 {
                assert_eq!(api.call("configuration.import", import.clone()).await, true);
            }
            let dashboards = json!({"search": {"name": "wachta"}, "output": ["name"], "selectPages": ["name"]});
            let dashboards = api.call("templatedashboard.get", dashboards).await;
            assert_eq!(dashboards[0]["pages"][1]["name"], "Steps");
        }
    })
    .await;
}

/// How long a scenario waits for its next run.
const NEXT_RUNS: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_scenarios_appear() {
    each_version(async |server, api| {
        api.provision().await;
        let ids: Vec<_> = (0..200).map(|n| format!("s{n:03}")).collect();
        let severities: Vec<_> = ids.iter().map(|id| (id.as_str(), "critical")).collect();
        let sinks = sinks().await;
        sinks.load(&[Destination::from(config(server, api))], &scenarios(&severities), &[]).await;
        let hosts = api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;
        let host = &hosts[0]["hostid"];
        let runs =
            json!({"hostids": host, "search": {"key_": "wachta.run["}, "startSearch": true, "countOutput": true});
        api.until("item.get", runs, |count| api::text(count) == "200").await;

        let problems = json!({"hostids": host, "search": {"name": ": failed"}, "selectTags": "extend"});
        let (mut due, mut runs) = (Instant::now(), 0);
        let all = until("every scenario has its problem", Duration::from_secs(150), async || {
            // A server learns of items before it learns of their triggers: where a run came in between, the next one
            // opens the problem.
            if Instant::now() >= due {
                for id in &ids {
                    sinks.outcome(outcome(id, Utc::now(), Verdict::Failed), None, |_| {});
                }
                (due, runs) = (Instant::now() + NEXT_RUNS, runs + 1);
            }
            let open = api.call("problem.get", problems.clone()).await;
            (open.as_array().unwrap().len() == ids.len()).then_some(open)
        })
        .await;
        println!("{:?}: {} problems after {runs} runs of each", server.version, ids.len());
        for problem in all.as_array().unwrap() {
            let tag = |name: &str| {
                let tags = problem["tags"].as_array().unwrap();
                tags.iter().find(|tag| tag["tag"] == name).map(|tag| tag["value"].as_str().unwrap().to_owned())
            };
            assert_eq!((problem["severity"].as_str(), tag("service").as_deref()), (Some("4"), Some("shop")));
            assert_eq!(tag("target").as_deref(), Some("wachta"));
        }
        // What is not tested, since its agent is silent, is no problem of its own.
        let triggers = json!({
            "hostids": host, "search": {"description": "not tested"}, "output": ["triggerid"],
            "selectDependencies": ["description"],
        });
        let triggers = api.call("trigger.get", triggers).await;
        let on_agent =
            |trigger: &Value| trigger["dependencies"][0]["description"] == "The wachta agent does not report";
        assert_eq!(triggers.as_array().unwrap().iter().filter(|trigger| on_agent(trigger)).count(), 200);
        tokio::time::timeout(Duration::from_secs(10), sinks.stop()).await.expect("the task ends");
    })
    .await;
}

/// A call of the API.
type Call = (&'static str, Value);

/// A set-up that is broken on purpose.
struct Broken {
    name: &'static str,
    /// What the finding has to say.
    expected: &'static str,
    /// What breaks it, and what mends it.
    calls: Vec<Call>,
    mend: Vec<Call>,
    /// What is asked for instead of the usual.
    config: Config,
    scenario: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_broken_set_ups_is_explained() {
    each_version(async |server, api| {
        api.provision().await;
        let good = config(server, api);
        let sinks = sinks().await;
        sinks.load(&[Destination::from(good.clone())], &scenarios(&[("shop", "critical")]), &[]).await;
        // Nothing is found where all is well, once the server knows its items.
        until_found(api, &good, "shop", "").await;

        for broken in broken(server, api, &good).await {
            for (method, params) in broken.calls {
                api.call(method, params).await;
            }
            println!("{:?}: {}", server.version, broken.name);
            until_found(api, &broken.config, broken.scenario, broken.expected).await;
            for (method, params) in broken.mend {
                api.call(method, params).await;
            }
        }
        until_found(api, &good, "shop", "").await;

        // A user who may see nothing.
        let groups = api.call("usergroup.get", json!({"filter": {"name": "Guests"}, "output": ["usrgrpid"]})).await;
        let name = format!("looker-{}", uuid::Uuid::now_v7().simple());
        let user = json!({
            "username": name, "passwd": "Correct-Horse-7", "roleid": "1", "usrgrps": [{"usrgrpid": groups[0]["usrgrpid"]}],
        });
        let made = api.call("user.create", user).await;
        let login = Login::User(name, Credential::text("Correct-Horse-7"));
        let of_user = api::Config { login, ..api.config() };
        let theirs = api::Api::connect(&of_user, reqwest::Client::new()).await.unwrap();
        let found = examine(&theirs, &good, &[]).await.unwrap();
        theirs.close().await.unwrap();
        assert!(found[0].problem.contains("has no access to any host"), "{found:?}");
        api.call("user.delete", made["userids"].clone()).await;
        tokio::time::timeout(Duration::from_secs(10), sinks.stop()).await.expect("the task ends");
    })
    .await;
}

/// Asks until a finding contains `expected`, or, where that is empty, until there is none. The server learns of changes
/// with its next configuration sync.
async fn until_found(api: &Api, config: &Config, scenario: &str, expected: &str) {
    let ours = api.ours().await;
    let scenarios = [Expected { id: scenario.into(), steps: vec![] }];
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        let found: Vec<Finding> = examine(&ours, config, &scenarios).await.unwrap();
        let is_found = match expected {
            "" => found.is_empty(),
            part => found.iter().any(|found| found.problem.contains(part) && !found.advice.is_empty()),
        };
        if is_found {
            return ours.close().await.unwrap();
        }
        assert!(Instant::now() < deadline, "not found: {expected:?}; instead {found:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn broken(server: &Server, api: &Api, good: &Config) -> Vec<Broken> {
    let first = |found: Value, id: &str| found[0][id].clone();
    let host = first(api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await, "hostid");
    let item = json!({"hostids": host, "filter": {"key_": "wachta.run[\"shop\"]"}, "output": ["itemid"]});
    let item = first(api.call("item.get", item).await, "itemid");
    let rule = json!({"hostids": host, "filter": {"key_": "wachta.discovery"}, "output": ["itemid"]});
    let rule = first(api.call("discoveryrule.get", rule).await, "itemid");
    let groups =
        api.call("hostgroup.get", json!({"filter": {"name": "Watched by tests"}, "output": ["groupid"]})).await;
    let group = json!([{"groupid": groups[0]["groupid"]}]);
    let bare = async |kind: &str| {
        let name = format!("{}-{kind}", api.host);
        let made = api.call("host.create", json!({"host": name, "groups": group})).await;
        (Config { host: name, ..good.clone() }, made["hostids"][0].clone())
    };
    let (unlinked, _) = bare("unlinked").await;
    let (other_type, other_type_id) = bare("type").await;
    let (other_value, other_value_id) = bare("value").await;
    let own = |id: &Value, kind: u8, value_type: u8| {
        let mut item =
            json!({"hostid": id, "name": "Agent", "key_": "wachta.agent", "type": kind, "value_type": value_type});
        if kind != 2 {
            item["delay"] = "1m".into();
        }
        ("item.create", item)
    };
    let visible = format!("Visible {}", api.host);
    let proxy_name = format!("proxy-{}", api.host);
    let is_old = server.version == Version::V6_0;
    let proxy = if is_old {
        json!({"host": proxy_name, "status": 5})
    } else {
        json!({"name": proxy_name, "operating_mode": 0})
    };
    let proxy = api.call("proxy.create", proxy).await["proxyids"][0].clone();
    let by_proxy = if is_old {
        json!({"hostid": host, "proxy_hostid": proxy})
    } else {
        json!({"hostid": host, "monitored_by": 1, "proxyid": proxy})
    };
    let by_server =
        if is_old { json!({"hostid": host, "proxy_hostid": 0}) } else { json!({"hostid": host, "monitored_by": 0}) };
    let psk = json!({
        "hostid": host, "tls_accept": 2, "tls_psk_identity": api.host, "tls_psk": "1f87b595725ac58dd977beef14b97461",
    });
    // It is far ahead until its turn comes.
    let now = Utc::now().timestamp();
    let period = |from: i64| json!([{"timeperiod_type": 0, "start_date": from, "period": 3600}]);
    let far = now + 86_400;
    let mut maintenance = json!({
        "name": api.host, "active_since": far, "active_till": far + 3600, "maintenance_type": 1,
        "hosts": [{"hostid": host}], "hostids": [host], "timeperiods": period(far),
    });
    maintenance.as_object_mut().unwrap().remove(if is_old { "hosts" } else { "hostids" });
    let maintenance = api.call("maintenance.create", maintenance).await["maintenanceids"][0].clone();
    let in_maintenance = json!({
        "maintenanceid": maintenance, "active_since": now - 120, "active_till": now + 3480,
        "timeperiods": period(now - 120),
    });
    let allowed = |list: &str| json!({"hostid": host, "macro": "{$WACHTA.ALLOWED.HOSTS}", "value": list});
    let update = |object: Value| ("host.update", object);
    let like =
        |name, expected, calls, mend| Broken { name, expected, calls, mend, config: good.clone(), scenario: "shop" };
    let at = |server: &str| Config { servers: vec![server.to_owned()], ..good.clone() };
    let named = |host: &str| Config { host: host.into(), ..good.clone() };
    let api_address = server.api.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    vec![
        Broken { config: at("127.0.0.1:1"), ..like("nothing listens", "no connection to 127.0.0.1:1", vec![], vec![]) },
        Broken {
            config: at(&api_address),
            ..like("wrong port", "no response of a Zabbix server or proxy", vec![], vec![])
        },
        Broken { config: named("nobody"), ..like("no host", "there is no host `nobody`", vec![], vec![]) },
        Broken { config: named("wachta"), ..like("template", "`wachta` is a template, not a host", vec![], vec![]) },
        Broken {
            config: named(&api.host.to_uppercase()),
            ..like("case", "upper and lower case differ", vec![], vec![])
        },
        Broken {
            config: named(&visible),
            ..like(
                "visible name",
                "is the visible name of a host",
                vec![update(json!({"hostid": host, "name": visible}))],
                vec![update(json!({"hostid": host, "name": api.host}))],
            )
        },
        Broken { config: unlinked, ..like("not linked", "the template `wachta` is not linked", vec![], vec![]) },
        Broken {
            config: other_type,
            ..like("item type", "is not of the type Zabbix trapper", vec![own(&other_type_id, 5, 4)], vec![])
        },
        Broken {
            config: other_value,
            ..like("value type", "has another type of information", vec![own(&other_value_id, 2, 0)], vec![])
        },
        Broken { scenario: "new", ..like("not discovered", "Zabbix has not discovered it", vec![], vec![]) },
        Broken {
            scenario: "new",
            ..like(
                "rule disabled",
                "the discovery rule `wachta.discovery` is disabled, so there is no item",
                vec![("discoveryrule.update", json!({"itemid": rule, "status": 1}))],
                vec![("discoveryrule.update", json!({"itemid": rule, "status": 0}))],
            )
        },
        like(
            "host disabled",
            "is disabled",
            vec![update(json!({"hostid": host, "status": 1}))],
            vec![update(json!({"hostid": host, "status": 0}))],
        ),
        like(
            "item disabled",
            "`wachta.run[\"shop\"]` is disabled",
            vec![("item.update", json!({"itemid": item, "status": 1}))],
            vec![("item.update", json!({"itemid": item, "status": 0}))],
        ),
        like(
            "proxy",
            "is monitored by the proxy",
            vec![update(by_proxy)],
            vec![update(by_server), ("proxy.delete", json!([proxy]))],
        ),
        like(
            "allowed hosts",
            "which leaves out this machine (127.0.0.1)",
            vec![("usermacro.create", allowed("192.0.2.1"))],
            vec![update(json!({"hostid": host, "macros": []}))],
        ),
        like(
            "encryption",
            "accepts only connections with a pre-shared key",
            vec![update(psk)],
            vec![update(json!({"hostid": host, "tls_accept": 1}))],
        ),
        like(
            "maintenance",
            "is in a maintenance without data collection",
            vec![("maintenance.update", in_maintenance)],
            vec![("maintenance.delete", json!([maintenance]))],
        ),
    ]
}
