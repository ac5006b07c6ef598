//! A moment in one file: a compressed archive, holes left out.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nixvm_test::{Error, ErrorKind, Result};

/// What such a file's name ends with.
const ENDING: &str = "tar.gz";
/// The folder within it.
const WITHIN: &str = "moment";
/// gzip's own mark (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// `given` as the path of a packed moment, if it is one.
pub fn file(given: &str) -> Option<PathBuf> {
    let path = PathBuf::from(given);
    let mut mark = [0; 2];
    let is = path.is_file() && File::open(&path).ok()?.read_exact(&mut mark).is_ok() && mark == GZIP;
    is.then_some(path)
}

/// What the file of a moment is called when nothing is said: `SCENARIO-MACHINE.moment.tar.gz`, here.
pub fn name_for(moment: &Path) -> PathBuf {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scenario = moment.parent().map(name).unwrap_or_default();
    PathBuf::from(format!("{scenario}-{}.{ENDING}", name(moment)))
}

/// Makes `file` of the moment in `folder`. It is not overwritten.
pub fn pack(folder: &Path, file: &Path) -> Result {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("could not write {}: {error}", file.display()))
    };
    let taken = |error| failed(error).next_step("name another file: --pack=FILE");
    // Before the work of minutes, and again after it.
    if file.symlink_metadata().is_ok() {
        return Err(taken(std::io::ErrorKind::AlreadyExists.into()));
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".moment-").tempfile_in(parent).map_err(failed)?;
    let compressed = GzEncoder::new(BufWriter::new(part.as_file()), Compression::fast());
    let mut archive = tar::Builder::new(compressed);
    archive.sparse(true);
    archive
        .append_dir_all(WITHIN, folder)
        .and_then(|()| archive.into_inner()?.finish()?.flush())
        .map_err(failed)?;
    part.persist_noclobber(file).map_err(|error| match error.error {
        error if error.kind() == std::io::ErrorKind::AlreadyExists => taken(error),
        error => failed(error),
    })?;
    Ok(())
}

/// Unpacks `file` below `place`; gives the moment's folder.
pub fn unpack(file: &Path, place: &Path) -> Result<PathBuf> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("could not unpack {}: {error}", file.display())).likely_cause(
            "it is no file that `nixvm-test attach --pack` made, it is cut off, or the disk is full",
        )
    };
    let compressed = BufReader::new(File::open(file).map_err(failed)?);
    let mut archive = tar::Archive::new(GzDecoder::new(compressed));
    archive.set_preserve_mtime(false);
    archive.unpack(place).map_err(failed)?;
    Ok(place.join(WITHIN))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

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
}
