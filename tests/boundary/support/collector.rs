//! The OpenTelemetry Collector: its own receiver of OTLP, and what its file exporter writes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::group::{Group, free_port, tools_folder};
use super::{Folder, until};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The program that `tests/support/tools.sh` builds. None where it cannot be built, which is said.
pub fn program() -> Option<PathBuf> {
    let program = tools_folder().join("bin/otel-collector");
    if program.exists() {
        return Some(program);
    }
    let has_go = Path::new("/usr/local/go/bin/go").exists() || Command::new("go").arg("version").output().is_ok();
    assert!(!has_go, "bin/otel-collector is missing: run tests/support/tools.sh");
    eprintln!("SKIPPED: the OpenTelemetry Collector needs Go to be built, which is not here");
    None
}

/// A collector that writes what it takes to a file.
pub struct Collector {
    group: Group,
    folder: Folder,
    /// The port for OTLP over HTTP.
    pub http: u16,
    /// The port for OTLP over gRPC.
    pub grpc: u16,
}

impl Collector {
    pub async fn up(program: &Path, name: &str, has_tls: bool) -> Self {
        let (folder, http, grpc) = (Folder::new(name), free_port(), free_port());
        let file = folder.path().join("telemetry.json");
        let mut command = Command::new(program);
        command.args([format!("127.0.0.1:{http}"), format!("127.0.0.1:{grpc}")]).arg(&file);
        if has_tls {
            let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            folder.write("ca.pem", &made.cert.pem());
            folder.write("key.pem", &made.signing_key.serialize_pem());
            command.args(["ca.pem", "key.pem"]).current_dir(folder.path());
        }
        let mut group = Group::start(&mut command, &folder.path().join("log"));
        for port in [http, grpc] {
            until("the collector listens", SOON, async || {
                group.must_live();
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
            })
            .await;
        }
        Self { group, folder, http, grpc }
    }

    /// The folder with what it writes (`telemetry.json`), and with its authority (`ca.pem`).
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that was written so far, one request a line.
    fn written(&mut self) -> Vec<Value> {
        self.group.must_live();
        let text = std::fs::read_to_string(self.folder.path().join("telemetry.json")).unwrap_or_default();
        // The last line may be on its way.
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn spans(&mut self) -> Vec<Value> {
        parts(&self.written(), ["resourceSpans", "scopeSpans", "spans"])
    }

    pub fn records(&mut self) -> Vec<Value> {
        parts(&self.written(), ["resourceLogs", "scopeLogs", "logRecords"])
    }
}

/// What is in lists in lists.
fn parts(requests: &[Value], keys: [&str; 3]) -> Vec<Value> {
    let mut level = requests.to_vec();
    for key in keys {
        level = level.iter().flat_map(|value| value[key].as_array().cloned().unwrap_or_default()).collect();
    }
    level
}

pub fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let pair = of["attributes"].as_array().and_then(|all| all.iter().find(|pair| pair["key"] == key));
    let value = pair.and_then(|pair| pair["value"].as_object()).and_then(|value| value.values().next());
    value.unwrap_or(&Value::Null)
}

pub fn nanos(of: &Value, key: &str) -> i64 {
    of[key].as_str().unwrap().parse().unwrap()
}
