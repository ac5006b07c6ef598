//! What this host has, and what other users and programs leave of it at this moment.

use std::fs;
use std::path::Path;

/// How much memory this process may use, and how much of it is available now, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) available: u64,
}

impl Memory {
    /// Reads /proc/meminfo, and the limits of this process's control groups if they allow less.
    pub(super) fn look() -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let host = of_meminfo(&text).unwrap_or_else(|| {
            let found = rustix::system::sysinfo();
            let mebibytes = |units: u64| u64::from(found.mem_unit).saturating_mul(units) >> 20;
            Self { total: mebibytes(found.totalram), available: mebibytes(found.freeram) }
        });
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limit = of_groups(Path::new("/sys/fs/cgroup"), &own);
        limit.map_or(host, |limit| Self {
            total: host.total.min(limit.total),
            available: host.available.min(limit.available),
        })
    }
}

fn of_meminfo(text: &str) -> Option<Memory> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
    };
    Some(Memory { total: of("MemTotal:")?, available: of("MemAvailable:")? })
}

/// Returns the smallest limit of the control groups (version 2) of this process, from its own group up to
/// `root`. `own` is the text of /proc/self/cgroup.
fn of_groups(root: &Path, own: &str) -> Option<Memory> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // The path of a process outside of its namespace's root contains `..`.
    let path = if path.split('/').any(|part| part == "..") { "" } else { path };
    let group = root.join(path);
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(of_group).reduce(|one, other| Memory {
        total: one.total.min(other.total),
        available: one.available.min(other.available),
    })
}

fn of_group(group: &Path) -> Option<Memory> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let most = number("memory.max")?;
    let taken = number("memory.current").unwrap_or(0);
    // The kernel frees the file cache when memory is needed.
    let details = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache: u64 = details
        .lines()
        .filter_map(|line| line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("active_file ")))
        .filter_map(|number| number.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    let available = most.saturating_sub(taken.saturating_sub(cache));
    Some(Memory { total: most >> 20, available: available >> 20 })
}

/// How many tasks ran or waited for a processor in the last minute, and how many processors the host has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) average: f64,
    pub(super) processors: u64,
}

impl Load {
    /// Returns the load of the whole host, even if this process may use only some of its processors. Returns
    /// `None` if /proc does not show it.
    pub(super) fn look() -> Option<Self> {
        let average = fs::read_to_string("/proc/loadavg").ok()?;
        let counted = fs::read_to_string("/proc/stat").ok()?;
        of_proc(&average, &counted)
    }
}

fn of_proc(average: &str, counted: &str) -> Option<Load> {
    let average =
        average.split_ascii_whitespace().next()?.parse::<f64>().ok().filter(|its| its.is_finite())?;
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    let processors = counted.lines().filter(is_one).count() as u64;
    (processors > 0).then_some(Load { average, processors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_memory_and_says_how_much_is_available() {
        let memory = Memory::look();
        assert!(memory.total > 100 && memory.available <= memory.total, "{memory:?}");
        let load = Load::look().unwrap();
        assert!(load.processors > 0 && load.average >= 0.0, "{load:?}");
    }

    #[test]
    fn what_proc_says_is_read() {
        let text = "MemTotal:       24576000 kB\nMemFree:          100 kB\nMemAvailable:   12288000 kB\n";
        assert_eq!(of_meminfo(text), Some(Memory { total: 24000, available: 12000 }));
        assert_eq!(of_meminfo("MemTotal: 24576000 kB"), None);
        let stat = "cpu  1 2 3\ncpu0 1 2\ncpu1 1 2\nintr 5\ncpufreq 1";
        let load = of_proc("3.50 1.70 1.25 1/123 4711\n", stat).unwrap();
        assert_eq!(load, Load { average: 3.5, processors: 2 });
        for (average, stat) in [("", stat), ("nan 1", stat), ("x", stat), ("1.0", "")] {
            assert_eq!(of_proc(average, stat), None, "{average} {stat}");
        }
    }

    #[test]
    fn the_narrowest_group_that_this_process_is_in_is_the_limit() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(of_groups(root.path(), "0::/a/b\n"), None);
        put("a/memory.max", "1073741824\n");
        put("a/memory.current", "536870912\n");
        put("a/memory.stat", "anon 5\ninactive_file 104857600\nactive_file 104857600\nfile 9\n");
        put("a/b/memory.max", "max\n");
        put("c/memory.max", "1048576\n");
        let limit = Some(Memory { total: 1024, available: 712 });
        assert_eq!(of_groups(root.path(), "0::/a/b\n"), limit);
        assert_eq!(of_groups(root.path(), "12:memory:/c\n0::/a/b/gone\n"), limit);
        assert_eq!(of_groups(root.path(), "0::/../c\n"), None);
        // In a container the root of the namespace has the files.
        put("memory.max", "2147483648\n");
        assert_eq!(of_groups(root.path(), "0::/\n"), Some(Memory { total: 2048, available: 2048 }));
        assert_eq!(of_groups(root.path(), "0::/a/b\n"), limit);
    }
}
