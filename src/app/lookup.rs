//! Environment variables and files of the machine that scenarios may use, as allowed by the agent configuration.
//!
//! Paths are compared after resolving symbolic links and `..`, so that neither leads out of the allowed folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::Allow;
use crate::bounded;
use crate::scenario::{Lookup, LookupError};

/// Maximum size of a file that a scenario may read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Environment variables and files of the machine.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Allowed variables and files; absent if everything is allowed.
    allow: Option<Allow>,
    /// Variables that take precedence over those of the process.
    extra: BTreeMap<String, String>,
    /// Whether programs may be run if everything else is allowed.
    programs: bool,
    /// Files that take precedence over those of the machine, by the path in the scenario.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Environment {
    /// Creates a lookup limited to what the agent configuration allows.
    pub fn allowed(allow: Allow) -> Self {
        Self { allow: Some(allow), ..Self::default() }
    }

    /// Creates a lookup of the caller's own environment and files, without limits.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Allows scenarios to run programs if everything else is allowed.
    #[must_use]
    pub fn with_programs(mut self, allowed: bool) -> Self {
        self.programs = allowed;
        self
    }

    /// Adds variables that are always allowed, such as those of `--env-file`.
    #[must_use]
    pub fn with(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.extra.extend(variables);
        self
    }

    /// Adds a file that is always allowed, such as a secret of `--secret`.
    #[must_use]
    pub fn with_file(mut self, path: &Path, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self
    }

    fn may_read(&self, file: &Path, folder: &Path) -> bool {
        let Some(allow) = &self.allow else { return true };
        if folder.canonicalize().is_ok_and(|folder| file.starts_with(folder)) {
            return true;
        }
        allow.files.iter().any(|allowed| {
            let is_folder = allowed.ends_with('/');
            Path::new(allowed).canonicalize().is_ok_and(|allowed| {
                if is_folder || allowed.is_dir() { file.starts_with(&allowed) } else { file == allowed }
            })
        })
    }
}

impl Lookup for Environment {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        if let Some(value) = self.extra.get(name) {
            return Ok(value.clone());
        }
        if let Some(allow) = &self.allow
            && !allow.env.iter().any(|pattern| glob(pattern, name))
        {
            let text =
                format!("the variable `{name}` is not allowed; add it to `allow.env` in the agent configuration");
            return Err(LookupError::NotAllowed(text));
        }
        match std::env::var(name) {
            Ok(value) => Ok(value),
            Err(std::env::VarError::NotPresent) => {
                Err(LookupError::Missing(format!("the variable `{name}` is not set")))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(LookupError::Missing(format!("the variable `{name}` is not UTF-8 text")))
            }
        }
    }

    /// Returns the environment of a program: the variables required to find other programs, a home folder and a
    /// language, and those that scenarios may read.
    fn exec(&self, program: &str) -> Result<Vec<(String, String)>, LookupError> {
        const ALWAYS: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TMPDIR", "TZ"];
        let denied = |how: &str| Err(LookupError::NotAllowed(format!("the program `{program}` is not allowed; {how}")));
        let may_see = |name: &str| match &self.allow {
            None => true,
            Some(allow) => {
                let patterns = allow.env.iter().map(String::as_str).chain(ALWAYS);
                patterns.into_iter().any(|pattern| glob(pattern, name))
            }
        };
        match &self.allow {
            None if !self.programs => return denied("start with `--allow-exec`"),
            Some(allow) if !allow.exec.iter().any(|allowed| allowed == program) => {
                return denied("add it to `allow.exec` in the agent configuration");
            }
            _ => {}
        }
        let own =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let own = own.filter(|(name, _)| may_see(name));
        Ok(own.chain(self.extra.clone()).collect())
    }

    fn file(&self, path: &Path, beside: &str) -> Result<Vec<u8>, LookupError> {
        if let Some(bytes) = self.files.get(path) {
            return Ok(bytes.clone());
        }
        let shown = path.display();
        let folder = match Path::new(beside).parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let missing = |error: std::io::Error| LookupError::Missing(format!("cannot read the file `{shown}`: {error}"));
        let file = match folder.join(path).canonicalize() {
            Ok(file) => file,
            // Outside of the allowed folders, the error does not reveal whether a file exists.
            Err(error) if self.allow.is_none() => return Err(missing(error)),
            Err(error) => {
                let parent = folder.join(path).parent().and_then(|parent| parent.canonicalize().ok());
                return Err(match parent.filter(|parent| self.may_read(parent, &folder)) {
                    Some(_) => missing(error),
                    None => not_allowed(path),
                });
            }
        };
        if !self.may_read(&file, &folder) {
            return Err(not_allowed(path));
        }
        bounded::read(&file, MAX_FILE).map_err(missing)
    }
}

fn not_allowed(path: &Path) -> LookupError {
    let shown = path.display();
    LookupError::NotAllowed(format!(
        "the file `{shown}` is not allowed; add it to `allow.files` in the agent configuration"
    ))
}

/// Returns whether a name matches a pattern in which `*` stands for any characters.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("SHOP_*", "SHOP_URL", true),
            ("SHOP_*", "MYSHOP_URL", false),
            ("*_URL", "SHOP_URL", true),
            ("S*_*L", "SHOP_URL", true),
            ("SHOP", "SHOP_URL", false),
            ("*", "ANY", true),
            ("A*A", "A", false),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn neither_dots_nor_links_lead_out() {
        let root = std::env::temp_dir().join(format!("wachta-lookup-{}", std::process::id()));
        std::fs::create_dir_all(root.join("scenarios")).unwrap();
        std::fs::create_dir_all(root.join("secrets")).unwrap();
        std::fs::write(root.join("scenarios/ca.pem"), "ca").unwrap();
        std::fs::write(root.join("secrets/token"), "token").unwrap();
        std::fs::write(root.join("outside"), "outside").unwrap();
        std::os::unix::fs::symlink(root.join("outside"), root.join("scenarios/link")).unwrap();
        let beside = root.join("scenarios/a.yaml").display().to_string();
        let allow = Allow {
            env: vec![],
            files: vec![format!("{}/secrets/", root.display())],
            exec: vec![],
            ..Allow::default()
        };
        let lookup = Environment::allowed(allow);
        let read = |path: &str| lookup.file(Path::new(path), &beside);
        assert_eq!(read("ca.pem"), Ok(b"ca".to_vec()));
        assert_eq!(read("../secrets/token"), Ok(b"token".to_vec()));
        for outside in ["../outside", "link", "../secrets/../outside", "/etc/hostname", "../nothing"] {
            assert!(matches!(read(outside), Err(LookupError::NotAllowed(_))), "{outside}");
        }
        assert!(matches!(read("nothing"), Err(LookupError::Missing(_))));
        assert!(Environment::everything().file(Path::new("../outside"), &beside).is_ok());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn variables_must_be_allowed() {
        let lookup = Environment::allowed(Allow { env: vec!["PATH".into()], ..Allow::default() })
            .with([("EXTRA".to_owned(), "x".to_owned())]);
        assert!(lookup.env("PATH").is_ok());
        assert!(matches!(lookup.env("HOME"), Err(LookupError::NotAllowed(_))));
        assert_eq!(lookup.env("EXTRA"), Ok("x".into()));
        assert!(matches!(Environment::everything().env("WACHTA_NOT_SET"), Err(LookupError::Missing(_))));
    }
    #[test]
    fn programs_must_be_allowed() {
        let lookup = Environment::allowed(Allow { exec: vec!["pytest".into()], ..Allow::default() })
            .with([("EXTRA".to_owned(), "x".to_owned())]);
        let environment = lookup.exec("pytest").unwrap();
        let has = |name: &str| environment.iter().any(|(known, _)| known == name);
        assert!(has("PATH") && has("EXTRA") && !has("CARGO_MANIFEST_DIR"));
        for other in ["rm", "/usr/bin/pytest", "./pytest", ""] {
            assert!(matches!(lookup.exec(other), Err(LookupError::NotAllowed(_))), "{other}");
        }
        assert!(Environment::everything().exec("pytest").is_err());
        assert!(Environment::everything().with_programs(true).exec("pytest").is_ok());
    }
}
