//! Which processes belong to a session, and their end. Linux `/proc`; Chromium has no other place to ask.
//!
//! Invariant: nothing is killed that does not carry the lease of the folder it is killed for. A process group whose
//! number was given to somebody else in the meantime has no member with that lease.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The variable of the environment that marks what belongs to an agent's sessions.
pub(super) const LEASE: &str = "WACHTA_LEASE";

/// Process groups in which at least one process carries this lease. Chromium's children overwrite their environment,
/// so only the driver and the browser's first process can be known by it; the group has them all.
pub(super) fn groups_with_lease(lease: &str) -> Vec<i32> {
    let mark = format!("{LEASE}={lease}");
    let mut groups: Vec<i32> = processes()
        .filter(|&(pid, _)| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()))
        })
        .map(|(_, group)| group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Whether a process group still has a member that runs; those that are dead and not yet waited for do not count.
pub(super) fn group_runs(group: i32) -> bool {
    processes().any(|(_, of)| of == group)
}

/// Ends a whole group at once. That it is gone already is no error.
pub(super) fn kill_group(group: i32) {
    // Group 0 would be our own, and 1 and below mean other things to the system call.
    if group > 1 {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Removes a session's folder. A dying process may still write there, so it may have to be asked again.
pub(super) fn remove_folder(folder: &Path) -> bool {
    match fs::remove_dir_all(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Running processes with their groups.
fn processes() -> impl Iterator<Item = (i32, i32)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid: i32 = std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc(5): "pid (name) state ppid pgrp …"; the name may hold anything, so the fields begin after its last ")".
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let group: i32 = fields.nth(1)?.parse().ok()?;
        (state != "Z" && state != "X").then_some((pid, group))
    })
}
