//! Roots of a run's own: a database of certificates for the one browser that is to trust them.
//!
//! Chromium and Firefox keep what they trust in a database of NSS, and only its own program writes one. A session that
//! needs roots begins with such a database in its folder, and is given only to runs that want the same roots. A client
//! certificate is deliberately absent: Chromium takes one by a policy of the whole machine alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::process::Command;
use tokio::time::timeout;

use super::{driver, processes};
use crate::diagnostic::At;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, Trust};
use crate::values::Values;
use crate::wire::tls;

/// So many roots a run may name: more than any list of public ones has. Each takes some 50 ms to write.
const MOST: usize = 200;

/// The program of NSS that writes its databases.
const CERTUTIL: &str = "certutil";

/// What a browser must be from its start; everything else it can be told later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) engine: Engine,
    /// The browser's program, where it is not the one that its driver finds.
    pub(super) program: Option<PathBuf>,
    pub(super) roots: Option<Roots>,
}

/// Certificates of authorities that a run trusts besides those of its browser, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Arc<BTreeSet<Vec<u8>>>);

impl Roots {
    /// Those that a scenario names. The file is read each time, so that a renewed one is used from the next run on.
    pub(super) fn of(trust: &Trust, values: &Values) -> Result<Option<At<Self>>, Failure> {
        let Some(ca) = &trust.ca else { return Ok(None) };
        let read = || {
            let pem = values.file(&ca.value)?;
            let roots = tls::certificates(&pem).and_then(Self::new);
            roots.map_err(|why| Failure::new(Reason::Configuration, format!("`trust.ca`: {why}")))
        };
        read().map(|roots| Some(At::new(roots, ca.span))).map_err(|failure| failure.at(ca.span))
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        if certificates.len() > MOST {
            return Err(format!("{} certificates in the file, and at most {MOST} are taken", certificates.len()));
        }
        let mut roots = BTreeSet::new();
        for (number, certificate) in (1..).zip(certificates) {
            roots.insert(certificate.to_vec());
            let taken = RootCertStore::empty().add(certificate);
            taken.map_err(|error| format!("certificate {number} in the file is no root: {error}"))?;
        }
        Ok(Self(Arc::new(roots)))
    }

    /// Writes the database into this folder, within a session's. `group` and `lease` are the session's: what is still
    /// being written ends with it.
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
                // C: a root for the certificates of servers, and of nobody else.
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

/// Why a browser at an endpoint that is not ours cannot be given any.
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
        .envs(driver::environment())
        .env(processes::LEASE, lease)
        .stdin(Stdio::null())
        .process_group(group)
        .kill_on_drop(true)
        .output();
    let text = match output.await {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{program} refuses a certificate of `browser.trust.ca`: {}", said.trim())
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
