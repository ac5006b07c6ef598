//! Finds the processes of a run by a mark in their environment.
//!
//! A process group includes what the run script starts in the background, but not a helper that becomes a
//! daemon (`swtpm --daemon` starts a new session, hence a new group). Its environment still shows where it
//! came from. Jenkins ends the processes of a build in the same way.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The variable that every process of a run has in its environment.
pub(super) const MARK: &str = "NIXVM_RUN";

/// Returns the living processes whose environment holds the mark `run`.
pub(super) fn marked(run: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={run}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // The file is unreadable for other users' processes, and empty for a zombie.
            let environment = fs::read(entry.path().join("environ")).ok()?;
            environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()).then_some(pid)
        })
        .collect()
}

/// Kills the processes with the mark `run`, except `spare`. Returns whether there were any.
pub(super) fn kill_marked(run: &str, spare: Option<Pid>) -> bool {
    let mut found = false;
    for pid in marked(run) {
        if Some(pid) != spare {
            found = true;
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    found
}

/// Whether a process group has a process that is not a zombie. A signal to the group can't tell, because it
/// also succeeds for zombies, and another process may have to reap them.
pub(super) fn group_lives(group: Pid) -> bool {
    let group = group.as_raw_pid().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "PID (NAME) STATE PPID PGRP …". The name may contain any character.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let state = fields.next();
        fields.nth(1) == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
    })
}

/// Returns how much CPU time a process has used, or `None` if it is gone.
pub(super) fn time_of_process(pid: u32) -> Option<Duration> {
    time_in(&format!("/proc/{pid}/stat"))
}

/// Returns how much CPU time a thread of a process has used.
pub(super) fn time_of_thread(pid: u32, thread: u64) -> Option<Duration> {
    time_in(&format!("/proc/{pid}/task/{thread}/stat"))
}

/// Returns how long one of its threads has run or waited for a processor, or `None` if the host's kernel does
/// not count that.
pub(super) fn wanted_by_thread(pid: u32, thread: u64) -> Option<Duration> {
    let counts = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
    let mut counts = counts.split_whitespace().map_while(|count| count.parse::<u64>().ok());
    Some(Duration::from_nanos(counts.next()?.saturating_add(counts.next()?)))
}

fn time_in(stat: &str) -> Option<Duration> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name in parentheses may contain blanks. utime and stime are the 12th and 13th fields after it
    // (proc(5)).
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_group_lives_until_its_last_member_is_dead_reaped_or_not() {
        use std::os::unix::process::CommandExt;
        let mut leader = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let group = Pid::from_child(&leader);
        let mut member = Command::new("sleep").arg("1000").process_group(leader.id() as i32).spawn().unwrap();
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert!(group_lives(group));
        member.kill().unwrap();
        let until = std::time::Instant::now() + crate::hang::HANG;
        while group_lives(group) {
            assert!(std::time::Instant::now() < until, "a zombie does not count");
            std::thread::yield_now();
        }
        member.wait().unwrap();
    }

    #[test]
    fn a_marked_process_is_found_and_only_the_marked_one() {
        // This test may run several times at once on a host.
        let mark = format!("test-{}.1", std::process::id());
        let mut ours = Command::new("sleep").arg("1000").env(MARK, &mark).spawn().unwrap();
        let mut other = Command::new("sleep").arg("1000").env(MARK, format!("{mark}2")).spawn().unwrap();
        let found = marked(&mark);
        assert!(kill_marked(&mark, None));
        assert_eq!(ours.wait().unwrap().code(), None);
        assert_eq!(found.iter().map(|pid| pid.as_raw_pid()).collect::<Vec<_>>(), [ours.id() as i32]);
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
