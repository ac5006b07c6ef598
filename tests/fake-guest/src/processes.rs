//! What runs in the guest, and its end.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Kills everything that descends from this process, whatever session or group it made for itself. This process is a
/// child subreaper, so that nothing below it ever stops being its descendant.
pub fn kill_descendants() {
    // A process may fork while the list is read: again, until the list is empty.
    for _ in 0..50 {
        let mine = descendants();
        for pid in &mine {
            let _ = kill_process(*pid, Signal::KILL);
        }
        reap();
        if mine.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Buries orphans that have ended.
pub fn reap() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}

fn descendants() -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut parents: Vec<(i32, i32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut family = vec![rustix::process::getpid().as_raw_nonzero().get()];
    let mut found = Vec::new();
    while let Some(father) = family.pop() {
        parents.retain(|(pid, parent)| {
            if *parent == father {
                family.push(*pid);
                found.extend(Pid::from_raw(*pid));
            }
            *parent != father
        });
    }
    found
}

/// The parent in /proc/PID/stat: the second field after the name, which stands in parentheses and may hold any.
/// A zombie is nobody's business any more.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}
