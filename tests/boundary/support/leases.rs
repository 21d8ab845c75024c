//! Which processes and folders belong to the browser sessions of an agent.

use std::collections::BTreeSet;
use std::path::Path;

/// The agents that have been in this folder: the names of their folders, which mark their processes.
pub fn leases(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Processes that carry one of these marks.
pub fn processes(leases: &[String]) -> usize {
    let marks: Vec<Vec<u8>> = leases.iter().map(|lease| format!("WACHTA_LEASE={lease}").into_bytes()).collect();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .filter(|environ| {
            environ.split(|&byte| byte == 0).any(|entry| marks.iter().any(|mark| entry.starts_with(mark)))
        })
        .count()
}

pub fn sessions(folder: &Path) -> usize {
    let agents = std::fs::read_dir(folder).into_iter().flatten().flatten();
    agents
        .flat_map(|agent| std::fs::read_dir(agent.path()).into_iter().flatten().flatten())
        .filter(|entry| entry.path().is_dir())
        .count()
}

/// Sends SIGKILL to those processes of a session whose command line has this in it; says whether there were any.
/// `chromium` is the browser's first process alone.
pub fn kill(lease: &str, victim: &str) -> bool {
    signal(lease, victim, nix::sys::signal::Signal::SIGKILL)
}

/// As [`kill`], with any signal. `firefox` is that browser's first process.
pub fn signal(lease: &str, victim: &str, signal: nix::sys::signal::Signal) -> bool {
    let struck = members(lease).into_iter().filter(|&pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = line.split(['\0', ' ']).next().unwrap_or_default();
        line.contains(victim)
            && (victim != "chromium" || (is_chromium(program) && !line.contains("--type=")))
            && (victim != "firefox" || (program.contains("firefox") && !line.contains("-contentproc")))
            && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
    });
    struck.count() > 0
}

/// Whether a program is Chromium or its headless shell, and not its driver.
fn is_chromium(program: &str) -> bool {
    ["/chromium", "/chromium-headless-shell"].iter().any(|name| program.ends_with(name))
}

/// The processes of a session. Children of the browser overwrite their environment: they are known by the group of
/// those that do not.
fn members(lease: &str) -> Vec<i32> {
    let mark = format!("WACHTA_LEASE={lease}").into_bytes();
    let group = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<(i32, i32)> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, group(pid)?)))
        .collect();
    let marked = |pid: i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|entry| entry == mark)
    };
    let groups: Vec<i32> = all.iter().filter(|(pid, _)| marked(*pid)).map(|&(_, group)| group).collect();
    all.into_iter().filter(|(_, group)| groups.contains(group)).map(|(pid, _)| pid).collect()
}

/// The sockets on which a session's processes listen. The kernel's numbers are not used again soon, as ports are.
pub fn listeners(lease: &str) -> BTreeSet<u64> {
    let held: BTreeSet<u64> = members(lease)
        .into_iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten())
        .filter_map(|fd| {
            let link = std::fs::read_link(fd.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect();
    listening().intersection(&held).copied().collect()
}

/// The sockets on which anybody listens (`/proc/net/tcp`, state 0A).
pub fn listening() -> BTreeSet<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields.get(9)?.parse().ok())?
        })
        .collect()
}

/// The leases of the sessions there are now.
pub fn session_leases(folder: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let of = |agent: String| names(&folder.join(&agent)).into_iter().map(move |session| format!("{agent}/{session}"));
    names(folder).into_iter().flat_map(of).collect()
}
