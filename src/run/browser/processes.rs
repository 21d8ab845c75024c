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

/// Process groups with a process that carries this lease: an agent's, or one session's (`agent/session`); with the
/// lease that each carries. Chromium's children overwrite their environment, so only the driver, the browser's first
/// process and its crash handlers can be known by it: the handlers leave the driver's group, the others are in it.
pub(super) fn groups_with_lease(lease: &str) -> Vec<(i32, String)> {
    let mark = format!("{LEASE}={lease}").into_bytes();
    let mut groups: Vec<(i32, String)> = processes()
        .filter_map(|(pid, group)| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let entry = environ.split(|&byte| byte == 0).find(|entry| {
                entry.strip_prefix(mark.as_slice()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            })?;
            Some((group, String::from_utf8_lossy(&entry[LEASE.len() + 1..]).into_owned()))
        })
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Ends every group that carries this lease. Returns how many sessions that were.
pub(super) fn kill_lease(lease: &str) -> usize {
    let groups = groups_with_lease(lease);
    for (group, _) in &groups {
        kill_group(*group);
    }
    let mut leases: Vec<String> = groups.into_iter().map(|(_, lease)| lease).collect();
    leases.sort_unstable();
    leases.dedup();
    leases.len()
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
