//! With what an agent is asked that has TLS or users (`web.config_file`).

use std::path::{Path, PathBuf};

use crate::app::web_client_with;
use crate::bounded;
use crate::wire::tls::{Settings, Trusted, certificates, private_key};

/// Maximum size of a file with a certificate, a key or a password, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Arguments of every command that asks an agent.
#[derive(clap::Args)]
pub(super) struct Credentials {
    /// A file with the authority of the agent's certificate, besides those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A file with a certificate, where the agent asks for one
    #[arg(id = "client_cert", long = "cert", value_name = "FILE", requires = "client_key")]
    cert: Option<PathBuf>,
    /// A file with the private key of that certificate
    // A name of its own: commands have a `key` as well.
    #[arg(id = "client_key", long = "key", value_name = "FILE", requires = "client_cert")]
    key: Option<PathBuf>,
    /// A user of the agent
    #[arg(long, value_name = "NAME", env = "WACHTA_USER")]
    user: Option<String>,
    /// A file with the password of that user; left out: the variable `WACHTA_PASSWORD`
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    bounded::read(path, MAX_FILE_BYTES).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

impl Credentials {
    /// A client that trusts the authority and shows the certificate.
    pub(super) fn client(&self) -> Result<reqwest::Client, String> {
        let mut settings = Settings::default();
        let within = |path: &Path| {
            let shown = path.display().to_string();
            move |why: String| format!("{shown}: {why}")
        };
        if let Some(ca) = &self.ca {
            settings.further = certificates(&read(ca)?).map_err(within(ca))?;
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let chain = certificates(&read(cert)?).map_err(within(cert))?;
            settings.identity = Some((chain, private_key(&read(key)?).map_err(within(key))?));
        }
        let tls = Trusted::system().build(settings)?;
        web_client_with(&tls).map_err(|error| error.to_string())
    }

    /// Adds the user and the password to a request.
    pub(super) fn sign(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, String> {
        let Some(user) = &self.user else { return Ok(request) };
        let password = match &self.password_file {
            Some(path) => String::from_utf8(read(path)?).map_err(|_| format!("{} is not text", path.display()))?,
            None => std::env::var("WACHTA_PASSWORD")
                .map_err(|_| "name a file with the password: --password-file, or set WACHTA_PASSWORD".to_owned())?,
        };
        Ok(request.basic_auth(user, Some(password.trim_end_matches(['\n', '\r']))))
    }
}
