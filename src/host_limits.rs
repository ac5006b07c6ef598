//! Limits of this host that may be behind an error of the system: processes, open files and memory.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

/// A limit that is behind an error of the system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Which limit it is, and its value.
    pub(crate) cause: String,
    /// How to raise it.
    pub(crate) next: String,
}

/// Returns the limit behind a system error with this code, if there is one.
pub(crate) fn behind(code: i32) -> Option<Limit> {
    match Errno::from_raw_os_error(code) {
        Errno::AGAIN => Some(processes()),
        Errno::MFILE => Some(Limit {
            cause: match getrlimit(Resource::Nofile).current {
                Some(most) => format!("this process may have {most} files open at once (`ulimit -n`)"),
                None => "this process has as many files open as it may (`ulimit -n`)".to_owned(),
            },
            next: "raise the limit: `ulimit -n 4096`".to_owned(),
        }),
        Errno::NFILE => Some(Limit {
            cause: "all processes of this host have as many files open as the kernel allows (fs.file-max)"
                .to_owned(),
            next: "end some of them, or raise the limit: `sysctl fs.file-max`".to_owned(),
        }),
        Errno::NOMEM => Some(match getrlimit(Resource::As).current {
            Some(most) => memory(most),
            None => Limit {
                cause: "the host has too little free memory".to_owned(),
                next: "end other programs, or run fewer machines at a time (--jobs)".to_owned(),
            },
        }),
        _ => None,
    }
}

fn memory(most: u64) -> Limit {
    Limit {
        cause: format!("this process may have {} KiB of memory (`ulimit -v`)", most / 1024),
        next: "raise the limit: `ulimit -v unlimited`".to_owned(),
    }
}

/// Checks that this process may open `count` more files, because some libraries panic if they can't open one.
///
/// # Errors
/// The error of opening one more.
pub(crate) fn check_files(count: usize) -> std::io::Result<()> {
    (0..count).map(|_| std::fs::File::open("/dev/null")).collect::<Result<Vec<_>, _>>().map(drop)
}

/// Returns why the system starts no process and no thread.
fn processes() -> Limit {
    if let Some((file, most)) = full_group() {
        return Limit {
            cause: format!(
                "this control group may have {most} processes and threads at once ({})",
                file.display()
            ),
            next: "raise the limit of the container or the service (`--pids-limit`, `TasksMax=`)".to_owned(),
        };
    }
    let threads = getrlimit(Resource::Nproc).current.filter(|_| !geteuid().is_root());
    match (threads, getrlimit(Resource::As).current) {
        // There is no memory for a thread's stack. A user who is far from the other limit has reached this
        // one.
        (None | Some(256..), Some(most)) => memory(most),
        (Some(most), _) => Limit {
            cause: format!("this user may have {most} processes and threads at once (`ulimit -u`)"),
            next: "end other programs of this user, or raise the limit: `ulimit -u 4096`".to_owned(),
        },
        (None, None) => Limit {
            cause: "the host has as many processes and threads as the kernel allows (kernel.threads-max, kernel.pid_max)"
                .to_owned(),
            next: "end some of them, or raise the limit".to_owned(),
        },
    }
}

/// Returns the control group of this process that has reached its limit of processes.
fn full_group() -> Option<(PathBuf, u64)> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let legacy = own.lines().find_map(|line| line.split_once(":pids:/").map(|(_, path)| path));
    let groups = [("/sys/fs/cgroup", unified), ("/sys/fs/cgroup/pids", legacy)];
    groups.into_iter().find_map(|(root, path)| {
        let number = |file: &Path| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let root = Path::new(root);
        let own = root.join(path?);
        own.ancestors().take_while(|group| group.starts_with(root)).find_map(|group| {
            let file = group.join("pids.max");
            let most = number(&file)?;
            (number(&group.join("pids.current"))? >= most).then_some((file, most))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_about_a_limit_names_it_and_another_error_names_none() {
        let files = behind(Errno::MFILE.raw_os_error()).unwrap();
        let most = getrlimit(Resource::Nofile).current.unwrap();
        assert!(files.cause.contains(&format!("{most} files open")) && files.cause.contains("ulimit -n"));
        for code in [Errno::AGAIN, Errno::NFILE, Errno::NOMEM] {
            assert!(behind(code.raw_os_error()).is_some(), "{code}");
        }
        assert_eq!(behind(Errno::NOENT.raw_os_error()), None);
    }
}
