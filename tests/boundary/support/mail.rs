//! A real mail server: aiosmtpd, with STARTTLS and a login, as `tests/support/mail.py` sets it up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::group::{Group, free_port, tools};
use super::{Folder, until};

/// Who may send mail.
pub const USER: &str = "wachta";
pub const PASSWORD: &str = "open-sesame";

/// A mail server that keeps what it gets.
pub struct MailServer {
    group: Group,
    folder: Folder,
    pub port: u16,
}

impl MailServer {
    pub async fn up() -> Self {
        let (folder, port) = (Folder::new("mail"), free_port());
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        folder.write("ca.pem", &made.cert.pem());
        folder.write("key.pem", &made.signing_key.serialize_pem());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/mail.py");
        let mut command = Command::new(tools("mail/bin/python").join("mail/bin/python"));
        command.arg(script).arg(port.to_string());
        command.args(["ca.pem", "key.pem", USER, PASSWORD, "."]).current_dir(folder.path());
        let mut group = Group::start(&mut command, &folder.path().join("log"));
        until("the mail server listens", Duration::from_secs(60), async || {
            group.must_live();
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { group, folder, port }
    }

    /// The certificate that vouches for it.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Where the pages of its mails are: `0/index.html` and so on.
    pub fn pages(&self) -> &Path {
        self.folder.path()
    }

    /// The mail with this number, as a mail program reads it.
    pub async fn mail(&mut self, number: usize) -> Value {
        let path = self.folder.path().join(format!("{number}.json"));
        until("the mail is kept", Duration::from_secs(60), async || {
            self.group.must_live();
            serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()
        })
        .await
    }
}
