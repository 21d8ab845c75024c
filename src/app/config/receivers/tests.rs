//! Receivers in the agent configuration, and the diagnostics of errors in them.

use super::*;
use crate::app::config::read;

/// Returns the receivers of a file, and its diagnostics.
fn check(alerting: &str) -> (Vec<Receiver>, Vec<String>) {
    let text =
        format!("location: a\nscenarios: []\nweb: {{external_url: https://wachta.example.com}}\nalerting:\n{alerting}");
    let (config, found) = read("conf/wachta.yaml", &text);
    let shown = found.iter().map(|d| {
        let label = d.label.as_deref().map(|label| format!("; {label}")).unwrap_or_default();
        format!("{}:{}: {}{label}", d.span.line, d.span.column, d.message)
    });
    (config.map(|config| config.alerting.receivers).unwrap_or_default(), shown.collect())
}

#[test]
fn every_kind_with_every_key() {
    let (receivers, problems) = check(
        "  receivers:
    a: {webhook: {url: {file: hook}, headers: {x-key: {env: KEY}}, format: alertmanager}}
    b: {alertmanager: {urls: [\"http://a:9093\", {file: /run/peer}], resend: 30s}}
    c: {pagerduty: {routing_key: abcd, url: \"http://gateway/enqueue\", api_token: {file: pd}, api_url: \"https://api.eu.pagerduty.com\", api_interval: 1m}}
    d: {slack: {token: abcd, channel: \"#shop\", url: \"http://gateway/api\", app_token: {env: APP}}}
    e: {slack: {url: {env: HOOK}}}
    f: {teams: {url: \"https://x.example.com/workflows/1\"}}
    g: {telegram: {token: abcd, chat: -100123, thread: 7}}
    h: {email: {server: \"mail:2525\", tls: implicit, ca: ca.pem, username: u, password: {file: p}, from: W <w@example.com>, to: x@example.com}}
    i: {ntfy: {topic: {env: TOPIC}, token: abcd}, template: {title: \"{{ name }}\"}}
    j: {email: {server: mail.example.com, from: w@example.com, to: [x@example.com, y@example.com]}}
  templates: {title: \"{{ headline }}!\", text: \"{{ message }}\"}
",
    );
    assert_eq!(problems, Vec::<String>::new());
    let kinds: Vec<_> = receivers.iter().map(|receiver| receiver.kind.clone()).collect();
    let text = Credential::text("abcd");
    let url = |url: &str| url.parse::<url::Url>().unwrap();
    let file = |path: &str| Credential::File(path.into());
    assert_eq!(
        kinds[0],
        ReceiverKind::Webhook(Webhook {
            url: file("conf/hook"),
            headers: vec![("x-key".into(), Credential::Env("KEY".into()))],
            format: WebhookFormat::Alertmanager
        })
    );
    let urls = vec![Credential::text("http://a:9093/"), file("/run/peer")];
    assert_eq!(kinds[1], ReceiverKind::Alertmanager(Alertmanager { urls, resend: Duration::from_secs(30) }));
    let api = PagerDutyApi {
        token: file("conf/pd"),
        url: url("https://api.eu.pagerduty.com"),
        interval: Duration::from_mins(1),
    };
    let pagerduty = PagerDuty { routing_key: text.clone(), url: url("http://gateway/enqueue"), api: Some(api) };
    assert_eq!(kinds[2], ReceiverKind::PagerDuty(pagerduty));
    let slack = Slack::Token {
        token: text.clone(),
        channel: "#shop".into(),
        url: url("http://gateway/api/"),
        app_token: Some(Credential::Env("APP".into())),
    };
    assert_eq!(kinds[3], ReceiverKind::Slack(slack));
    assert_eq!(kinds[4], ReceiverKind::Slack(Slack::Hook { url: Credential::Env("HOOK".into()) }));
    assert_eq!(kinds[5], ReceiverKind::Teams(Teams { url: Credential::text("https://x.example.com/workflows/1") }));
    let telegram =
        Telegram { token: text.clone(), chat: "-100123".into(), thread: Some(7), url: url("https://api.telegram.org") };
    assert_eq!(kinds[6], ReceiverKind::Telegram(telegram));
    let mail = Email {
        host: "mail".into(),
        port: 2525,
        tls: MailTls::Implicit,
        ca: Some("conf/ca.pem".into()),
        login: Some(("u".into(), file("conf/p"))),
        from: "W <w@example.com>".into(),
        to: vec!["x@example.com".into()],
    };
    assert_eq!(kinds[7], ReceiverKind::Email(mail));
    let ntfy = Ntfy { url: url("https://ntfy.sh"), topic: Credential::Env("TOPIC".into()), token: Some(text) };
    assert_eq!(kinds[8], ReceiverKind::Ntfy(ntfy));
    let ReceiverKind::Email(mail) = &kinds[9] else { panic!("it is mail") };
    assert_eq!((mail.port, mail.tls, mail.to.len()), (587, MailTls::StartTls, 2));
    let words = |receiver: &Receiver| receiver.templates.title.clone().unwrap();
    assert_eq!((words(&receivers[0]), words(&receivers[8])), ("{{ headline }}!".into(), "{{ name }}".into()));
    assert_eq!(receivers[8].templates.text.as_deref(), Some("{{ message }}"));
    // Secrets are not printed.
    assert!(!format!("{receivers:?}").contains("abcd"));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let check = |receiver: &str, expected: &[&str]| {
        let (_, problems) = check(&format!("  receivers:\n    a: {receiver}\n"));
        assert_eq!(problems, expected, "{receiver}");
    };
    let kinds = "one of webhook, alertmanager, pagerduty, slack, teams, telegram, email, ntfy, zabbix, log";
    check("{template: {}}", &[&format!("6:5: receiver `a` needs one kind; {kinds}")]);
    check("{log: {}, ntfy: {topic: abcd}}", &[&format!("6:5: receiver `a` needs one kind; {kinds}")]);
    check("{limit: 6 per hour, log: {}}", &[]);
    let wrong = "6:16: `limit` is not a number of notifications per hour; write it like 6 per hour, up to 1000";
    for limit in ["0 per hour", "1001 per hour", "6", "6 per day", "six per hour"] {
        check(&format!("{{limit: {limit}, log: {{}}}}"), &[wrong]);
    }
    check("{webhook: {}}", &["6:18: `webhook` needs `url:`"]);
    check("{webhook: {url: {}}}", &["6:24: `url` needs one source; write {file: PATH} or {env: VARIABLE}"]);
    check("{webhook: {url: here}}", &["6:24: `url` is not a URL; write it like https://wachta.example.com"]);
    check("{webhook: {url: \"http://a\", headers: {\"a b\": abcd}}}", &["6:46: `a b` is not the name of a header"]);
    check("{alertmanager: {urls: []}}", &["6:30: `urls` is empty"]);
    check("{pagerduty: {}}", &["6:20: `pagerduty` needs `routing_key:`"]);
    for key in ["api_url: \"http://a\"", "api_interval: 1m"] {
        let (name, _) = key.split_once(':').unwrap();
        let problem = format!("6:40: `{name}` needs `api_token:`");
        check(&format!("{{pagerduty: {{routing_key: abcd, {key}}}}}"), &[&problem]);
    }
    check(
        "{pagerduty: {routing_key: abcd, api_token: abcd, api_interval: 4s}}",
        &["6:71: `api_interval` must be at least 5s"],
    );
    check("{pagerduty: {routing_key: abc}}", &["6:34: `routing_key` must have at least 4 characters"]);
    check(
        "{slack: {}}",
        &["6:16: `slack` needs `token:` and `channel:`, or `url:`; a token's messages are updated in place"],
    );
    check(
        "{slack: {url: \"http://a\", app_token: abcd}}",
        &["6:34: `app_token` needs `token:`; an incoming webhook has no buttons"],
    );
    check("{slack: {token: abcd}}", &["6:16: `slack` needs `channel:`"]);
    let chat = "6:39: `chat` is neither a chat id nor a channel; write it like -1001234567890 or \"@channel\"";
    check("{telegram: {token: abcd, chat: me}}", &[chat]);
    check(
        "{email: {server: \"mail:x\", from: me, to: [], username: u}}",
        &[
            "6:25: `server` must be a host and perhaps a port; write it like mail.example.com:587",
            "6:41: `from` is not an address; write it like on-call@example.com, or Name <address>",
            "6:49: `to` is empty",
            "6:53: `username` and `password` go together",
        ],
    );
}

#[test]
fn a_template_that_is_wrong_is_told_with_its_place() {
    let check = |alerting: &str, expected: &str| {
        let (receivers, problems) = check(alerting);
        assert_eq!((problems.as_slice(), receivers.len()), ([expected.to_owned()].as_slice(), 0), "{alerting}");
    };
    let of = |template: &str| format!("  receivers:\n    a:\n      log: {{}}\n      template: {template}\n");
    let unknown = "template `title`: unknown name `mesage`; did you mean `message`?";
    check(&of("{title: \"{{ name }}: {{ mesage }}\"}"), &format!("8:41: {unknown}"));
    check("  templates: {title: '{{ mesage }}'}\n", &format!("5:26: {unknown}"));
    check(&of("{title: \"{{ name|loud }}\"}"), "8:34: template `title`: unknown filter: filter loud is unknown");
    let block = "\n        text: |\n          {{ name }}\n          seen: {{ name }} {{ mesage }}\n";
    check(&of(block), "11:31: template `text`: unknown name `mesage`; did you mean `message`?");
}
