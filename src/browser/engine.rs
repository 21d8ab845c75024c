//! All differences between drivers, in one place.
//!
//! Measured with `ChromeDriver` 156, geckodriver 0.37 with Firefox 153, and Selenium Grid 4.48.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::Config;
use super::bidi::{Bidi, BidiError};
use super::ports::Port;
use super::trust::LaunchOptions;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, Headless};

/// Minimum shared memory, in bytes, below which Chromium's tabs crash. Containers have 64 MiB by default.
const ENOUGH_SHARED_MEMORY: u64 = 512 * 1024 * 1024;

/// Path of Chromium's headless shell on Debian: the program itself, for which `/usr/bin` contains a script.
const DEBIAN_SHELL: &str = "/usr/lib/chromium/chromium-headless-shell";
/// Names of the headless shell in PATH: of other distributions, and of Chrome for Testing.
const SHELLS: [&str; 3] = ["chromium-headless-shell", "chrome-headless-shell", "headless_shell"];

/// Properties of an engine's driver.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct DriverProfile {
    /// Program name.
    pub(super) program: &'static str,
    /// Paths where distributions install it outside of PATH.
    places: &'static [&'static str],
    /// Number of ports that the driver and its browser listen on.
    pub(super) ports: usize,
    /// Text before the port number in its output.
    said: &'static str,
    /// Name of the browser for users.
    pub(super) browser: &'static str,
    /// Instructions to install the driver and the browser.
    install: &'static str,
    /// Location of the certificate database in a separate home directory.
    pub(super) store: &'static str,
    /// Whether one dead page crashes the whole browser.
    pub(super) dies_with_its_page: bool,
    /// Whether the driver responds to status requests while it executes a command.
    pub(super) answers_while_busy: bool,
    /// Whether the classic command for cookies supports user contexts other than the first one of the session.
    pub(super) tells_cookies: bool,
    /// Whether each user context has a window of its own.
    pub(super) has_a_window_for_each_user: bool,
    /// Whether a click should use pointer actions instead of the driver's click command, which queries the page about
    /// seventy times for facts that are known already (80 ms instead of 12 ms). Firefox's command is not slower and
    /// waits for the page that opens.
    pub(super) clicks_by_pointer: bool,
    /// Whether the driver delays a classic command until a navigation that has begun is complete.
    pub(super) holds_back: bool,
    /// Whether the driver types and enters frames with its own scripts in the page's world, where the page may have
    /// changed what they need.
    pub(super) acts_by_script: bool,
    /// Whether pointer actions in a page reach a frame of another origin in it.
    pub(super) points_into_other_origins: bool,
}

/// Returns the driver properties of an engine.
pub(super) fn kind(engine: Engine) -> &'static DriverProfile {
    match engine {
        Engine::Chromium => &DriverProfile {
            program: "chromedriver",
            places: &[
                "/usr/bin/chromedriver",
                "/usr/local/bin/chromedriver",
                "/usr/lib/chromium/chromedriver",
                "/snap/bin/chromium.chromedriver",
            ],
            // The browser is controlled over a pipe.
            ports: 1,
            said: "successfully on port ",
            browser: "Chromium",
            install: "install Chromium and its driver (Debian, Ubuntu: `apt-get install chromium chromium-driver`)",
            store: ".pki/nssdb",
            dies_with_its_page: false,
            answers_while_busy: true,
            tells_cookies: true,
            has_a_window_for_each_user: true,
            clicks_by_pointer: true,
            holds_back: true,
            acts_by_script: true,
            points_into_other_origins: true,
        },
        Engine::Firefox => &DriverProfile {
            program: "geckodriver",
            places: &["/usr/bin/geckodriver", "/usr/local/bin/geckodriver", "/snap/bin/geckodriver"],
            // The WebSocket and Marionette belong to Firefox, and every instance needs its own ports.
            ports: 3,
            said: "Listening on 127.0.0.1:",
            browser: "Firefox",
            install: "install Firefox and geckodriver (Debian: `apt-get install firefox-esr` and `cargo install geckodriver`)",
            store: "profile",
            dies_with_its_page: true,
            answers_while_busy: false,
            tells_cookies: false,
            has_a_window_for_each_user: false,
            clicks_by_pointer: false,
            holds_back: false,
            acts_by_script: false,
            points_into_other_origins: false,
        },
    }
}

impl DriverProfile {
    /// Finds the driver in PATH or in the usual places.
    pub(super) fn find(&self) -> Result<PathBuf, Failure> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin").join(self.program));
        std::env::split_paths(&path)
            .map(|folder| folder.join(self.program))
            .chain(self.places.iter().map(PathBuf::from))
            .chain(home)
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| {
                Failure::new(
                    Reason::Driver,
                    format!(
                        "{} was not found in PATH; {}, or set `browser.webdriver` to a WebDriver endpoint",
                        self.program, self.install
                    ),
                )
            })
    }

    /// Returns the arguments for listening on these ports of the loopback interface, and the path prefix of every
    /// command. `token` is a secret word.
    pub(super) fn arguments(&self, ports: &[Port], token: &str) -> (Vec<String>, String) {
        let number = |index: usize| ports.get(index).map_or(0, Port::number);
        if self.program == "chromedriver" {
            return (vec![format!("--port={}", number(0)), format!("--url-base=/{token}")], format!("{token}/"));
        }
        let arguments = vec![
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", number(0)),
            format!("--websocket-port={}", number(1)),
            format!("--marionette-port={}", number(2)),
        ];
        (arguments, String::new())
    }

    /// Returns the port that an output line of the driver contains.
    pub(super) fn port(&self, line: &str) -> Option<u16> {
        let (_, number) = line.split_once(self.said)?;
        number.trim().trim_end_matches('.').parse().ok()
    }
}

/// Extracts Chromium's error code for a page that could not be loaded, or the equivalent for Firefox.
pub(super) fn network_error(text: &str) -> Option<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    if let Some((_, code)) = text.split_once("net::") {
        return Some(word(code));
    }
    if let Some((_, rest)) = text.split_once("about:neterror?e=") {
        return Some(firefox(&word(rest)));
    }
    if text.contains("deniedPortAccess") {
        return Some("ERR_UNSAFE_PORT".into());
    }
    // The most specific code comes last: "NS_ERROR_GENERATE_FAILURE(…, MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT)".
    let known = ["MOZILLA_PKIX_ERROR_", "SEC_ERROR_", "SSL_ERROR_", "NS_ERROR_", "NS_BINDING_"];
    known.iter().find_map(|known| text.find(known).map(|at| firefox(&word(&text[at..]))))
}

/// Converts Firefox's code to the equivalent one of Chromium. A code without equivalent stays unchanged.
fn firefox(code: &str) -> String {
    let is = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    let same = match code {
        "connectionFailure" | "NS_ERROR_CONNECTION_REFUSED" => "ERR_CONNECTION_REFUSED",
        "netReset" | "NS_ERROR_NET_RESET" => "ERR_CONNECTION_RESET",
        "netInterrupt" | "NS_ERROR_NET_INTERRUPT" | "NS_ERROR_NET_PARTIAL_TRANSFER" => "ERR_CONNECTION_CLOSED",
        "netTimeout" | "NS_ERROR_NET_TIMEOUT" => "ERR_TIMED_OUT",
        "dnsNotFound" | "NS_ERROR_UNKNOWN_HOST" => "ERR_NAME_NOT_RESOLVED",
        "netOffline" | "NS_ERROR_OFFLINE" => "ERR_INTERNET_DISCONNECTED",
        "redirectLoop" | "NS_ERROR_REDIRECT_LOOP" => "ERR_TOO_MANY_REDIRECTS",
        "NS_BINDING_ABORTED" => "ERR_ABORTED",
        _ if is(&["UNKNOWN_ISSUER", "SELF_SIGNED", "CERT", "PKIX", "OCSP"]) => {
            return format!("ERR_CERT_INVALID ({code})");
        }
        _ if is(&["SSL_ERROR", "nssFailure", "SEC_ERROR"]) => return format!("ERR_SSL_PROTOCOL_ERROR ({code})"),
        _ => code,
    };
    same.to_owned()
}

/// Stops the current navigation. Returns false if the page does not respond to that either. This happens in Chromium
/// after a classic command when the page shown is that of a failed navigation.
pub(super) async fn stop_loading(engine: Engine, bidi: &Bidi, context: &str, limit: Duration) -> bool {
    match engine {
        // Scripts of the page wait for the navigation.
        Engine::Chromium => {
            let Ok(session) = bidi.call("goog:cdp.getSession", json!({"context": context}), limit).await else {
                return false;
            };
            let stop = json!({"method": "Page.stopLoading", "params": {}, "session": session["session"]});
            bidi.call("goog:cdp.sendCommand", stop, limit).await.is_ok()
        }
        Engine::Firefox => {
            let target = json!({"context": context});
            let stop = json!({"expression": "window.stop()", "target": target, "awaitPromise": false});
            bidi.call("script.evaluate", stop, limit).await.is_ok()
        }
    }
}

/// Title of the page in which `ChromeDriver` runs its implementation of `BiDi`.
const MAPPER: &str = "BiDi-CDP Mapper";

/// Minimizes the page in which `ChromeDriver` runs its implementation of `BiDi`, if it has a window to itself. That page
/// lists every message it handles. Where each window counts as visible, as in the headless shell, the layout of that
/// list took more than half of the CPU time of a run. Minimized windows have no layout.
pub(super) async fn minimize_mapper(engine: Engine, bidi: &Bidi, limit: Duration) -> Result<(), BidiError> {
    if engine != Engine::Chromium {
        return Ok(());
    }
    let cdp = async |method: &str, params: Json| {
        let command = json!({"method": method, "params": params});
        bidi.call("goog:cdp.sendCommand", command, limit).await.map(|mut answer| answer["result"].take())
    };
    let targets = cdp("Target.getTargets", json!({})).await?;
    let pages = targets["targetInfos"].as_array().into_iter().flatten().filter(|target| target["type"] == "page");
    let (mappers, others): (Vec<&Json>, Vec<&Json>) = pages.partition(|target| target["title"] == MAPPER);
    let [mapper] = mappers[..] else { return Ok(()) };
    let window = async |target: &Json| {
        let found = cdp("Browser.getWindowForTarget", json!({"targetId": target["targetId"]})).await?;
        Ok::<_, BidiError>(found["windowId"].clone())
    };
    let own = window(mapper).await?;
    for other in others {
        if window(other).await? == own {
            return Ok(());
        }
    }
    let minimized = json!({"windowId": own, "bounds": {"windowState": "minimized"}});
    cdp("Browser.setWindowBounds", minimized).await.map(drop)
}

/// Returns the browser's program if it is not the default of its driver: Chromium's headless shell, if it is requested
/// and installed. `None` for an external endpoint, which chooses its own program.
pub(super) fn program(engine: Engine, headless: Headless, config: &Config) -> Option<PathBuf> {
    if engine != Engine::Chromium || headless == Headless::Full || config.headed || config.webdriver.is_some() {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).flat_map(|folder| SHELLS.map(|name| folder.join(name)));
    std::iter::once(PathBuf::from(DEBIAN_SHELL)).chain(in_path).find(|candidate| candidate.is_file())
}

/// Returns the requested capabilities of a session. Capabilities in the agent configuration take precedence; none of
/// these excludes an external endpoint. `store` is the location of its certificate database, if it has its own.
/// `closed` lists what its pages cannot reach.
pub(super) fn capabilities(
    setup: &LaunchOptions,
    config: &Config,
    store: Option<&Path>,
    closed: &Closed,
) -> Map<String, Json> {
    let mut wanted = json!({
        "pageLoadStrategy": "eager",
        "acceptInsecureCerts": false,
        "unhandledPromptBehavior": prompts(config),
        "timeouts": {"implicit": 0, "script": 10_000},
        "webSocketUrl": true,
    });
    let own = match setup.engine {
        Engine::Chromium => json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": chromium_arguments(config)},
        }),
        Engine::Firefox => json!({
            "browserName": "firefox",
            "moz:firefoxOptions": {
                "args": firefox_arguments(config, store),
                "prefs": firefox_preferences(config, closed),
            },
        }),
    };
    merge(&mut wanted, own);
    if let Some(program) = &setup.program {
        wanted["goog:chromeOptions"]["binary"] = program.to_string_lossy().into();
    }
    merge(&mut wanted, Json::Object(config.capabilities.clone()));
    if setup.engine == Engine::Chromium {
        close_ports(&mut wanted["goog:chromeOptions"]["args"], config, closed);
    }
    let Json::Object(mut wanted) = wanted else { unreachable!("it was made as an object") };
    // A capability that is null in the agent configuration is not requested.
    wanted.retain(|_, value| !value.is_null());
    wanted
}

/// Returns the setting by which dialogs are answered only by the run. The short form excludes the dialog before a page
/// is left, which the driver then answers; external endpoints may not support the longer form yet.
fn prompts(config: &Config) -> Json {
    if config.webdriver.is_some() { json!("ignore") } else { json!({"default": "ignore", "beforeUnload": "ignore"}) }
}

/// Merges `more` into `base`, map by map. Lists are appended.
fn merge(base: &mut Json, more: Json) {
    match (base, more) {
        (Json::Object(base), Json::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Json::Null), value);
            }
        }
        (Json::Array(base), Json::Array(more)) => base.extend(more),
        (base, more) => *base = more,
    }
}

/// Features of Chromium that no run needs. Every user context has its own window, and since the address bar became a
/// page, each window starts a renderer for its suggestions: 0.4 s of CPU time, a third of a short run. The spare
/// renderer, which is kept for the next site, takes another tenth.
const NO_FEATURES: [&str; 7] = [
    "SpareRendererForSitePerProcess",
    "Translate",
    "OptimizationHints",
    "MediaRouter",
    "WebUIOmniboxPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxAimPopup",
];

fn chromium_arguments(config: &Config) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-domain-reliability",
        "--disable-client-side-phishing-detection",
    ]
    .map(ToOwned::to_owned)
    .into();
    arguments.push(format!("--disable-features={}", NO_FEATURES.join(",")));
    if !config.headed {
        arguments.push("--headless".into());
    }
    // An external endpoint is configured for its own machine.
    if config.webdriver.is_none() {
        // Chromium cannot use its sandbox as root.
        if nix::unistd::geteuid().is_root() {
            arguments.push("--no-sandbox".into());
        }
        let shared =
            nix::sys::statvfs::statvfs("/dev/shm").map_or(0, |shm| shm.blocks_available() * shm.fragment_size());
        if shared < ENOUGH_SHARED_MEMORY {
            arguments.push("--disable-dev-shm-usage".into());
        }
    }
    arguments
}

/// Addresses that the pages of a browser cannot reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Closed {
    /// Patterns of `HOST:PORT`, with `*` for any characters and `?` for one.
    pub(super) patterns: Vec<String>,
    /// The same as ports and port ranges.
    pub(super) ports: Vec<String>,
}

/// Adds arguments that hide the agent's own ports from Chromium under any host name, and that make it use a pipe, so
/// that it has no port itself. Name rules in the agent configuration are merged, because only the last of several such
/// arguments counts, and the first matching rule within it.
fn close_ports(arguments: &mut Json, config: &Config, closed: &Closed) {
    const RULES: &str = "--host-resolver-rules=";
    let Json::Array(arguments) = arguments else { return };
    let mut rules: Vec<String> = closed.patterns.iter().map(|pattern| format!("MAP {pattern} ~NOTFOUND")).collect();
    arguments.retain(|argument| match argument.as_str().and_then(|argument| argument.strip_prefix(RULES)) {
        Some(own) => {
            rules.push(own.to_owned());
            false
        }
        None => true,
    });
    if config.loopback_only {
        rules.extend(["MAP 127.0.0.1 127.0.0.1", "MAP localhost 127.0.0.1", "MAP * ~NOTFOUND"].map(ToOwned::to_owned));
    }
    if !rules.is_empty() {
        arguments.push(format!("{RULES}{}", rules.join(", ")).into());
    }
    let is_own = |argument: &Json| argument.as_str().is_some_and(|text| text.starts_with("--remote-debugging-"));
    if config.webdriver.is_none() && !arguments.iter().any(is_own) {
        arguments.push("--remote-debugging-pipe".into());
    }
}

fn firefox_arguments(config: &Config, store: Option<&Path>) -> Vec<String> {
    let mut arguments = Vec::new();
    if !config.headed {
        arguments.push("-headless".into());
    }
    if let Some(store) = store {
        // The driver also writes the preferences into this profile.
        arguments.extend(["-profile".into(), store.to_string_lossy().into_owned()]);
    }
    arguments
}

/// Returns preferences that prevent Firefox from contacting its vendor.
fn firefox_preferences(config: &Config, closed: &Closed) -> Json {
    let mut preferences = json!({
        "app.normandy.enabled": false,
        "app.update.auto": false,
        "browser.aboutConfig.showWarning": false,
        "browser.safebrowsing.malware.enabled": false,
        "browser.safebrowsing.phishing.enabled": false,
        "browser.search.update": false,
        "datareporting.policy.dataSubmissionEnabled": false,
        "dom.push.connection.enabled": false,
        "extensions.update.enabled": false,
        "network.captive-portal-service.enabled": false,
        "network.connectivity-service.enabled": false,
        "network.dns.disablePrefetch": true,
        "services.settings.server": "data:,#remote-settings-dummy/v1",
        "toolkit.telemetry.server": "",
    });
    if !closed.ports.is_empty() {
        merge(&mut preferences, json!({"network.security.ports.banned": closed.ports.join(",")}));
    }
    if config.loopback_only {
        merge(&mut preferences, json!({"network.dns.forceResolve": "127.0.0.1", "network.trr.mode": 5}));
    }
    preferences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_say_their_port() {
        for (engine, line, port) in [
            (Engine::Chromium, "ChromeDriver was started successfully on port 34567.", Some(34567)),
            (Engine::Firefox, "1795381251702\tgeckodriver\tINFO\tListening on 127.0.0.1:46523", Some(46523)),
            (Engine::Firefox, "1795381254163\tMarionette\tINFO\tListening on port 39315", None),
            (Engine::Chromium, "Starting ChromeDriver 156.0", None),
        ] {
            assert_eq!(kind(engine).port(line), port, "{line}");
        }
    }

    #[test]
    fn network_errors_have_one_name() {
        for (text, code) in [
            ("unknown error: net::ERR_CONNECTION_REFUSED\n  (Session info)", Some("ERR_CONNECTION_REFUSED")),
            ("Reached error page: about:neterror?e=connectionFailure&u=http%3A//127", Some("ERR_CONNECTION_REFUSED")),
            ("Reached error page: about:neterror?e=dnsNotFound&u=x", Some("ERR_NAME_NOT_RESOLVED")),
            (
                "Error: NS_ERROR_GENERATE_FAILURE(NS_ERROR_MODULE_SECURITY, MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT)",
                Some("ERR_CERT_INVALID (MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT)"),
            ),
            ("Error: deniedPortAccess", Some("ERR_UNSAFE_PORT")),
            ("NS_ERROR_NET_RESET", Some("ERR_CONNECTION_RESET")),
            ("stale element", None),
        ] {
            assert_eq!(network_error(text).as_deref(), code, "{text}");
        }
    }

    #[test]
    fn the_agents_capabilities_go_first() {
        let Json::Object(own) = json!({
            "goog:chromeOptions": {"args": ["--lang=pl"], "binary": "/opt/chrome"},
            "acceptInsecureCerts": true,
            "webSocketUrl": null,
            "se:name": "wachta",
        }) else {
            unreachable!()
        };
        let config = Config { capabilities: own, ..Config::default() };
        let mut setup = LaunchOptions { engine: Engine::Chromium, program: Some("/opt/shell".into()), roots: None };
        let made = capabilities(&setup, &config, None, &Closed::default());
        assert_eq!(made["goog:chromeOptions"]["binary"], "/opt/chrome");
        let arguments = made["goog:chromeOptions"]["args"].as_array().unwrap();
        assert!(arguments.contains(&json!("--headless")) && arguments.contains(&json!("--lang=pl")));
        assert_eq!((&made["acceptInsecureCerts"], &made["se:name"]), (&json!(true), &json!("wachta")));
        assert!(!made.contains_key("webSocketUrl"));
        let made = capabilities(&setup, &Config::default(), None, &Closed::default());
        assert_eq!(made["goog:chromeOptions"]["binary"], "/opt/shell");
        setup.program = None;
        let made = capabilities(&setup, &Config::default(), None, &Closed::default());
        assert_eq!(made["goog:chromeOptions"].get("binary"), None);
    }

    #[test]
    fn the_shell_is_for_headless_runs_of_our_own_chromium() {
        let endpoint = Config { webdriver: "http://grid:4444".parse().ok(), ..Config::default() };
        let headed = Config { headed: true, ..Config::default() };
        for (engine, headless, config) in [
            (Engine::Firefox, Headless::Shell, &Config::default()),
            (Engine::Chromium, Headless::Full, &Config::default()),
            (Engine::Chromium, Headless::Shell, &headed),
            (Engine::Chromium, Headless::Shell, &endpoint),
        ] {
            assert_eq!(program(engine, headless, config), None, "{engine} {headless:?}");
        }
    }

    #[test]
    fn rules_for_names_are_one_argument_and_ours_come_first() {
        let check = |own: &str, loopback_only: bool, expected: &[&str]| {
            let Json::Object(own) = json!({"goog:chromeOptions": {"args": [own]}}) else { unreachable!() };
            let config = Config { capabilities: own, loopback_only, ..Config::default() };
            let closed = Closed { patterns: vec!["*:215??".into()], ports: vec!["21500-21599".into()] };
            let setup = LaunchOptions { engine: Engine::Chromium, program: None, roots: None };
            let made = capabilities(&setup, &config, None, &closed);
            let arguments = made["goog:chromeOptions"]["args"].as_array().unwrap();
            let found = arguments.iter().filter_map(Json::as_str);
            let found: Vec<_> = found.filter(|text| text.contains("rules") || text.contains("debugging")).collect();
            assert_eq!(found, expected);
        };
        let (ours, pipe) = ("--host-resolver-rules=MAP *:215?? ~NOTFOUND", "--remote-debugging-pipe");
        check("--lang=pl", false, &[ours, pipe]);
        check("--host-resolver-rules=MAP a b", false, &[&format!("{ours}, MAP a b"), pipe]);
        let alone = "MAP 127.0.0.1 127.0.0.1, MAP localhost 127.0.0.1, MAP * ~NOTFOUND";
        check("--lang=pl", true, &[&format!("{ours}, {alone}"), pipe]);
        check("--remote-debugging-port=9222", false, &["--remote-debugging-port=9222", ours]);
    }
}
