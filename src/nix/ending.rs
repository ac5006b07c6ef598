//! Ends Nix with all its builders, so that a build leaves no process and no folder in TMPDIR.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::mutex::lock;

/// Time for Nix to remove the folders of failed builds and to exit.
const GRACE: Duration = Duration::from_secs(3);

/// Every Nix process that this process started and has not waited for.
static UNDER_WAY: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// A process, identified so that a later process with the same pid is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    /// Start time in clock ticks since the host's boot.
    start: u64,
}

impl Process {
    /// Registers the Nix process `pid`, which leads a process group. [`end_all`] ends it, until it is forgotten.
    pub(super) fn under_way(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let nix = Self { pid, start: Stat::read(pid)?.start };
        lock(&UNDER_WAY).push(nix);
        Some(nix)
    }

    /// Removes the process from the list, after it has exited.
    pub(super) fn forget(self) {
        lock(&UNDER_WAY).retain(|known| *known != self);
    }

    /// Ends the process with its builders, if it is still running; takes at most three times [`GRACE`].
    pub(super) fn end(self) {
        let Some(group) = Pid::from_raw(self.pid) else { return };
        // Nix cleans up after a failed build, but not after an interrupted one, whose folder would stay in TMPDIR.
        if self.end_builders() && self.has_ended_by(soon()) {
            return;
        }
        for signal in [Signal::TERM, Signal::KILL] {
            if self.runs() {
                let _ = kill_process_group(group, signal);
                self.has_ended_by(soon());
            }
            self.end_builders();
        }
    }

    /// Kills all descendants; returns `false` if there are none. Builders run in their own sessions, so neither a
    /// process group nor a session contains all of them.
    fn end_builders(self) -> bool {
        let mut builders: Vec<Self> = Vec::new();
        // A stopped process starts no further ones.
        loop {
            let more: Vec<_> = descendants(self).into_iter().filter(|one| !builders.contains(one)).collect();
            if more.is_empty() {
                break;
            }
            more.iter().for_each(|one| one.tell(Signal::STOP));
            builders.extend(more);
        }
        builders.iter().for_each(|one| one.tell(Signal::KILL));
        let soon = soon();
        for builder in &builders {
            builder.has_ended_by(soon);
        }
        !builders.is_empty()
    }

    fn tell(self, signal: Signal) {
        if self.runs()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn has_ended_by(self, until: Instant) -> bool {
        while self.runs() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn runs(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && !stat.is_dead)
    }
}

fn soon() -> Instant {
    Instant::now() + GRACE
}

/// Ends every Nix that this process started. Called before the process itself ends by a signal.
pub(crate) fn end_all() {
    let all = lock(&UNDER_WAY).clone();
    std::thread::scope(|scope| {
        for nix in &all {
            // If the host has no thread left, end them one after the other.
            if std::thread::Builder::new().spawn_scoped(scope, || nix.end()).is_err() {
                nix.end();
            }
        }
    });
}

/// The fields of /proc/PID/stat: proc_pid_stat(5).
struct Stat {
    parent: i32,
    start: u64,
    /// The process has exited but was not waited for.
    is_dead: bool,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses that may contain any character.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, start, is_dead })
    }
}

/// Returns the descendants of `ancestor`; none if it has exited, since another process may have its pid by then.
fn descendants(ancestor: Process) -> Vec<Process> {
    if !ancestor.runs() {
        return Vec::new();
    }
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, Stat::read(pid)?))) {
            children.entry(stat.parent).or_default().push(Process { pid, start: stat.start });
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![ancestor.pid]);
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).into_iter().flatten() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}
