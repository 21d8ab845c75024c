//! Credentials for an agent with TLS or users (`web.config_file`).

use std::path::{Path, PathBuf};

use crate::app::web_client_with;
use crate::bounded;
use crate::wire::tls::{Settings, Trusted, certificates, private_key};

/// Maximum size of a file with a certificate, a key or a password, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Arguments of every command that sends requests to an agent.
#[derive(clap::Args)]
pub(super) struct Credentials {
    /// File with the certificate authority of the agent, in addition to those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with a client certificate, if the agent requires one
    #[arg(id = "client_cert", long = "cert", value_name = "FILE", requires = "client_key")]
    cert: Option<PathBuf>,
    /// File with the private key of the client certificate
    // The id differs from the option because commands have a `key` of their own.
    #[arg(id = "client_key", long = "key", value_name = "FILE", requires = "client_cert")]
    key: Option<PathBuf>,
    /// User name at the agent
    #[arg(long, value_name = "NAME", env = "WACHTA_USER")]
    user: Option<String>,
    /// File with the password of the user (default: the variable `WACHTA_PASSWORD`)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    bounded::read(path, MAX_FILE_BYTES).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

impl Credentials {
    /// Creates a client that trusts the certificate authority and presents the client certificate.
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

    /// Adds the user name and password to a request.
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
