//! Finds files in a folder or above it, up to the root of the repository.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::presence::is_absent;

/// Returns the nearest file of this `name`, in `folder` or above it, up to the root of the repository (the
/// folder with `.git`) or of the file system. In a folder that every user may write to, such as /tmp, a file
/// of another user is skipped, because such files decide what is built and run.
///
/// # Errors
/// The places that were searched, one a line, if there is no such file.
pub(crate) fn nearest(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let mut places = String::new();
    for folder in folder.ancestors() {
        let path = folder.join(name);
        // A file whose metadata can't be read may exist, and its reader gets the error.
        let is_file = path.metadata().map_or_else(|error| !is_absent(&error), |found| found.is_file());
        let passed_over = match is_file {
            true if !is_planted(&path, folder) => return Ok(path),
            true => " (not used: it belongs to another user, in a folder that every user may write to)",
            false => "",
        };
        places.push_str(&format!("{}{passed_over}\n", path.display()));
        if folder.join(".git").exists() {
            break;
        }
    }
    Err(places)
}

fn is_planted(path: &Path, folder: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let shared = folder.metadata().is_ok_and(|found| found.mode() & 0o002 != 0);
    // The owner of a link decides where it leads.
    let owner = path.symlink_metadata().map(|found| found.uid());
    let trusted = [0, rustix::process::geteuid().as_raw()];
    shared && owner.map_or(true, |owner| !trusted.contains(&owner))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn the_nearest_file_is_found_and_the_search_ends_at_the_repository() {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("repository");
        let deep = repository.join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(repository.join(".git")).unwrap();
        fs::write(root.path().join("x.toml"), "").unwrap();
        let places = nearest(&deep, "x.toml").unwrap_err();
        assert_eq!(places.lines().count(), 3, "it is above the repository: {places}");
        fs::write(repository.join("x.toml"), "").unwrap();
        assert_eq!(nearest(&deep, "x.toml"), Ok(repository.join("x.toml")));
        fs::write(repository.join("a/x.toml"), "").unwrap();
        assert_eq!(nearest(&deep, "x.toml"), Ok(repository.join("a/x.toml")));
    }

    #[test]
    fn a_file_that_another_user_put_into_a_shared_folder_is_passed_over() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no file of another user can be made, so this is not tested");
            return;
        }
        let shared = tempfile::tempdir().unwrap();
        let own = shared.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::create_dir(shared.path().join(".git")).unwrap();
        let file = shared.path().join("x.toml");
        fs::write(&file, "").unwrap();
        let set = |mode| fs::set_permissions(shared.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o1777);
        assert_eq!(nearest(&own, "x.toml"), Ok(file.clone()), "it is of this user");
        chown(&file, Some(4242), None).unwrap();
        let places = nearest(&own, "x.toml").unwrap_err();
        assert!(places.contains("x.toml (not used: it belongs to another user"), "{places}");
        set(0o755);
        assert_eq!(nearest(&own, "x.toml"), Ok(file), "a checkout of another user, in a container");
    }
}
