//! Values of one run: resolves `${…}` while its steps run.

mod encoding;
pub mod expect;
pub mod number;
pub mod text;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;

use self::text::without_mark;
use crate::bounded::Readers;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::template::RunField;
use crate::scenario::{Lookup, LookupError, Reference, Scenario, SecretSource, Template, Value};
use crate::secret::{Masker, Secret};

/// Maximum time for reading a file.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves `${…}` within one run. All secrets that the scenario declares are read at the start and masked from then
/// on, whether used or not, because a page may show a secret before the step that uses it.
pub struct Values {
    scenario: Arc<Scenario>,
    lookup: Arc<dyn Lookup>,
    masker: Masker,
    run: RunId,
    started_at: DateTime<Utc>,
    location: String,
    saved: HashMap<String, Json>,
    secrets: Mutex<HashMap<String, Secret<String>>>,
    readers: Readers,
    /// Files that were read, by the path used in the scenario.
    files: Mutex<HashMap<PathBuf, Result<Vec<u8>, LookupError>>>,
}

impl Values {
    /// Creates the values of a run that starts now.
    pub fn new(
        scenario: &Arc<Scenario>,
        lookup: &Arc<dyn Lookup>,
        masker: Masker,
        run: RunId,
        started_at: DateTime<Utc>,
        location: &str,
    ) -> Self {
        let values = Self {
            scenario: Arc::clone(scenario),
            lookup: Arc::clone(lookup),
            masker,
            run,
            started_at,
            location: location.to_owned(),
            saved: HashMap::new(),
            secrets: Mutex::default(),
            readers: Readers::default(),
            files: Mutex::default(),
        };
        values.learn_secrets();
        values
    }

    /// Sets the threads for reading files, which are shared with other runs.
    #[must_use]
    pub fn reading_by(mut self, readers: &Readers) -> Self {
        self.readers = readers.clone();
        self
    }

    /// Masks every available secret. One that cannot be read fails the step that uses it.
    fn learn_secrets(&self) {
        for name in self.scenario.secrets.keys() {
            let _ = self.secret(name);
        }
        if let Some(base) = &self.scenario.base_url {
            let _ = self.fill(base).map(|base| url::Url::parse(&base).map(|base| self.hide_user(&base)));
        }
    }

    /// Reads the files of secrets. Must be called before any data of the run is shown.
    pub async fn read_secrets(&self, limit: Duration) {
        let paths = self.scenario.secrets.values().filter_map(|source| match source {
            SecretSource::File(path) => Some(path.value.clone()),
            SecretSource::Env(_) => None,
        });
        let paths: Vec<PathBuf> = paths.collect();
        if !paths.is_empty() {
            self.read(paths, limit).await;
            self.learn_secrets();
        }
    }

    /// Reads the files named by a step before it starts, so that a slow file system delays only this run and fails only
    /// this step. Files are read each time, so that changes take effect.
    pub async fn read_files(&self, files: Vec<&Spanned<Template>>, limit: Duration) {
        // A path that cannot be resolved fails the step as well.
        let paths: Vec<PathBuf> = files.into_iter().filter_map(|file| Some(self.fill(file).ok()?.into())).collect();
        if !paths.is_empty() {
            self.read(paths, limit).await;
        }
    }

    async fn read(&self, paths: Vec<PathBuf>, limit: Duration) {
        let limit = limit.min(READ_TIMEOUT);
        let reads = paths.into_iter().map(|path| async move {
            let (lookup, scenario, named) = (Arc::clone(&self.lookup), Arc::clone(&self.scenario), path.clone());
            let read = move || lookup.file(&named, &scenario.source.path);
            let place = Path::new(&self.scenario.source.path).parent().unwrap_or(Path::new("")).join(&path);
            let read = self.readers.file(&place, limit, read).await.unwrap_or_else(|error| {
                Err(LookupError::Missing(format!("cannot read the file `{}`: {error}", path.display())))
            });
            (path, read)
        });
        let read = futures_util::future::join_all(reads).await;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
    }

    /// Returns the content of a file that was read before.
    fn at_hand(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files.get(path).cloned().unwrap_or_else(|| {
            Err(LookupError::Missing(format!("the file `{}` was not read before this step", path.display())))
        });
        found.map_err(|error| Failure::new(Reason::Configuration, error.to_string()))
    }

    /// Masks a password in a URL, whether or not it was declared as a secret.
    fn hide_user(&self, url: &url::Url) {
        if let Some(password) = url.password() {
            self.masker.add(&percent_encoding::percent_decode_str(password).decode_utf8_lossy());
        }
    }

    /// Returns the masker that removes this run's secrets from texts.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Returns the scenario of the run.
    pub fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    /// Saves a value for later steps. A secret value is masked from then on.
    pub fn save(&mut self, name: &str, value: Json, secret: bool) -> Result<(), Failure> {
        if secret && !self.masker.add_value(&value) {
            return Err(Failure::new(
                Reason::Assertion,
                format!(
                    "the value saved as `{name}` is shorter than {} characters and cannot be kept secret",
                    crate::secret::SHORTEST
                ),
            ));
        }
        self.saved.insert(name.to_owned(), value);
        Ok(())
    }

    /// Resolves a reference.
    pub fn value(&self, reference: &Reference) -> Result<Json, Failure> {
        let configuration = |error: &LookupError| Failure::new(Reason::Configuration, error.to_string());
        Ok(Json::String(match reference {
            Reference::Env(name) => self.lookup.env(name).map_err(|e| configuration(&e))?,
            Reference::Secret(name) => self.secret(name)?,
            Reference::Totp(name) => self.totp(name, Utc::now())?,
            Reference::Var(name) => match self.scenario.vars.get(name) {
                Some(value) => return self.fill_value(value),
                None => return Err(Failure::new(Reason::Configuration, format!("`vars.{name}` is not defined"))),
            },
            Reference::Run(RunField::Id) => self.run.to_string(),
            Reference::Run(RunField::StartedAt) => self.started_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            Reference::Run(RunField::Location) => self.location.clone(),
            Reference::SavedValue(name) => {
                return self.saved.get(name).cloned().ok_or_else(|| {
                    Failure::new(Reason::MissingValue, format!("`${{{name}}}` was not saved in this run"))
                });
            }
        }))
    }

    /// Returns the one-time password for a point in time.
    fn totp(&self, name: &str, at: DateTime<Utc>) -> Result<String, Failure> {
        let failure = |text: String| Failure::new(Reason::Configuration, text);
        let Some(secret) = self.scenario.totp.get(name) else {
            return Err(failure(format!("`totp.{name}` is not defined")));
        };
        let seed = self.secret(secret)?;
        let code = u64::try_from(at.timestamp()).ok().and_then(|seconds| one_time_password(&seed, seconds));
        code.ok_or_else(|| failure(format!("secret `{}` is not a seed of one-time passwords in base32", secret.value)))
    }

    fn secret(&self, name: &str) -> Result<String, Failure> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = secrets.get(name) {
            return Ok(secret.expose().clone());
        }
        let failure = |text: String| Failure::new(Reason::Configuration, text);
        let text = match self.scenario.secrets.get(name) {
            Some(SecretSource::Env(variable)) => self.lookup.env(variable).map_err(|e| failure(e.to_string()))?,
            Some(SecretSource::File(path)) => {
                let bytes = self.at_hand(path)?;
                String::from_utf8(without_mark(&bytes).to_vec())
                    .map_err(|_| failure(format!("the file of secret `{name}` is not UTF-8 text")))?
            }
            None => return Err(failure(format!("`secret.{name}` is not defined"))),
        };
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        if !self.masker.add(&text) {
            return Err(failure(format!("secret `{name}` is shorter than {} characters", crate::secret::SHORTEST)));
        }
        secrets.insert(name.to_owned(), Secret::new(text.clone()));
        Ok(text)
    }

    /// Resolves the names in a template.
    pub fn fill(&self, template: &Template) -> Result<String, Failure> {
        template.fill(|reference| self.value(reference))
    }

    /// Resolves the names in a value.
    pub fn fill_value(&self, value: &Value) -> Result<Json, Failure> {
        value.fill(&mut |reference| self.value(reference))
    }

    /// Returns the URL of a step: absolute, or relative to the scenario's `base_url`.
    pub fn url(&self, template: &Template) -> Result<url::Url, Failure> {
        let text = template.fill_url(|reference| self.value(reference), encoding::encode)?;
        let bad = |text: &str, why: &dyn std::fmt::Display| {
            Failure::new(Reason::Configuration, format!("`{}` is not a URL: {why}", self.masker.mask(text)))
        };
        self.masker.in_url(&text);
        match url::Url::parse(&text) {
            Ok(url) => self.opened(url),
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                let Some(base) = &self.scenario.base_url else {
                    return Err(bad(&text, &"it is relative and there is no `base_url`"));
                };
                let base = self.fill(base)?;
                let base = url::Url::parse(&base).map_err(|e| bad(&base, &e))?;
                self.opened(base.join(&text).map_err(|e| bad(&text, &e))?)
            }
            Err(error) => Err(bad(&text, &error)),
        }
    }

    /// Rejects URLs that a step must not open: other schemes do not lead to the target, and some lead to files of this
    /// machine.
    fn opened(&self, url: url::Url) -> Result<url::Url, Failure> {
        self.hide_user(&url);
        if matches!(url.scheme(), "http" | "https") || url.as_str() == "about:blank" {
            return Ok(url);
        }
        let text = format!("`{}:` cannot be opened by a scenario; only http: and https: can", url.scheme());
        Err(Failure::new(Reason::Configuration, text))
    }

    /// Reads the current content of a file whose path is relative to the scenario.
    pub async fn beside(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.read(vec![path.to_owned()], READ_TIMEOUT).await;
        self.at_hand(path)
    }

    /// Returns the environment for a program that the scenario may run.
    pub fn exec(&self, program: &Spanned<String>) -> Result<Vec<(String, String)>, Failure> {
        let allowed = self.lookup.exec(program);
        allowed.map_err(|e| Failure::new(Reason::Configuration, e.to_string()).at(program.span))
    }

    /// Returns the content of a file named by the step, which was read before the step.
    pub fn file(&self, path: &Template) -> Result<Vec<u8>, Failure> {
        self.at_hand(Path::new(&self.fill(path)?))
    }
}

/// Computes the one-time password of six digits (RFC 6238, SHA-1, 30 s) for a Unix time in seconds. The seed is base32
/// as shown by apps, where grouping and lower case are allowed. Returns `None` if the seed is invalid.
fn one_time_password(seed: &str, seconds: u64) -> Option<String> {
    let clean: String = seed.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '=')).collect();
    let seed = totp_rs::Secret::try_from_base32(clean.to_ascii_uppercase()).ok()?;
    let totp = totp_rs::Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_secret(seed)
        .build_noncompliant();
    Some(totp.generate(seconds).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.to_owned()))
        }
        fn file(&self, _: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(String::new()))
        }
    }

    #[test]
    fn a_constant_keeps_its_type_where_it_stands_alone() {
        let text = "scenario: A\nvars: {n: 7, code: 007, on: true, word: \"7\", twice: \"${vars.n}${vars.n}\"}\nsteps:\n  - GET: http://127.0.0.1/\n";
        let loaded = crate::scenario::load("a.yaml", text, &Nothing);
        let lookup: Arc<dyn Lookup> = Arc::new(Nothing);
        let scenario = &loaded.scenarios[0];
        let values = Values::new(scenario, &lookup, Masker::default(), RunId::new(), Utc::now(), "here");
        for (raw, expected) in [
            ("${vars.n}", json!(7)),
            ("${vars.code}", json!("007")),
            ("${vars.on}", json!(true)),
            ("${vars.word}", json!("7")),
            ("${vars.twice}", json!("77")),
            ("n=${vars.n}", json!("n=7")),
        ] {
            let value = Value::Text(Template::parse(raw).unwrap());
            assert_eq!(values.fill_value(&value).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn one_time_passwords_are_those_of_rfc_6238() {
        // The ASCII text 12345678901234567890, with the last six of the eight digits in appendix B.
        let seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(one_time_password(seed, seconds).as_deref(), Some(code), "{seconds}");
        }
        let grouped = "gezd gnbv gy3t qojq gezd-gnbv-gy3t-qojq====";
        assert_eq!(one_time_password(grouped, 59).as_deref(), Some("287082"));
        // 80 bits, as used by many sites.
        assert!(one_time_password("JBSWY3DPEHPK3PXP", 59).is_some());
        assert_eq!(one_time_password("not base32!", 59), None);
    }

    #[test]
    fn a_seed_is_masked_and_its_password_is_not() {
        struct Seed;
        impl Lookup for Seed {
            fn env(&self, name: &str) -> Result<String, LookupError> {
                Ok(if name == "SEED" { "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n" } else { "not base32!" }.to_owned())
            }
            fn file(&self, _: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
                Err(LookupError::Missing(String::new()))
            }
        }
        let text = "scenario: A\nsecrets: {seed: {env: SEED}, word: {env: WORD}}\ntotp: {login: {secret: seed}, bad: {secret: word}}\nsteps:\n  - POST: http://127.0.0.1/\n    form: {a: \"${totp.login}\", b: \"${totp.bad}\"}\n";
        let loaded = crate::scenario::load("a.yaml", text, &Seed);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let lookup: Arc<dyn Lookup> = Arc::new(Seed);
        let values = Values::new(&loaded.scenarios[0], &lookup, Masker::default(), RunId::new(), Utc::now(), "here");
        let at = DateTime::from_timestamp(59, 0).unwrap();
        assert_eq!(values.totp("login", at).unwrap(), "287082");
        assert_eq!(values.masker().mask("287082 GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").matches("287082").count(), 1);
        assert!(!values.masker().mask("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").contains("GEZD"));
        let failure = values.value(&Reference::Totp("bad".into())).unwrap_err();
        assert_eq!(
            (failure.reason, failure.message.as_str()),
            (Reason::Configuration, "secret `word` is not a seed of one-time passwords in base32")
        );
    }
}
