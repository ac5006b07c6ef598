//! Checks the space on disks and in memory.

use std::path::{Path, PathBuf};

use super::{Finding, State};
use crate::{Error, Result, cache, qemu, record};

const GIB: u64 = 1 << 30;

/// With less than this, in bytes, nothing works. With less than `enough`, the next large file fails.
const LEAST: u64 = GIB / 4;

/// Checks the disks that are written to.
pub(super) fn disks() -> [Finding; 4] {
    let runs = qemu::runs_folder().map(Path::to_owned);
    [
        // The first build of NixOS downloads some gigabytes.
        disk("disk for the Nix store", Ok("/nix/store".into()), 6 * GIB, "nix-collect-garbage"),
        // A template contains the memory of a machine. The cache may grow to 10 GiB.
        disk(
            "disk for the cache",
            cache::dir(),
            4 * GIB,
            "nixvm-test cache prune, or NIXVM_CACHE_DIR on another disk",
        ),
        disk(
            "disk for machines",
            runs,
            2 * GIB,
            "free some space, or set TMPDIR to a folder on another disk",
        ),
        // Machines that failed are kept, and the twenty newest records stay.
        disk(
            "disk for records",
            records(),
            GIB,
            "free some space, or set NIXVM_RUNS to a folder on another disk",
        ),
    ]
}

/// Returns the folder of the records, which is created if it is missing.
fn records() -> Result<PathBuf> {
    let folder = record::base()?;
    std::fs::create_dir_all(&folder).map_err(|error| {
        Error::io(format_args!("make the folder of records {}", folder.display()), &error)
            .next_step("set NIXVM_RUNS to a folder that you can write to")
    })?;
    Ok(folder)
}

fn disk(name: &'static str, folder: Result<PathBuf>, enough: u64, fix: &str) -> Finding {
    let folder = match folder {
        Ok(folder) => folder,
        // There is no folder, so more space would not help.
        Err(error) => {
            let fix = error.advice().1.unwrap_or(fix);
            return Finding::new(name, State::Missing, error.summary(), fix);
        }
    };
    // A missing folder will be created in the nearest existing one above it.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(about) => judge(name, &folder, about.f_bavail.saturating_mul(about.f_frsize), enough, fix),
        Err(error) => {
            let found = format!("{}: {error}", there.display());
            Finding::new(name, State::Warning, found, fix)
        }
    }
}

fn judge(name: &'static str, folder: &Path, free: u64, enough: u64, fix: &str) -> Finding {
    let found = format!("{} free for {}", gib(free), folder.display());
    match free {
        _ if free < LEAST => Finding::new(name, State::Missing, found, fix),
        _ if free < enough => {
            let found = format!("{found}; up to {} may be needed", gib(enough));
            Finding::new(name, State::Warning, found, fix)
        }
        _ => Finding::ok(name, found),
    }
}

/// Checks the memory for machines and the evaluation of NixOS.
pub(super) fn memory() -> Finding {
    // A machine has 1 GiB, and evaluating NixOS takes up to 2 GiB.
    const ENOUGH: u64 = 2 * GIB;
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(available) = available(&info) else { return Finding::ok("memory", "unknown") };
    let found = format!("{} available", gib(available));
    if available >= ENOUGH {
        return Finding::ok("memory", found);
    }
    let found = format!("{found}; evaluating NixOS takes up to {}, a machine 1 GiB and more", gib(ENOUGH));
    Finding::new("memory", State::Warning, found, "end other programs, or give the host more memory or swap")
}

/// Returns the number of bytes that programs can use, according to proc_meminfo(5).
fn available(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_missing_and_a_small_one_a_warning() {
        let state = |free| judge("disk", Path::new("/x"), free, 2 * GIB, "free some").state;
        assert_eq!(state(3 * GIB), State::Ok);
        assert_eq!(state(GIB), State::Warning);
        assert_eq!(state(GIB / 8), State::Missing);
        let finding = judge("disk", Path::new("/x"), GIB, 2 * GIB, "free some");
        assert!(finding.found.contains("1.0 GiB free for /x") && finding.fix.is_some(), "{finding:?}");
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available("MemTotal: 8 kB\nMemAvailable:    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(available("MemTotal: 8 kB\n"), None);
    }
}
