//! Where the memory of templates is written, and how fast that is.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{MemfdFlags, memfd_create, statfs};

/// How much is written, in MiB.
const WRITTEN: usize = 128;

/// The names of file systems by the kernel's numbers (linux/magic.h).
const NAMES: [(u64, &str); 11] = [
    (0x0102_1994, "tmpfs"),
    (0xef53, "ext4"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x5846_5342, "xfs"),
    (0x6969, "nfs"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x794c_7630, "overlayfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
];

/// File systems that are on a network or served by a process, which are the slowest for memory.
const FAR: [&str; 3] = ["nfs", "9p", "fuse"];

/// The finding about a folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) line: String,
    /// The problem, if there is one.
    pub(super) trouble: Option<String>,
}

/// Examines the file system of a folder, and measures writes to it and to memory.
///
/// # Errors
/// The errors of these writes.
pub(super) fn look(folder: &Path) -> io::Result<Found> {
    let found = statfs(folder)?;
    let magic = found.f_type as u64 & 0xffff_ffff;
    let name = NAMES.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name);
    let name = name.map_or_else(|| format!("a file system of number {magic:#x}"), str::to_owned);
    let free = (found.f_bavail as u64).saturating_mul(found.f_bsize as u64) >> 20;
    let here = tempfile::NamedTempFile::new_in(folder)?;
    let in_file = written(here.as_file())?;
    let memory = File::from(memfd_create("nixvm-doctor", MemfdFlags::CLOEXEC)?);
    let in_memory = written(&memory)?;
    let clone = tempfile::NamedTempFile::new_in(folder)?;
    let shares = rustix::fs::ioctl_ficlone(clone.as_file(), here.as_file()).is_ok();
    let shares = if shares { "files share their content" } else { "files are copied" };
    let ratio = std::fs::read_to_string("/proc/sys/vm/dirty_ratio").unwrap_or_default();
    let line = format!(
        "{name} at {}, {free} MiB free, {shares}; {in_file:.0} MB/s written there, {in_memory:.0} MB/s to memory; \
         vm.dirty_ratio {}",
        folder.display(),
        ratio.trim()
    );
    let is_far = FAR.contains(&name.as_str());
    let trouble = is_far.then(|| format!("{name} is slow for the memory of machines"));
    Ok(Found { line, trouble })
}

/// Returns the speed in MB per second.
fn written(mut file: &File) -> io::Result<f64> {
    let chunk = vec![1; 1 << 20];
    let begun = Instant::now();
    (0..WRITTEN).try_for_each(|_| file.write_all(&chunk))?;
    Ok((WRITTEN << 20) as f64 / 1e6 / begun.elapsed().as_secs_f64().max(1e-6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_named() {
        let found = look(Path::new("/dev/shm")).unwrap();
        assert!(found.line.starts_with("tmpfs at /dev/shm, ") && found.trouble.is_none(), "{found:?}");
        assert!(look(Path::new("/no/such/folder")).is_err());
    }
}
