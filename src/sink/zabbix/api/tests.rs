//! The client against a scripted frontend.

use std::sync::{Arc, Mutex};

use axum::http::HeaderMap;
use axum::response::IntoResponse as _;

use super::*;
use crate::bounded::credential::Credential;

/// Behavior of the frontend.
#[derive(Clone, Copy)]
struct Rules {
    version: &'static str,
    /// Whether a token in the header is passed to PHP.
    header: bool,
    /// Whether a token in the body is accepted.
    body: bool,
}

/// Starts a frontend. Returns the calls that it has received.
async fn frontend(rules: Rules) -> (Config, Arc<Mutex<Vec<String>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let answer = move |headers: HeaderMap, text: String| async move {
        let call: Value = serde_json::from_str(&text).unwrap();
        let header = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let by = match (&header, call.get("auth")) {
            (None, None) => "nothing",
            (Some(_), None) => "header",
            (None, Some(_)) => "body",
            (Some(_), Some(_)) => "both",
        };
        let method = call["method"].as_str().unwrap();
        seen.lock().unwrap().push(format!("{method} by {by}"));
        let is_right = (rules.header && header.as_deref() == Some("Bearer 0123456789abcdef"))
            || (rules.body && call["auth"] == "0123456789abcdef");
        let error =
            |code: i64, data: &str| json!({"error": {"code": code, "message": "Invalid params.", "data": data}});
        let answer = match method {
            "apiinfo.version" => json!({"result": rules.version}),
            "user.login" if call["params"]["password"] == "correct-horse" => json!({"result": "0123456789abcdef"}),
            "user.login" => error(-32500, "Incorrect user name or password or account is temporarily blocked."),
            "web.page" => return "<html>\n a page</html>".into_response(),
            "web.lost" => return StatusCode::NOT_FOUND.into_response(),
            _ if !is_right => error(-32602, "Not authorized."),
            "user.logout" => json!({"result": true}),
            "host.get" => json!({"result": [{"hostid": "1"}]}),
            _ => json!({"error": {"code": -32601, "message": "Method not found.", "data": "Incorrect method \"x\"."}}),
        };
        answer.to_string().into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let router = axum::Router::new().route("/api_jsonrpc.php", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Config { url, login: Login::Token(Credential::text("0123456789abcdef")), ca: None }, calls)
}

fn client() -> reqwest::Client {
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

#[tokio::test]
async fn a_token_goes_where_the_version_takes_it() {
    let check = async |version, header, body, expected: &[&str]| {
        let (config, calls) = frontend(Rules { version, header, body }).await;
        let api = Api::connect(&config, client()).await.unwrap();
        for _ in 0..2 {
            _ = api.get("host.get", &json!({})).await;
        }
        api.close().await.unwrap();
        assert_eq!(*calls.lock().unwrap(), expected, "{version}");
    };
    let (asked, header, body) = ("apiinfo.version by nothing", "host.get by header", "host.get by body");
    check("6.0.14", false, true, &[asked, body, body]).await;
    check("6.4.0", true, true, &[asked, header, header]).await;
    // The web server drops the header, which is detected once.
    check("7.0.22", false, true, &[asked, header, body, body]).await;
    check("7.2.0", false, false, &[asked, header, header]).await;
    check("7.4.0rc1", true, false, &[asked, header, header]).await;
}

#[tokio::test]
async fn a_session_is_opened_and_closed() {
    let (mut config, calls) = frontend(Rules { version: "7.0.0", header: true, body: true }).await;
    config.login = Login::User("Admin".into(), Credential::text("correct-horse"));
    let api = Api::connect(&config, client()).await.unwrap();
    assert_eq!(api.get("host.get", &json!({})).await.unwrap(), [json!({"hostid": "1"})]);
    api.close().await.unwrap();
    let expected =
        ["apiinfo.version by nothing", "user.login by nothing", "host.get by header", "user.logout by header"];
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let (mut config, _) = frontend(Rules { version: "7.0.0", header: true, body: true }).await;
    let api = Api::connect(&config, client()).await.unwrap();
    let error = async |method: &str| api.call(method, &json!({})).await.unwrap_err().to_string();
    let page = "not a response of the Zabbix API; check that `url` is that of the frontend: <html> a page</html>";
    assert_eq!(error("web.page").await, page);
    let lost = "the Zabbix API returned status 404 Not Found; check that `url` is that of the frontend, and that nothing in front of it requires credentials";
    assert_eq!(error("web.lost").await, lost);
    assert_eq!(error("x.get").await, r#"Zabbix rejected x.get: Incorrect method "x" (code -32601)"#);

    let connect = async |config: &Config| Api::connect(config, client()).await.map(|_| ()).unwrap_err().to_string();
    config.login = Login::User("Admin".into(), Credential::text("wrong-horse"));
    let refused = "Zabbix rejected user.login: Incorrect user name or password or account is temporarily blocked \
                   (code -32500); check the token, or the user and the password";
    assert_eq!(connect(&config).await, refused);
    config.login = Login::Token(Credential::Env("WACHTA_NOT_SET".into()));
    assert_eq!(connect(&config).await, "the variable `WACHTA_NOT_SET` is not set, or is not text");
    config.login = Login::Token(Credential::text("wrong-token"));
    let api = Api::connect(&config, client()).await.unwrap();
    assert!(api.call("host.get", &json!({})).await.unwrap_err().is_unauthorized());

    let (old, _) = frontend(Rules { version: "5.4.12", header: false, body: true }).await;
    assert_eq!(connect(&old).await, "Zabbix 5.4.12 is too old: 6.0 is the oldest that is supported");
    config.url = url_of("http://127.0.0.1:1").unwrap();
    assert!(connect(&config).await.starts_with("no connection to the Zabbix API: "), "{}", connect(&config).await);
}

#[test]
fn versions_are_read_and_compared() {
    assert_eq!(Version::parse("7.0.22"), Some(Version { major: 7, minor: 0, patch: 22 }));
    assert_eq!(Version::parse("7.4.0alpha1"), Some(Version::new(7, 4)));
    for wrong in ["", "7", "7.0", "7.0.x", "a.b.c"] {
        assert_eq!(Version::parse(wrong), None, "{wrong}");
    }
    assert!(Version::parse("6.0.14").unwrap() < Version::WITH_HEADER);
}
