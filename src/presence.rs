//! Whether a file exists. If its metadata can't be read, that is an error, and not taken for a missing file.

use std::io;
use std::path::Path;

/// Whether an error means that there is no such file. Missing permission, a full file table and a broken disk
/// do not.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// Whether there is something at `path`. Symbolic links are followed.
///
/// # Errors
/// Those of reading the metadata. A missing file is not an error.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it is certain that there is nothing at `path`. If the metadata can't be read, it is not, and
/// the code that opens the file later gets the error.
pub(crate) fn is_known_absent(path: &Path) -> bool {
    matches!(is_there(path), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_looked_at_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(is_known_absent(&file));
        std::fs::write(&file, "").unwrap();
        assert!(is_there(&file).unwrap());
        assert!(is_known_absent(&file.join("below a file")));
        // Two links that lead to each other can't be followed, by root neither.
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::os::unix::fs::symlink(&one, &other).unwrap();
        std::os::unix::fs::symlink(&other, &one).unwrap();
        assert!(is_there(&one).is_err() && !is_known_absent(&one));
    }
}
