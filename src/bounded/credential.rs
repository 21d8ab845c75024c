//! Credentials of the agent configuration: tokens, passwords, and URLs that contain one. They are never shown.

use std::path::Path;

use crate::bounded::SmallFile;
use crate::diagnostic::credentials;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::{Node, NodeKind};
use crate::secret::{SHORTEST, Secret};

/// Form of a credential in the agent configuration.
pub const SECRET: Shape = Shape::Either(&[Shape::Text, Shape::Keys(&[FROM])]);
const FROM: &[Key] = &[
    Key { name: "file", shape: Some(Shape::Text), doc: "file, relative to this one; a trailing line end is ignored" },
    Key { name: "env", shape: Some(Shape::Text), doc: "environment variable of the agent" },
];

/// Maximum size of a file with a credential, in bytes.
const LARGEST: u64 = 64 << 10;

/// Credential by source. It is read for each attempt, so that a renewed one takes effect at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Text in the agent configuration.
    Text(Secret<String>),
    /// File; a line break at its end is not part of the credential.
    File(SmallFile),
    /// Environment variable of the agent.
    Env(String),
}

impl Credential {
    /// Reads a credential of the agent configuration, and marks a literal value so that it is masked everywhere.
    pub fn from_config(r: &mut Reader, node: &Node, what: &str) -> Option<Self> {
        if !matches!(node.kind, NodeKind::Map(_)) {
            let text = r.text(node, what)?;
            if text.chars().count() < SHORTEST {
                r.fail(node.span, format!("{what} must have at least {SHORTEST} characters"));
                return None;
            }
            hide(r, &text);
            return Some(Self::text(text.value));
        }
        let fields = r.fields(node, what, &[FROM])?;
        let mut entries = fields.iter();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => {
                let text = r.text(&entry.value, &format!("`{}`", entry.key))?.value;
                let beside = |path: &str| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(path);
                Some(if entry.key == "env" { Self::Env(text) } else { Self::File(beside(&text).into()) })
            }
            _ => {
                r.fail_with(node.span, format!("{what} needs one source"), "write {file: PATH} or {env: VARIABLE}");
                None
            }
        }
    }

    /// Creates a credential from a known value.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Secret::new(text.into()))
    }

    /// Returns the file of the credential if it is in one.
    pub fn file(&self) -> Option<&SmallFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Text(_) | Self::Env(_) => None,
        }
    }

    /// Reads the value. The error contains the source but never the value.
    pub async fn read(&self) -> Result<String, String> {
        let value = match self {
            Self::Text(text) => text.expose().clone(),
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the variable `{name}` is not set, or is not text"))?
            }
            Self::File(file) => {
                let shown = file.path().display();
                file.read_text(LARGEST).await.map_err(|e| format!("the file `{shown}` cannot be read: {e}"))?
            }
        };
        let value = value.trim_end_matches(['\n', '\r']).to_owned();
        if value.is_empty() { Err(format!("{} is empty", self.place())) } else { Ok(value) }
    }

    /// Reads the value and parses it as a URL.
    pub async fn url(&self) -> Result<url::Url, String> {
        let url = url::Url::parse(self.read().await?.trim()).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| format!("{} holds no URL that begins with http:// or https://", self.place()))
    }

    /// Describes the source of the credential.
    pub fn place(&self) -> String {
        match self {
            Self::Text(_) => "the text in the agent configuration".to_owned(),
            Self::Env(name) => format!("the variable `{name}`"),
            Self::File(file) => format!("the file `{}`", file.path().display()),
        }
    }
}

/// Marks a text, and the parts of it that are revealing by themselves, as a credential, so that they are masked
/// everywhere.
pub fn hide(r: &Reader, text: &str) {
    r.source.credentials.add(text);
    for part in credentials::parts_of_url(text) {
        r.source.credentials.add(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_from_their_places_and_errors_hold_none() {
        let path = std::env::temp_dir().join(format!("wachta-credential-{}", std::process::id()));
        let file = Credential::File(path.clone().into());
        assert!(file.read().await.unwrap_err().starts_with(&format!("the file `{}` cannot be read", path.display())));
        std::fs::write(&path, "hidden token\r\n").unwrap();
        assert_eq!(file.read().await, Ok("hidden token".into()));
        let problem = file.url().await.unwrap_err();
        assert!(problem.contains("holds no URL") && !problem.contains("hidden"), "{problem}");
        // A renewed credential takes effect at once.
        std::fs::write(&path, "https://hooks.example.com/T/B/x\n").unwrap();
        assert_eq!(file.url().await.unwrap().path(), "/T/B/x");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(file.read().await, Err(format!("the file `{}` is empty", path.display())));
        std::fs::write(&path, "x".repeat(65 << 10)).unwrap();
        assert_eq!(
            file.read().await,
            Err(format!("the file `{}` cannot be read: it is larger than 64 KiB", path.display()))
        );
        std::fs::remove_file(path).unwrap();
        let variable = Credential::Env("WACHTA_NOT_SET".into());
        assert_eq!(variable.read().await, Err("the variable `WACHTA_NOT_SET` is not set, or is not text".into()));
        let text = Credential::text("ftp://hidden");
        assert_eq!(
            format!("{text:?} {:?}", text.url().await),
            "Text(***) Err(\"the text in the agent configuration holds no URL that begins with http:// or https://\")"
        );
    }
}
