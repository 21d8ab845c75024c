//! Findings derived from facts.

use super::*;

/// Returns the facts of a host without problems.
fn well() -> Facts {
    let wanted = wanted(&scenarios());
    let (rules, items): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|wanted| wanted.is_rule);
    let object = |wanted: Wanted| {
        let kind = if wanted.is_sent { "2" } else { "18" };
        json!({
            "key_": wanted.key, "type": kind, "status": "0", "state": "0", "error": "", "value_type": wanted.value_type,
            "trapper_hosts": template::ALLOWED_HOSTS,
        })
    };
    Facts {
        address: "zabbix:10051".into(),
        host_name: "waw-1".into(),
        our_address: Some("192.0.2.7".parse().unwrap()),
        host: Some(json!({
            "hostid": "1", "host": "waw-1", "status": "0", "tls_accept": "1", "maintenance_status": "0",
            "parentTemplates": [{"host": "wachta"}],
        })),
        visible_hosts: 1,
        items: by_key(items.into_iter().map(object).collect()),
        rules: by_key(rules.into_iter().map(object).collect()),
        prototypes: BTreeMap::from([
            (r#"wachta.run["{#ID}"]"#.to_owned(), json!({"discover": "0"})),
            (r#"wachta.step.success["{#ID}","{#STEP}"]"#.to_owned(), json!({"discover": "0"})),
        ]),
        macros: BTreeMap::from([(template::ALLOWED_HOSTS.to_owned(), "0.0.0.0/0,::/0".to_owned())]),
        ..Facts::default()
    }
}

fn scenarios() -> [Expected; 1] {
    [Expected { id: "shop".into(), steps: vec!["open".into()] }]
}

#[test]
fn a_host_that_takes_values_has_no_findings() {
    assert_eq!(diagnose(&well(), &wanted(&scenarios())), []);
}

#[test]
fn each_cause_is_named() {
    let refuse = |facts: &mut Facts, key: &str| facts.reply = Reply::Refuses(BTreeSet::from([key.to_owned()]));
    let run = r#"wachta.run["shop"]"#;
    let set = |facts: &mut Facts, key: &str, field: &str, value: &str| {
        facts.items.get_mut(key).unwrap()[field] = value.into();
    };
    let check = |name: &str, change: &dyn Fn(&mut Facts), expected: &[&str]| {
        let mut facts = well();
        change(&mut facts);
        let found = diagnose(&facts, &wanted(&scenarios()));
        let problems: Vec<_> = found.iter().map(|found| found.problem.as_str()).collect();
        assert_eq!(problems, expected, "{name}");
        assert!(found.iter().all(|found| !found.advice.is_empty()));
    };
    check("off", &|f| f.reply = Reply::NoConnection("refused".into()), &["no connection to zabbix:10051: refused"]);
    check(
        "too new",
        &|f| refuse(f, run),
        &[r#"the server accepts no values of `wachta.run["shop"]` yet, and the API shows nothing wrong"#],
    );
    let macros = |list: &'static str| {
        move |f: &mut Facts| {
            f.macros.insert(template::ALLOWED_HOSTS.to_owned(), list.to_owned());
            refuse(f, run);
        }
    };
    let not_allowed = r#"the allowed hosts of `wachta.run["shop"]` are `10.0.0.0/8,zabbix.lan`, which leaves out this machine (192.0.2.7)"#;
    check("address", &macros("10.0.0.0/8,zabbix.lan"), &[not_allowed]);
    for listed in ["192.0.2.7", "10.0.0.1, 192.0.2.0/24", "::/0"] {
        let unexplained =
            r#"the server accepts no values of `wachta.run["shop"]` yet, and the API shows nothing wrong"#;
        check(listed, &macros(listed), &[unexplained]);
    }
    check(
        "type",
        &|f| set(f, run, "type", "7"),
        &[r#"`wachta.run["shop"]` is not of the type Zabbix trapper, so nobody can send values to it"#],
    );
    check("disabled", &|f| set(f, run, "status", "1"), &[r#"`wachta.run["shop"]` is disabled"#]);
    check(
        "value type",
        &|f| set(f, run, "value_type", "0"),
        &[r#"`wachta.run["shop"]` has another type of information than wachta sends"#],
    );
    check(
        "missing",
        &|f| _ = f.items.remove(run),
        &[r#"there is no item `wachta.run["shop"]`: Zabbix has not discovered it"#],
    );
    check(
        "rule",
        &|f| {
            f.items.remove(run);
            f.rules.get_mut(DISCOVERY).unwrap()["status"] = "1".into();
        },
        &[
            "`wachta.discovery` is disabled",
            r#"the discovery rule `wachta.discovery` is disabled, so there is no item `wachta.run["shop"]`"#,
        ],
    );
    check("no host", &|f| f.host = None, &["there is no host `waw-1`, or the user of the API may not see it"]);
    check(
        "case",
        &|f| {
            f.host = None;
            f.similar = vec![json!({"host": "WAW-1", "name": "x"})];
        },
        &["there is no host `waw-1`, but a host `WAW-1`: upper and lower case differ"],
    );
    let encrypted =
        "the host `waw-1` accepts only connections with a pre-shared key, and this one is without encryption";
    check("psk", &|f| f.host.as_mut().unwrap()["tls_accept"] = "2".into(), &[encrypted]);
    // A proxy by itself is not a problem: the values may be sent to it.
    check("proxy", &|f| f.proxy = Some("`p`".into()), &[]);
    check(
        "proxy, refused",
        &|f| {
            f.proxy = Some("`p`".into());
            refuse(f, run);
        },
        &["the host `waw-1` is monitored by the proxy `p`, and zabbix:10051 is another one or the server"],
    );
}
