//! Additional trusted roots of a run: a certificate database for the browser that should trust them.
//!
//! Chromium and Firefox store trusted roots in an NSS database, which can only be written by the NSS tools. A session
//! with additional roots starts with such a database in its folder, and is only used for runs with the same roots.
//! Client certificates are deliberately not supported, because Chromium selects one only by a policy for the whole
//! machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::process::Command;
use tokio::time::timeout;

use super::environment::environment;
use super::processes;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, Trust};
use crate::values::Values;
use crate::wire::tls;

/// Maximum number of roots of a run, more than any list of public ones contains. Writing each one takes about 50 ms.
const MOST: usize = 200;

/// NSS program that writes the databases.
const CERTUTIL: &str = "certutil";

/// Browser properties that have to be set at its start; everything else can be set later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaunchOptions {
    pub(super) engine: Engine,
    /// Browser program, if it is not the default of its driver.
    pub(super) program: Option<PathBuf>,
    pub(super) roots: Option<Roots>,
}

/// Certificates of authorities that a run trusts in addition to those of its browser, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Arc<BTreeSet<Vec<u8>>>);

impl Roots {
    /// Reads the roots that a scenario names. The file is read each time, so that a renewed one is used from the next
    /// run on.
    pub(super) fn of(trust: &Trust, values: &Values) -> Result<Option<Spanned<Self>>, Failure> {
        let Some(ca) = &trust.ca else { return Ok(None) };
        let read = || {
            let pem = values.file(&ca.value)?;
            let roots = tls::certificates(&pem).and_then(Self::new);
            roots.map_err(|why| Failure::new(Reason::Configuration, format!("`trust.ca`: {why}")))
        };
        read().map(|roots| Some(Spanned::new(roots, ca.span))).map_err(|failure| failure.at(ca.span))
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        if certificates.len() > MOST {
            return Err(format!("{} certificates in the file, at most {MOST} are supported", certificates.len()));
        }
        let mut roots = BTreeSet::new();
        for (number, certificate) in (1..).zip(certificates) {
            roots.insert(certificate.to_vec());
            let taken = RootCertStore::empty().add(certificate);
            taken.map_err(|error| format!("certificate {number} in the file is not a CA certificate: {error}"))?;
        }
        Ok(Self(Arc::new(roots)))
    }

    /// Writes the database into this folder, which is part of a session's folder. `group` and `lease` are those of the
    /// session, so that a write in progress ends with it.
    pub(super) async fn store(&self, folder: &Path, group: i32, lease: &str, limit: Duration) -> Result<(), Failure> {
        let write = async {
            let failed = |error: std::io::Error| {
                let text = format!("{} cannot be used for certificates: {error}", folder.display());
                Failure::new(Reason::Configuration, text)
            };
            tokio::fs::create_dir_all(folder).await.map_err(failed)?;
            let mut all = String::new();
            for (number, root) in self.0.iter().enumerate() {
                tokio::fs::write(folder.join(format!("{number}.der")), root).await.map_err(failed)?;
                // C: a root for server certificates only.
                all.push_str(&format!("-A -d sql:. -n root-{number} -t C,, -i {number}.der\n"));
            }
            tokio::fs::write(folder.join("roots"), all).await.map_err(failed)?;
            certutil(CERTUTIL, &["-N", "-d", "sql:.", "--empty-password"], folder, group, lease).await?;
            certutil(CERTUTIL, &["-B", "-d", "sql:.", "-i", "roots"], folder, group, lease).await
        };
        let text = "the browser's certificates could not be written in time";
        timeout(limit, write).await.unwrap_or_else(|_| Err(Failure::new(Reason::Browser, text)))
    }
}

/// Returns the failure for roots of a browser at an external endpoint.
pub(super) fn elsewhere() -> Failure {
    let text = "`browser.trust.ca` is for browsers on this machine; at `browser.webdriver` the root must be installed \
                where the browser runs";
    Failure::new(Reason::Configuration, text)
}

async fn certutil(program: &str, arguments: &[&str], folder: &Path, group: i32, lease: &str) -> Result<(), Failure> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment())
        .env(processes::LEASE, lease)
        .stdin(Stdio::null())
        .process_group(group)
        .kill_on_drop(true)
        .output();
    let text = match output.await {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{program} rejects a certificate of `browser.trust.ca`: {}", said.trim())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "{program} was not found in PATH, and `browser.trust.ca` needs it; install NSS's tools (Debian, Ubuntu: \
             `apt-get install libnss3-tools`)"
        ),
        Err(error) => format!("{program} did not start: {error}"),
    };
    Err(Failure::new(Reason::Configuration, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_is_told_with_what_brings_it() {
        let own = nix::unistd::getpgrp().as_raw();
        let missing = certutil("certutil-of-nobody", &[], &std::env::temp_dir(), own, "nobody").await.unwrap_err();
        assert_eq!(missing.reason, Reason::Configuration);
        assert!(missing.message.contains("install libnss3-tools"), "{}", missing.message);
    }
}
