//! Finds a folder in which a moment's files can be used: other users can't change it during use.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::beneath::{Beneath, is_ours, leads_to_ours};
use crate::sparse_copy::copy_of;

/// Maximum number of files. A moment has fewer.
const FILES: usize = 100;

/// Returns `folder` itself if other users can't change it, otherwise a copy of its files in `place`, which only this
/// user can access.
pub(super) fn safe(folder: &Path, place: &Path) -> io::Result<PathBuf> {
    let from = Beneath::open(folder)?;
    if is_private(folder, &from)? {
        return Ok(folder.to_owned());
    }
    let to = place.join("moment");
    fs::DirBuilder::new().mode(0o700).create(&to)?;
    for name in from.names(FILES)? {
        let (file, _) = from.file(&name)?;
        copy_of(&file, &to.join(&name))?;
    }
    Ok(to)
}

/// Returns whether no other user (except root) can change the files of a folder, or replace the folder.
fn is_private(path: &Path, folder: &Beneath) -> io::Result<bool> {
    if !or_refused(leads_to_ours(path))? {
        return Ok(false);
    }
    for name in folder.names(FILES)? {
        let found = folder.file(&name)?.0.metadata()?;
        if !or_refused(is_ours(&path.join(&name), &found))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Converts a refusal to `false`; other errors stay.
fn or_refused(checked: io::Result<()>) -> io::Result<bool> {
    match checked {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        checked => checked.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn moment() -> tempfile::TempDir {
        let parent = tempfile::tempdir().unwrap();
        fs::DirBuilder::new().mode(0o700).create(parent.path().join("m")).unwrap();
        fs::write(parent.path().join("m/state"), "state").unwrap();
        fs::create_dir(parent.path().join("place")).unwrap();
        parent
    }

    #[test]
    fn a_moment_that_somebody_else_can_change_is_copied() {
        type Open = fn(&Path);
        let opened: [(&str, Open); 3] = [
            ("file", |at| {
                fs::set_permissions(at.join("m/state"), fs::Permissions::from_mode(0o666)).unwrap()
            }),
            ("folder", |at| fs::set_permissions(at.join("m"), fs::Permissions::from_mode(0o777)).unwrap()),
            ("parent", |at| fs::set_permissions(at, fs::Permissions::from_mode(0o777)).unwrap()),
        ];
        for (what, open) in opened {
            let parent = moment();
            let (folder, place) = (parent.path().join("m"), parent.path().join("place"));
            assert_eq!(safe(&folder, &place).unwrap(), folder, "{what}");
            open(parent.path());
            let copy = safe(&folder, &place).unwrap();
            assert_eq!(copy, place.join("moment"), "{what}");
            assert_eq!(fs::read(copy.join("state")).unwrap(), b"state");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let parent = moment();
        let (folder, place) = (parent.path().join("m"), parent.path().join("place"));
        symlink("/etc/passwd", folder.join("image0")).unwrap();
        assert!(safe(&folder, &place).is_err());
        fs::remove_file(folder.join("image0")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("transcript"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        assert!(safe(&folder, &place).is_err());
    }
}
