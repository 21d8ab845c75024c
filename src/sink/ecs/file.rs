//! File with one document per line, rotated by size.
//!
//! It tolerates common problems of such files: another program rotates, deletes or truncates it (it is reopened if it
//! is no longer the file of that name), the disk is full (a partially written batch is removed and written again), and
//! the agent was killed in the middle of a line (the incomplete line is cut off when the file is opened again).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Number of bytes at the end of a file that are searched for the last complete line.
const TAIL: u64 = 1 << 20;
/// Permissions of the file: readable by its owner and group.
const MODE: u32 = 0o640;

/// Rotated file.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<File>,
}

impl RotatedFile {
    /// Creates a file that is rotated above `max_bytes`, with `keep` older ones next to it. It is not opened yet.
    pub fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self { path, max_bytes, keep, open: None }
    }

    /// Appends complete lines. When the function returns, either all of them are on the disk or none.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or written; its content is unchanged in that case.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let added = lines.len() as u64;
        let mut file = self.file()?;
        let mut length = file.metadata()?.len();
        if length > 0 && length + added > self.max_bytes {
            drop(file);
            self.rotate()?;
            file = self.file()?;
            length = file.metadata()?.len();
        }
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Removes the partially written lines; if that fails, the incomplete line is cut off when the file is
            // opened again.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.open = Some(file);
        Ok(())
    }

    /// Returns the file, which is reopened if another file has its name or if it was truncated.
    fn file(&mut self) -> io::Result<File> {
        if let Some(file) = self.open.take()
            && let (Ok(open), Ok(there)) = (file.metadata(), std::fs::metadata(&self.path))
            && (open.dev(), open.ino()) == (there.dev(), there.ino())
        {
            return Ok(file);
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&self.path)?;
        cut_unfinished_line(&mut file)?;
        Ok(file)
    }

    /// Renames every file to the next number, and deletes the last one.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))
    }
}

/// Returns the name of an older file, such as `outcomes.ndjson.1`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Removes everything after the last line break near the end of the file.
fn cut_unfinished_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    (&*file).take(TAIL).read_to_end(&mut tail)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(end) if end + 1 == tail.len() => Ok(()),
        Some(end) => file.set_len(start + end as u64 + 1),
        None if start == 0 => file.set_len(0),
        // Lines of this sink are never that long, so the file belongs to another program, and its content is preserved.
        None => file.write_all(b"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("wachta-ecs-{}", crate::outcome::RunId::new()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("outcomes.ndjson")
        }

        /// Returns the files of the folder with their content, in order.
        fn files(&self) -> String {
            let mut names: Vec<_> = std::fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let text = |name: &String| std::fs::read_to_string(self.0.join(name)).unwrap().replace('\n', ";");
            names
                .iter()
                .map(|name| format!("{} {}", name.replace("outcomes.ndjson", "o"), text(name)))
                .collect::<Vec<_>>()
                .join(" | ")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_rotated_by_size_and_the_oldest_goes() {
        let folder = Folder::new();
        let mut file = RotatedFile::new(folder.path(), 4, 2);
        for line in ["1\n", "2\n", "3\n4\n", "5\n", "a long line\n", "6\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        assert_eq!(folder.files(), "o 6; | o.1 a long line; | o.2 5;");
        let mut file = RotatedFile::new(folder.path(), 4, 0);
        file.append(b"7\n8\n").unwrap();
        assert_eq!(folder.files(), "o 7;8; | o.1 a long line; | o.2 5;");
    }

    #[test]
    fn what_others_do_to_the_file_is_noticed() {
        let folder = Folder::new();
        let mut file = RotatedFile::new(folder.path(), 1000, 2);
        file.append(b"1\n").unwrap();
        std::fs::rename(folder.path(), folder.0.join("moved")).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(folder.files(), "moved 1; | o 2;");
        std::fs::remove_file(folder.path()).unwrap();
        file.append(b"3\n").unwrap();
        File::create(folder.path()).unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!(folder.files(), "moved 1; | o 4;");
        // The folder is removed and created again.
        std::fs::remove_dir_all(&folder.0).unwrap();
        assert!(file.append(b"5\n").is_err());
        std::fs::create_dir_all(&folder.0).unwrap();
        file.append(b"5\n").unwrap();
        assert_eq!(folder.files(), "o 5;");
    }

    #[test]
    fn an_unfinished_line_is_cut_off() {
        let check = |before: &str, after: &str| {
            let folder = Folder::new();
            std::fs::write(folder.path(), before).unwrap();
            RotatedFile::new(folder.path(), 1000, 2).append(b"new\n").unwrap();
            assert_eq!(folder.files(), after);
        };
        check("", "o new;");
        check("1\n", "o 1;new;");
        check("1\n{\"half", "o 1;new;");
        check("{\"half", "o new;");
    }

    #[test]
    fn a_full_disk_leaves_no_piece_of_a_line() {
        // Every write to `/dev/full` fails: https://man7.org/linux/man-pages/man4/full.4.html
        let mut file = RotatedFile::new("/dev/full".into(), u64::MAX, 2);
        let error = file.append(b"1\n").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ENOSPC as i32));
    }
}
