//! Packs a moment into one file: a compressed archive without holes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::beneath::Beneath;
use crate::{Error, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::EntryType;

/// The ending of such a file's name.
const ENDING: &str = "tar.gz";
/// The folder inside the archive.
const WITHIN: &str = "moment";
/// Maximum number of files; a moment has fewer.
const FILES: usize = 100;
/// Maximum size of the headers between two files, in bytes. The headers of a sparse file list all its data ranges.
const HEADERS: u64 = 32 << 20;
/// Disk space that must stay free, in bytes.
const SPARE: u64 = 1 << 30;
/// gzip's magic number (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Returns `given` as the path of a packed moment, if it is one.
pub fn file(given: &str) -> Option<PathBuf> {
    let path = PathBuf::from(given);
    let mut mark = [0; 2];
    let is = path.is_file() && File::open(&path).ok()?.read_exact(&mut mark).is_ok() && mark == GZIP;
    is.then_some(path)
}

/// Returns the default file name of a packed moment: `SCENARIO-MACHINE.moment.tar.gz`, in the current folder.
pub fn name_for(moment: &Path) -> PathBuf {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scenario = moment.parent().map(name).unwrap_or_default();
    PathBuf::from(format!("{scenario}-{}.{ENDING}", name(moment)))
}

/// Packs the moment in `folder` into `file`. An existing file is not overwritten.
pub fn pack(folder: &Path, file: &Path) -> Result {
    let failed = |error: std::io::Error| Error::io(format_args!("write {}", file.display()), &error);
    let taken = |error| failed(error).next_step("name another file: --pack=FILE");
    // Packing takes minutes, so check before it and again after it.
    if file.symlink_metadata().is_ok() {
        return Err(taken(std::io::ErrorKind::AlreadyExists.into()));
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".moment-").tempfile_in(parent).map_err(failed)?;
    let compressed = GzEncoder::new(BufWriter::new(part.as_file()), Compression::fast());
    let mut archive = tar::Builder::new(compressed);
    archive.sparse(true);
    let append = || {
        let moment = Beneath::open(folder)?;
        archive.append_dir(WITHIN, folder)?;
        for name in moment.names(FILES)? {
            archive.append_file(Path::new(WITHIN).join(&name), &mut moment.file(&name)?.0)?;
        }
        archive.into_inner()?.finish()?.flush()
    };
    append().map_err(failed)?;
    part.persist_noclobber(file).map_err(|error| match error.error {
        error if error.kind() == std::io::ErrorKind::AlreadyExists => taken(error),
        error => failed(error),
    })?;
    Ok(())
}

/// Unpacks `file` below `place` and returns the moment's folder. The archive is not trusted: it can set only the
/// content of the moment's own files. Links, devices and paths that lead elsewhere are refused.
pub fn unpack(file: &Path, place: &Path) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Error::io(format_args!("unpack {}", file.display()), &error)
            .likely_cause("`nixvm-test attach --pack` did not make it, it is truncated, or the disk is full")
    };
    let moment = place.join(WITHIN);
    unpack_to(File::open(file).map_err(failed)?, &moment, free(place).map_err(failed)?).map_err(failed)?;
    Ok(moment)
}

/// Unpacks at most `most` bytes. Holes are not written.
fn unpack_to(file: File, moment: &Path, most: u64) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(moment)?;
    let left = Rc::new(Cell::new(HEADERS));
    let bytes = GzDecoder::new(BufReader::new(file));
    let mut archive = tar::Archive::new(Metered { bytes, left: Rc::clone(&left) });
    archive.set_preserve_mtime(false);
    let mut names = BTreeSet::new();
    let mut taken = 0u64;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let parts: Vec<_> = path.components().collect();
        let refused = |what: &str| {
            let path: String =
                path.to_string_lossy().chars().flat_map(char::escape_default).take(200).collect();
            io::Error::new(io::ErrorKind::InvalidData, format!("{path} in it is {what}"))
        };
        match (entry.header().entry_type(), parts.as_slice()) {
            (EntryType::Directory, [Component::Normal(folder)]) if *folder == WITHIN => continue,
            (
                EntryType::Regular | EntryType::GNUSparse,
                [Component::Normal(folder), Component::Normal(name)],
            ) if *folder == WITHIN => {
                if !names.insert(name.to_os_string()) {
                    return Err(refused("there twice"));
                }
                if names.len() > FILES {
                    return Err(refused("one of too many files"));
                }
                let size = entry.header().entry_size()?;
                taken = taken.saturating_add(size);
                if taken > most {
                    return Err(refused(&format!("too large: {taken} bytes, and {most} are free for it")));
                }
                left.set(size);
                let to = moment.join(name);
                entry.unpack(&to)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
            }
            (EntryType::Regular | EntryType::GNUSparse | EntryType::Directory, _) => {
                return Err(refused("not a file of a moment"));
            }
            _ => return Err(refused("not a regular file")),
        }
        left.set(HEADERS);
    }
    Ok(())
}

/// Returns how many bytes may be written in a folder.
fn free(place: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(place)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(SPARE))
}

/// A reader with a maximum number of bytes. A header that claims a large size then fills no memory, and a small archive
/// that unpacks to a large one fills no disk.
struct Metered<R> {
    bytes: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a header in it is too large"));
        }
        let read = self.bytes.read(&mut buffer[..most])?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_was_packed_is_unpacked_with_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let moment = folder.path().join("login/machine.moment");
        std::fs::create_dir_all(&moment).unwrap();
        std::fs::write(moment.join("moment.json"), "{}").unwrap();
        let disk = File::create(moment.join("image0")).unwrap();
        disk.set_len(64 << 20).unwrap();
        disk.write_all_at(b"in the middle", 30 << 20).unwrap();
        assert_eq!(name_for(&moment), Path::new("login-machine.moment.tar.gz"));
        let packed = folder.path().join("packed");
        pack(&moment, &packed).unwrap();
        let error = pack(&moment, &packed).unwrap_err().to_string();
        assert!(error.contains("next: name another file"), "nothing is overwritten: {error}");
        let error = pack(Path::new("/nowhere"), &packed).unwrap_err().to_string();
        assert!(error.contains("next: name another file"), "nor is anything read before: {error}");
        assert!(std::fs::metadata(&packed).unwrap().len() < 100_000);
        assert_eq!(file(packed.to_str().unwrap()).as_deref(), Some(packed.as_path()));
        assert_eq!(file(moment.join("moment.json").to_str().unwrap()), None);
        let elsewhere = tempfile::tempdir().unwrap();
        let unpacked = unpack(&packed, elsewhere.path()).unwrap();
        assert!(
            std::fs::read(unpacked.join("image0")).unwrap() == std::fs::read(moment.join("image0")).unwrap()
        );
        assert!(std::fs::metadata(unpacked.join("image0")).unwrap().blocks() * 512 < 1 << 20);
        std::fs::write(&packed, &std::fs::read(&packed).unwrap()[..60]).unwrap();
        assert!(unpack(&packed, &elsewhere.path().join("other")).is_err());
    }

    /// Creates an archive with one entry of this kind, name, content and link target.
    fn hostile(kind: EntryType, name: &str, content: &[u8], link: Option<&str>) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        // Written directly, since the library refuses such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_mode(0o6777);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn an_archive_from_elsewhere_makes_nothing_but_a_moments_files() {
        let long = vec![0; 100 << 20];
        for (what, archive) in [
            ("absolute", hostile(EntryType::Regular, "/tmp/nixvm-escaped", b"x", None)),
            ("upwards", hostile(EntryType::Regular, "moment/../../escaped", b"x", None)),
            ("beside", hostile(EntryType::Regular, "escaped", b"x", None)),
            ("deeper", hostile(EntryType::Regular, "moment/a/b", b"x", None)),
            ("symlink", hostile(EntryType::Symlink, "moment/image0", b"", Some("/etc/passwd"))),
            ("folder's symlink", hostile(EntryType::Symlink, "moment", b"", Some("/tmp"))),
            ("hard link", hostile(EntryType::Link, "moment/image0", b"", Some("/etc/passwd"))),
            ("device", hostile(EntryType::Block, "moment/image0", b"", None)),
            ("fifo", hostile(EntryType::Fifo, "moment/transcript", b"", None)),
            ("folder", hostile(EntryType::Directory, "elsewhere", b"", None)),
            ("long name", hostile(EntryType::GNULongName, "././@LongLink", &long, None)),
            ("extensions", hostile(EntryType::XHeader, "moment/x", &long, None)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let packed = folder.path().join("packed");
            fs::write(&packed, &archive).unwrap();
            let place = folder.path().join("place");
            fs::create_dir(&place).unwrap();
            let error = unpack(&packed, &place).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{what}");
            let left: Vec<_> = fs::read_dir(place.join("moment")).unwrap().flatten().collect();
            assert!(left.is_empty(), "{what}: {left:?}");
            let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
            assert_eq!(beside.len(), 2, "{what}: {beside:?}");
        }
        assert!(!Path::new("/tmp/nixvm-escaped").exists());
    }

    #[test]
    fn what_unpacks_to_more_than_there_is_room_for_is_refused_before_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let packed = folder.path().join("packed");
        fs::write(&packed, hostile(EntryType::Regular, "moment/state", &vec![0; 50 << 20], None)).unwrap();
        let moment = folder.path().join("moment");
        let error = unpack_to(File::open(&packed).unwrap(), &moment, 49 << 20).unwrap_err().to_string();
        assert!(error.contains("moment/state in it is too large"), "{error}");
        assert_eq!(fs::read_dir(&moment).unwrap().count(), 0);
        fs::remove_dir(&moment).unwrap();
        unpack_to(File::open(&packed).unwrap(), &moment, 50 << 20).unwrap();
        let state = fs::metadata(moment.join("state")).unwrap();
        assert_eq!((state.len(), state.mode() & 0o7777), (50 << 20, 0o600));
    }
}
