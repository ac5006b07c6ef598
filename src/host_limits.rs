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

/// Returns the limit behind a system error with this code, if there is one. The error is that of starting a process or a
/// thread: elsewhere the same codes mean other things, such as a read that would block.
pub(crate) fn behind(code: i32) -> Option<Limit> {
    match Errno::from_raw_os_error(code) {
        Errno::AGAIN => Some(processes()),
        Errno::NOMEM => Some(match getrlimit(Resource::As).current {
            Some(most) => memory(most, 'v'),
            None => Limit {
                cause: "the host has too little free memory".to_owned(),
                next: "end other programs, or run fewer machines at a time (--jobs)".to_owned(),
            },
        }),
        _ => of_files(code),
    }
}

/// Returns the limit of open files behind a system error with this code, if there is one.
pub(crate) fn of_files(code: i32) -> Option<Limit> {
    match Errno::from_raw_os_error(code) {
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
        _ => None,
    }
}

/// Words of a refused process or thread: those of the C library, of shells, and of programs in Rust.
const REFUSED: [&str; 2] = ["resource temporarily unavailable", "os error 11"];

/// Words near them, since the same code has other meanings.
const STARTS: [&str; 7] = ["fork", "thread", "clone", "process", "spawn", "exec", "what():"];

/// How many lines an error of another program may take.
pub(crate) const NEAR: usize = 4;

/// Returns the limit that another program says it has reached. It has the limits of this process.
pub(crate) fn in_words(said: &str) -> Option<Limit> {
    if refused_process(said).is_some() {
        return Some(processes());
    }
    let no_file = said.lines().map(str::to_ascii_lowercase).any(|line| {
        // KVM returns that code for a processor that it can't create.
        has(&line, &["too many open files"]) && !has(&line, &["kvm_"])
    });
    no_file.then(|| of_files(Errno::MFILE.raw_os_error())).flatten()
}

/// Returns the line in which another program says that it got no process or no thread, and the lines before it that belong
/// to the same error.
pub(crate) fn refused_process(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().collect();
    let lower: Vec<String> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
    let begin = |(at, line): (usize, &String)| {
        // "PROGRAM: Resource temporarily unavailable" says nothing of what it did, so it did the most common thing.
        let bare = line
            .split_once(": ")
            .is_some_and(|(_, rest)| REFUSED.iter().any(|words| rest.starts_with(words)));
        if bare || has(line, &["cannot fork", "can't fork"]) {
            return Some((at, at));
        }
        let near = at.saturating_sub(NEAR - 1)..=at;
        let starts = near.rev().find(|near| has(&lower[*near], &STARTS))?;
        (has(line, &REFUSED) && !has(line, &[" lock"])).then_some((starts, at))
    };
    let (begin, end) = lower.iter().enumerate().find_map(begin)?;
    Some(lines[begin..=end].join("\n"))
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn memory(most: u64, option: char) -> Limit {
    Limit {
        cause: format!("this process may have {} KiB of memory (`ulimit -{option}`)", most / 1024),
        next: format!("raise the limit: `ulimit -{option} unlimited`"),
    }
}

/// The memory that this program takes without a machine, in bytes.
pub(crate) const FOR_ITSELF: u64 = 32 << 20;

/// The memory that it takes for one more machine: most of it is the reserve of the allocator for each thread.
pub(crate) const FOR_A_MACHINE: u64 = 512 << 20;

/// Returns the limit that leaves this process less than `bytes` of memory. A refused allocation ends the process, so the
/// limit is looked at first.
pub(crate) fn lacks_memory(bytes: u64) -> Option<Limit> {
    let limits = [(Resource::As, "VmSize:", 'v'), (Resource::Data, "VmData:", 'd')];
    limits.into_iter().find_map(|(resource, name, option)| {
        let most = getrlimit(resource).current?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let taken = status.lines().find_map(|line| line.strip_prefix(name))?;
        let taken = taken.trim().trim_end_matches(" kB").parse::<u64>().ok()?.saturating_mul(1024);
        (most.saturating_sub(taken) < bytes).then(|| memory(most, option))
    })
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
        (None | Some(256..), Some(most)) => memory(most, 'v'),
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
        assert_eq!(of_files(Errno::AGAIN.raw_os_error()), None, "a read that would block");
        assert_eq!(of_files(Errno::NOMEM.raw_os_error()), None);
    }

    #[test]
    fn what_other_programs_say_of_a_refused_process_is_known_and_other_words_are_not() {
        for said in [
            "qemu: qemu_thread_create: Resource temporarily unavailable",
            "/nix/store/x/bin/run-nixos-vm: fork: retry: Resource temporarily unavailable",
            "run-nixos-vm: 12: Cannot fork",
            "virtiofsd: Resource temporarily unavailable (os error 11)",
            "error: unable to fork: Resource temporarily unavailable",
            "terminate called after throwing an instance of 'std::system_error'\n  what():  Resource temporarily unavailable",
            "error: could not execute process `rustc -vV` (never executed)\n\nCaused by:\n  Resource temporarily unavailable (os error 11)",
            "thread 'main' panicked at lib.rs:1:\nfailed to spawn helper thread: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }",
            "GLib-ERROR **: creating thread 'pool': Error creating thread: Resource temporarily unavailable",
        ] {
            assert!(in_words(&format!("a line\n{said}\nlast line")).is_some(), "{said}");
        }
        for said in [
            "rsync: read error: Resource temporarily unavailable (11)",
            "qemu-system-x86_64: Failed to lock byte 100: Resource temporarily unavailable",
            "error: the fork of the road",
            "qemu-kvm: kvm_init_vcpu: kvm_get_vcpu failed (0): Too many open files",
            "",
        ] {
            assert_eq!(in_words(said), None, "{said}");
        }
        let files = in_words("qemu-system-x86_64: Could not open 'disk': Too many open files").unwrap();
        assert!(files.cause.contains("ulimit -n"));
    }
}
