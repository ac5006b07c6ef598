//! Whether a file is there. One that can't be looked at is not one that is absent: the error says which it is.

use std::io;
use std::path::Path;

/// Whether an error says that there is no such file. No right, a full table of open files and a broken disk say nothing
/// of it.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// Whether there is something at `path`, symbolic links followed.
///
/// # Errors
/// Those of looking at it, but not that it is absent.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it is known that there is nothing at `path`. Of what can't be looked at this is not known: whoever opens it
/// then gets the error.
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
