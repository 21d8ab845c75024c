//! `upload`: gives files of the scenario to a field of the page.
//!
//! The lookup decides which files a scenario may read. A file is therefore read through it and copied to where the
//! browser can read it: into the session's folder, or, at an endpoint on another machine, with Selenium's `se/file`,
//! which takes a ZIP archive.

use std::path::Path;

use base64::Engine as _;
use serde_json::json;
use tokio::time::Instant;

use super::command::{Command, ELEMENT};
use super::errors::CommandError;
use super::locate::LocatorQuery;
use super::page::{PROMPT, Page};
use super::pointer::{is_own, left_click};
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Locator, Template};
use crate::values::Values;

/// Event that indicates that a page opens a file chooser.
const CHOOSER: &str = "input.fileDialogOpened";

impl Page {
    /// Sets the files of a field, which replace its current ones.
    pub(super) async fn upload(
        &mut self,
        target: &Locator,
        files: &[Spanned<Template>],
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut paths = Vec::new();
        for file in files {
            let path = values.fill(file).map_err(|failure| failure.at(file.span))?;
            let name = Path::new(&path).file_name().map_or("file", |name| name.to_str().unwrap_or("file"));
            let bytes = values.beside(Path::new(&path)).await.map_err(|failure| failure.at(file.span))?;
            paths.push(self.lay_down(name, &bytes).await?);
        }
        // In Chromium, a window that opens during this subscription hangs, so the subscription only lasts for this
        // step.
        let told = match self.bidi() {
            Some(_) => {
                let params = json!({"events": [CHOOSER], "contexts": [self.window]});
                self.ask("session.subscribe", params, PROMPT).await.ok()
            }
            None => None,
        };
        let done = self.give(target, &paths, told.is_some(), values, deadline).await;
        if let Some(id) = told.as_ref().and_then(|told| told["subscription"].as_str()) {
            // A lost session is reported by the next step.
            let _ = self.ask("session.unsubscribe", json!({"subscriptions": [id]}), PROMPT).await;
        }
        done
    }

    /// Sets files that are already on disk on the field, or on the file chooser that a click opens. `chooser` says
    /// whether the session is subscribed to events of choosers.
    async fn give(
        &mut self,
        target: &Locator,
        paths: &[String],
        chooser: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let count = paths.len();
        let asked = json!({"then": "upload", "files": count, "unseen": true, "chooser": chooser});
        let query = LocatorQuery::new(target, values)?.with(asked);
        let engine = self.session().engine;
        let (before, directly) = (self.watch.choosers(), self.types_by_keys().is_some());
        let answer = self
            .once(&query, deadline, &|answer, element| {
                if answer.is("opens") {
                    return Some(left_click(engine, answer, element));
                }
                (!directly).then(|| Command::element(element, "value", json!({"text": paths.join("\n")})))
            })
            .await?;
        let (context, field) = if answer.is("opens") {
            self.see_who_got_it(&query, is_own(engine, &answer), deadline).await?;
            let Some(chooser) = self.watch.chooser_after(before, deadline).await else {
                let message =
                    format!("a click on {} opens no file chooser, and it has no field for files", query.shown);
                return Err(query.placed(Failure::new(Reason::NotFound, message)));
            };
            if count > 1 && !chooser.is_multiple {
                return Err(query.placed(Failure::new(Reason::Configuration, "the file chooser accepts only one file")));
            }
            (chooser.context, json!({"sharedId": chooser.field}))
        } else if directly {
            (self.document(), json!({"sharedId": answer.element().map(|element| element.json()[ELEMENT].clone())}))
        } else {
            return Ok(());
        };
        let params = json!({"context": context, "element": field, "files": paths});
        let left = deadline.saturating_duration_since(Instant::now());
        self.ask("input.setFiles", params, left).await.map(drop).map_err(CommandError::failure)
    }

    /// Copies a file to where the browser can read it. Returns its path there.
    async fn lay_down(&mut self, name: &str, bytes: &[u8]) -> Result<String, Failure> {
        let Some(folder) = &self.folder else {
            let archive = base64::engine::general_purpose::STANDARD.encode(zip(name, bytes));
            let answer = self.call(Command::post("se/file", json!({"file": archive})), PROMPT).await;
            let answer = answer.map_err(|trouble| match trouble {
                CommandError::Other(text) => Failure::new(
                    Reason::Driver,
                    format!("the WebDriver endpoint does not accept files for uploads: {text}"),
                ),
                trouble => trouble.failure(),
            })?;
            return answer.as_str().map(ToOwned::to_owned).ok_or_else(|| {
                Failure::new(Reason::Driver, "the WebDriver endpoint accepted a file without returning its path")
            });
        };
        self.uploads += 1;
        let folder = folder.join("upload").join(self.uploads.to_string());
        let file = folder.join(name);
        let failed =
            |error: std::io::Error| Failure::new(Reason::Resources, format!("cannot store a file for upload: {error}"));
        tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
        tokio::fs::write(&file, bytes).await.map_err(failed)?;
        let file = tokio::fs::canonicalize(&file).await.map_err(failed)?;
        Ok(file.display().to_string())
    }
}

/// Creates a ZIP archive with one uncompressed file (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).expect("a scenario's file has 16 MiB at most");
    let length = u16::try_from(name.len()).expect("a file's name has 255 bytes at most");
    // Version 2.0, names in UTF-8, stored, 1980-01-01.
    let mut common = Vec::new();
    for field in [20_u16, 0x0800, 0, 0, 0x21] {
        common.extend(field.to_le_bytes());
    }
    for field in [crc32(bytes), size, size] {
        common.extend(field.to_le_bytes());
    }
    common.extend(length.to_le_bytes());
    common.extend([0; 2]);
    let mut archive = b"PK\x03\x04".to_vec();
    archive.extend(&common);
    archive.extend(name.as_bytes());
    archive.extend(bytes);
    let directory = archive.len();
    archive.extend(b"PK\x01\x02\x14\x00");
    archive.extend(&common);
    archive.extend([0; 14]);
    archive.extend(name.as_bytes());
    let end = archive.len();
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    for field in [end - directory, directory] {
        archive.extend(u32::try_from(field).expect("as above").to_le_bytes());
    }
    archive.extend([0; 2]);
    archive
}

/// Computes the checksum of ZIP (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1)))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_directory_says_where_the_file_is() {
        let archive = super::zip("a.txt", b"hello");
        let number = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize;
        let end = archive.len() - 22;
        let (size, directory) = (number(end + 12), number(end + 16));
        assert_eq!((&archive[..4], &archive[30..40]), (&b"PK\x03\x04"[..], &b"a.txthello"[..]));
        assert_eq!((&archive[directory..directory + 4], directory + size), (&b"PK\x01\x02"[..], end));
        assert_eq!((number(14), number(18), number(22)), (number(directory + 16), 5, 5));
        assert_eq!(&archive[end - 5..end], b"a.txt");
    }
}
