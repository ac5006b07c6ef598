//! The files that a running QEMU has open or mapped.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{List, Unlisted};

/// What the kernel appends to the name of a deleted file.
const DELETED: &str = " (deleted)";

/// Devices that store nothing, or give the same to every process: random bytes, a terminal, the processor.
const HARMLESS: [&str; 10] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/kvm",
    "/dev/userfaultfd",
    "/dev/pts/",
];

/// Memory of the process itself, under names that are not files.
const MEMORY: [&str; 5] = ["/memfd:", "/dev/zero", "/SYSV", "/[aio]", "/anon_hugepage"];

/// Adds the program, its mapped files and its open files.
pub(super) fn of_process(pid: u32, list: &mut List<'_>) -> Result<(), Unlisted> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let unreadable =
        |error: io::Error| Unlisted::Never(format!("what QEMU has open can't be listed: {error}"));
    let program = fs::read_link(proc.join("exe")).map_err(unreadable)?;
    of_path(&program, list)?;
    let maps = fs::read(proc.join("maps")).map_err(unreadable)?;
    for line in maps.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        // The fields are address, permissions, offset, device and inode; the path follows after blanks.
        let mut fields = line.splitn(6, ' ');
        let (Some(permissions), Some(path)) = (fields.nth(1), fields.nth(3)) else { continue };
        let path = path.trim_start();
        if !path.starts_with('/') || MEMORY.iter().any(|its| path.starts_with(its)) {
            continue;
        }
        let path = Path::new(path);
        of_path(path, list)?;
        if permissions.contains('w') && permissions.ends_with('s') {
            check_not_written(path, list)?;
        }
    }
    for entry in fs::read_dir(proc.join("fd")).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A descriptor may be closed in the meantime.
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        // socket:[1], pipe:[1] and anon_inode:… are not files. The command shows what is at their other ends.
        let memory = path.to_str().is_some_and(|path| MEMORY.iter().any(|its| path.starts_with(its)));
        if !path.starts_with("/") || memory {
            continue;
        }
        of_path(&path, list)?;
        let details = fs::read_to_string(proc.join("fdinfo").join(entry.file_name())).unwrap_or_default();
        let flags = details.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or_default();
        if flags & (writing()) != 0 {
            check_not_written(&path, list)?;
        }
        // The name must still lead to the open file.
        if let (Ok(open), Ok(named)) = (fs::metadata(entry.path()), fs::metadata(&path))
            && open.is_file()
            && open.ino() != named.ino()
        {
            return Err(Unlisted::Changed(path));
        }
    }
    Ok(())
}

/// Returns the flags of open(2) that let a descriptor be written to: `O_WRONLY` and `O_RDWR`.
fn writing() -> u32 {
    (rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::RDWR).bits()
}

/// Adds a path according to the type of its file.
pub(super) fn of_path(path: &Path, list: &mut List<'_>) -> Result<(), Unlisted> {
    let never = |what: &str| Err(Unlisted::Never(format!("it uses {what} ({})", path.display())));
    if let Some(gone) = path.to_str().and_then(|text| text.strip_suffix(DELETED))
        && !path.exists()
    {
        let gone = Path::new(gone);
        // A deleted file of the machine, or named memory, holds what the guest wrote, and ends with QEMU.
        return match list.own.has(gone) || gone.starts_with("/dev") {
            true => Err(Unlisted::Never(format!("it uses a file that is deleted ({})", gone.display()))),
            false => Err(Unlisted::Changed(gone.to_owned())),
        };
    }
    if list.is_settled(path) {
        return Ok(());
    }
    let Ok(found) = fs::metadata(path) else { return list.add(path) };
    let kind = found.file_type();
    if kind.is_file() {
        return list.add(path);
    }
    if kind.is_dir() {
        return never("a folder of this host");
    }
    if kind.is_fifo() {
        return never("a FIFO, whose other end is another process");
    }
    let harmless = |its: &str| path == Path::new(its) || (its.ends_with('/') && path.starts_with(its));
    if (kind.is_char_device() && HARMLESS.iter().any(|its| harmless(its))) || kind.is_socket() {
        return Ok(());
    }
    never("a device of this host")
}

/// Refuses a file that QEMU can write to, because two clones would write to the same file.
fn check_not_written(path: &Path, list: &List<'_>) -> Result<(), Unlisted> {
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    match is_file && !list.is_settled(path) {
        true => Err(Unlisted::Never(format!("it writes to a file outside of its run: {}", path.display()))),
        false => Ok(()),
    }
}
