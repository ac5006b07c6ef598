//! Copies large files with holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Copies a file without its holes. If the file system can share the content, nothing is copied.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    copy_of(&File::open(from)?, to)
}

/// Does the same as [`copy`] for an open file.
pub(crate) fn copy_of(from: &File, to: &Path) -> io::Result<()> {
    contents(from, &File::create_new(to)?)
}

/// Does the same as [`copy`] for a target that may exist, and that keeps its inode.
pub(crate) fn over(from: &Path, to: &Path) -> io::Result<()> {
    contents(&File::open(from)?, &File::create(to)?)
}

/// Makes an empty file share the whole content of another one, which takes no time. Returns whether the file
/// system supports that.
pub(crate) fn share(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// Does the same as [`copy`] for two open files. The target is empty.
pub(crate) fn contents(from: &File, to: &File) -> io::Result<()> {
    if share(from, to) {
        return Ok(());
    }
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        let (mut read, mut written) = (start, start);
        while read < end {
            let rest = usize::try_from(end - read).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut read), to, Some(&mut written), rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // Another file system, or one that does not support it.
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                    by_hand(from, to, read..end)?;
                    break;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        at = end;
    }
    Ok(())
}

fn by_hand(from: &File, to: &File, part: Range<u64>) -> io::Result<()> {
    let mut chunk = vec![0; 1 << 20];
    let mut at = part.start;
    while at < part.end {
        let rest = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(chunk.len());
        from.read_exact_at(&mut chunk[..rest], at)?;
        to.write_all_at(&chunk[..rest], at)?;
        at += rest as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_there_is_copied_and_holes_stay_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 7] {
            file.write_all_at(b"content", at).unwrap();
        }
        copy(&from, &to).unwrap();
        // To another file system.
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        copy(&from, &shm.path().join("to")).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(shm.path().join("to")).unwrap());
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        assert!(copy(&from, &to).is_err(), "nothing is overwritten");
        std::fs::write(&to, [1; 4096]).unwrap();
        over(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    }
}
