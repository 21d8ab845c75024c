//! Finds the processes of a session and ends them, using Linux `/proc`, which is the only source for Chromium.
//!
//! Invariant: a process is only killed if it carries the lease of the folder it is killed for. A process group whose
//! number was reused in the meantime has no member with that lease.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Environment variable that marks the processes of an agent's sessions.
pub(super) const LEASE: &str = "WACHTA_LEASE";

/// Returns the process groups with a process that carries this lease, of an agent or of one session (`agent/session`),
/// with the lease of each. Chromium's children overwrite their environment, so only the driver, the browser's first
/// process and its crash handlers can be identified; the handlers leave the driver's group, the others belong to it.
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

/// Kills every group that carries this lease. Returns the number of sessions.
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

/// Returns whether a process group still has a running member. Dead processes that were not awaited do not count.
pub(super) fn group_runs(group: i32) -> bool {
    processes().any(|(_, of)| of == group)
}

/// Returns a member of a group that is stopped by a signal or debugger, so that it neither works nor dies.
pub(super) fn stopped_member(group: i32) -> Option<i32> {
    members().find(|(_, of, state)| *of == group && matches!(state, 'T' | 't')).map(|(pid, ..)| pid)
}

/// Interval between checks for signs of life.
const LIFE_INTERVAL: Duration = Duration::from_millis(250);

/// Awaits an operation of a process group for at most `limit`. Gives up when the group has used no processor time for
/// `still`. On a busy machine a browser takes many times as long to start as on an idle one, but it uses processor time
/// all along.
pub(super) async fn while_alive<T>(
    group: i32,
    limit: Duration,
    still: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let end = Instant::now() + limit;
    let (mut used, mut moved_at) = (processor_time(group), Instant::now());
    let mut work = std::pin::pin!(work);
    loop {
        let look = (Instant::now() + LIFE_INTERVAL).min(end);
        tokio::select! {
            biased;
            done = work.as_mut() => return Some(done),
            () = tokio::time::sleep_until(look) => {}
        }
        let (now, before) = (Instant::now(), std::mem::replace(&mut used, processor_time(group)));
        if used != before {
            moved_at = now;
        }
        if now >= end || now.duration_since(moved_at) >= still {
            return None;
        }
    }
}

/// Returns the processor time that the members of a group have used, in kernel ticks.
fn processor_time(group: i32) -> u64 {
    processes().filter(|(_, of)| *of == group).filter_map(|(pid, _)| ticks(pid)).sum()
}

/// Reads utime and stime, fields 14 and 15 of stat (proc(5)). The name before them may contain spaces.
fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Number of memory checks of a group after which the membership of every process is determined again.
const ALL_ANEW: u32 = 20;

/// Repeatedly measures the memory of a process group. Processes of other groups are only checked occasionally, in case
/// their number was reused.
#[derive(Debug)]
pub(super) struct Memory {
    group: i32,
    others: HashSet<i32>,
    looks: u32,
}

impl Memory {
    /// Creates the measurement for a group.
    pub(super) fn of(group: i32) -> Self {
        Self { group, others: HashSet::new(), looks: 0 }
    }

    /// Returns the private memory of the group's members in bytes: resident and not shared. For scripts of pages, this
    /// is what they allocate.
    pub(super) fn bytes(&mut self) -> u64 {
        if self.looks.is_multiple_of(ALL_ANEW) {
            self.others.clear();
        }
        self.looks = self.looks.wrapping_add(1);
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        let mut pages = 0_u64;
        for pid in numbers() {
            if self.others.contains(&pid) {
                continue;
            }
            let Some((group, _)) = state(pid) else { continue };
            if group == self.group {
                pages = pages.saturating_add(private_pages(pid).unwrap_or(0));
            } else {
                self.others.insert(pid);
            }
        }
        pages.saturating_mul(u64::try_from(page).unwrap_or(4096))
    }
}

/// Reads size, resident and shared from statm (proc(5)), in pages.
fn private_pages(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

/// Returns the percentage of the last ten seconds during which a process of this machine waited for a processor. `None`
/// if the kernel does not provide it (`/proc/pressure/cpu`).
pub(super) fn processor_pressure() -> Option<f64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_whitespace().find_map(|part| part.strip_prefix("avg10=")?.parse().ok())
}

/// Returns how many processes the kernel has killed for lack of memory, on this machine and in the agent's control
/// group.
pub fn out_of_memory_kills() -> u64 {
    let field = |path: &str, name: &str| -> u64 {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    };
    field("/proc/vmstat", "oom_kill ").saturating_add(field("/sys/fs/cgroup/memory.events", "oom_kill "))
}

/// Returns the available memory in bytes: of the machine, or of the agent's control group if that is less.
pub(super) fn free_memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib * 1024);
    let number = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let group = match (number("memory.max"), number("memory.current")) {
        // The page cache of the control group is released on demand.
        (Some(most), Some(now)) => {
            let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
            let files =
                stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok()).unwrap_or(0);
            most.saturating_sub(now).saturating_add(files)
        }
        _ => u64::MAX,
    };
    machine.min(group)
}

/// Kills a whole group at once. It is not an error if the group is already gone.
pub(super) fn kill_group(group: i32) {
    // Group 0 would be that of the agent, and 1 and below have other meanings for the system call.
    if group > 1 {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Removes a session's folder. A dying process may still write to it, so the removal may have to be repeated.
pub(super) fn remove_folder(folder: &Path) -> bool {
    match fs::remove_dir_all(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Returns the running processes with their groups.
fn processes() -> impl Iterator<Item = (i32, i32)> {
    members().map(|(pid, group, _)| (pid, group))
}

/// Returns the running processes with their groups and states.
fn members() -> impl Iterator<Item = (i32, i32, char)> {
    numbers().filter_map(|pid| state(pid).map(|(group, state)| (pid, group, state)))
}

/// Returns the numbers of all processes.
fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok())
}

/// Returns the group and the state of a running process.
fn state(pid: i32) -> Option<(i32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): "pid (name) state ppid pgrp …". The name may contain any character, so the fields are read after its
    // last ")".
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let group: i32 = fields.nth(1)?.parse().ok()?;
    (state != 'Z' && state != 'X').then_some((group, state))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// A process in a group of its own, killed at the end of the test.
    struct Group(std::process::Child);

    impl Group {
        fn of(script: &str) -> Self {
            let mut command = Command::new("sh");
            Self(command.args(["-c", script]).process_group(0).stdout(Stdio::null()).spawn().unwrap())
        }

        fn number(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            kill_group(self.number());
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn what_is_at_work_is_waited_for_and_what_is_not_is_given_up() {
        let (long, still) = (Duration::from_secs(60), Duration::from_secs(2));
        let never = std::future::pending::<()>;
        let busy = Group::of("while :; do :; done");
        let began = Instant::now();
        // Twice as long as a process without a sign of life is allowed.
        assert_eq!(while_alive(busy.number(), still * 2, still, never()).await, None);
        assert!(began.elapsed() >= still * 2, "{:?}", began.elapsed());
        let idle = Group::of("exec sleep 600");
        let began = Instant::now();
        assert_eq!(while_alive(idle.number(), long, still, never()).await, None);
        assert!(began.elapsed() < long, "{:?}", began.elapsed());
        assert_eq!(while_alive(idle.number(), long, still, async { 7 }).await, Some(7));
    }
}
