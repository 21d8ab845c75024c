//! What processes have cost, read from Linux `/proc`.
//!
//! The benchmark is a subreaper: a browser's process whose parent has died becomes its child, so that no time is lost
//! with it. What has ended and was waited for stands in the `cutime` and `cstime` of the process that waited, so the
//! cost of a tree is the time of all that live in it and the waited-for time of each.

use std::collections::HashSet;
use std::fs;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// One process.
pub struct Process {
    /// Its id.
    pub pid: i32,
    parent: i32,
    zombie: bool,
    /// Its name.
    pub name: String,
    /// Its own CPU time, in milliseconds; ended threads included.
    pub own: f64,
    /// That of children it has waited for.
    pub ended: f64,
}

impl Process {
    /// Whether it belongs to the tool and not to the browser or its driver.
    pub fn is_tool(&self) -> bool {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        let program = program.file_name().unwrap_or_default().to_string_lossy();
        program.starts_with("python") || program == "node"
    }
}

/// All that are there.
pub fn all() -> Vec<Process> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let read = |pid: i32| -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc(5): "pid (name) state ppid …"; utime, stime, cutime and cstime are the fields 14 to 17.
        let (front, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ms = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) * 1000.0 / ticks;
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            zombie: fields.first() == Some(&"Z"),
            name: front.split_once('(')?.1.to_owned(),
            own: ms(11) + ms(12),
            ended: ms(13) + ms(14),
        })
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn me() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Children of this program by their names.
pub fn children(names: &[&str]) -> HashSet<i32> {
    let mine = all().into_iter().filter(|one| one.parent == me() && !one.zombie);
    mine.filter(|one| names.contains(&one.name.as_str())).map(|one| one.pid).collect()
}

/// Returns the lease in the environment of a process: the name of the folder of the agent that started it.
pub fn lease(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"WACHTA_LEASE="))?;
    Some(String::from_utf8_lossy(entry).into_owned())
}

/// Ends the browsers that a peer has left behind, as Selenium does when it ends the driver first: adopted processes
/// that are no driver and no program of a peer.
pub fn end_adopted() {
    let adopted = all().into_iter().filter(|one| one.parent == me() && !one.zombie && one.name.starts_with("chrom"));
    for one in adopted.filter(|one| one.name != "chromedriver") {
        let _ = nix::sys::signal::kill(Pid::from_raw(one.pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The processes of these trees, roots included.
pub fn trees(roots: &HashSet<i32>) -> Vec<Process> {
    let mut left = all();
    let mut known = roots.clone();
    let mut found = Vec::new();
    loop {
        let (inside, outside): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|one| known.contains(&one.pid) || known.contains(&one.parent));
        if inside.is_empty() {
            return found;
        }
        known.extend(inside.iter().map(|one| one.pid));
        found.extend(inside);
        left = outside;
    }
}

/// What has ended and was waited for by this program, in milliseconds.
pub fn ended() -> f64 {
    all().into_iter().find(|one| one.pid == me()).map_or(0.0, |one| one.ended)
}

/// Waits for adopted processes that have ended; those that were started here are waited for by who started them.
/// False while there are some.
pub fn reap() -> bool {
    let ours = |name: &str| name.starts_with("python") || ["chromedriver", "geckodriver", "wachta"].contains(&name);
    let mut none = true;
    for one in all().into_iter().filter(|one| one.parent == me() && one.zombie) {
        none = false;
        if !ours(&one.name) {
            let _ = waitpid(Pid::from_raw(one.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    none
}

/// The memory of processes, shared pages split among those who share them, in MiB.
pub fn pss(processes: &[Process]) -> f64 {
    let kib = |pid: i32| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    processes.iter().filter_map(|one| kib(one.pid)).sum::<f64>() / 1024.0
}

/// The memory of this program, in MiB.
pub fn own_pss() -> f64 {
    pss(&all().into_iter().filter(|one| one.pid == me()).collect::<Vec<_>>())
}

/// The CPU time of this program but for one thread of it, the shop's, in milliseconds.
pub fn own_cpu(shop: i32) -> f64 {
    use nix::time::{ClockId, clock_gettime};
    let all = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6);
    // The first number is the time on a processor, in nanoseconds.
    let text = fs::read_to_string(format!("/proc/self/task/{shop}/schedstat")).unwrap_or_default();
    let shop: f64 = text.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
    all - shop / 1e6
}
