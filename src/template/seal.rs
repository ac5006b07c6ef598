//! The seal of a template, which shows that the template is complete and unchanged.
//!
//! Small files are hashed. The RAM and the disks have hundreds of MiB, so the seal records what the kernel
//! updates with each change: size, inode, and the times of the last change of content and inode. No program
//! can set the latter back. The files outside of the Nix store that the template was made with are recorded
//! in the same way (see `qemu/template/outside`). A file that is shared with other folders is recorded by its
//! content, because its times change with its names (see [`crate::shared_file`]). A crash of the host may
//! leave torn files, so a seal holds for one boot of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::boot_id::boot_id;
use crate::qemu::changed_outside;
use crate::shared_file::{self, Records, Turn};

const SEAL_FILE: &str = "seal.json";
/// Files up to this size, in bytes, are hashed.
const SMALL: u64 = 4 << 20;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    host_boot: String,
    files: BTreeMap<String, Print>,
}

/// What a file is recognised by.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    size: u64,
    inode: u64,
    /// `None` for a shared file.
    changed: Option<(i64, i64)>,
    content: Option<String>,
}

/// Seals the present content of `folder`. `turn` is the turn of its shared files, if the caller has it.
pub(super) fn close(folder: &Path, turn: Option<&Turn>) -> io::Result<()> {
    let text = serde_json::to_vec(&seal(folder, turn)?)?;
    fs::write(folder.join(SEAL_FILE), text)
}

/// Returns why the template in `folder` can't be used, or `None` if it is as it was sealed.
pub(super) fn broken(folder: &Path) -> Option<String> {
    let text = match fs::read(folder.join(SEAL_FILE)) {
        Ok(text) => text,
        Err(error) => return Some(format!("its seal can't be read: {error}")),
    };
    let Ok(sealed) = serde_json::from_slice::<Seal>(&text) else {
        return Some("its seal is damaged".to_owned());
    };
    if sealed.host_boot != boot_id() {
        return Some("this host was restarted since then".to_owned());
    }
    let found = match seal(folder, None) {
        Ok(found) => found,
        Err(error) => return Some(format!("it can't be read: {error}")),
    };
    let changed = |name: &&String| found.files.get(*name) != sealed.files.get(*name);
    match sealed.files.keys().chain(found.files.keys()).find(changed) {
        Some(name) => Some(format!("{name} was changed")),
        // The list of the files that it was made with is one of the sealed files.
        None => machines_in(folder).iter().find_map(|machine| changed_outside(machine)),
    }
}

/// Returns the folders of the machines in a template: itself, or the folders in it.
fn machines_in(folder: &Path) -> BTreeSet<PathBuf> {
    let files = shared_file::files_in(folder).unwrap_or_default();
    files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect()
}

fn seal(folder: &Path, turn: Option<&Turn>) -> io::Result<Seal> {
    let shared = Records::in_store(folder.parent().unwrap_or(folder));
    let mut files = BTreeMap::new();
    for path in shared_file::files_in(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        if name == SEAL_FILE {
            continue;
        }
        let found = fs::symlink_metadata(&path)?;
        let is_shared = shared_file::is_shared(&found);
        let content = match found.len() {
            _ if is_shared => Some(shared.digest(&path, turn)?),
            0..=SMALL => Some(crate::digest::hex(&Sha256::digest(fs::read(&path)?), 32)),
            _ => None,
        };
        let changed = (!is_shared).then(|| (found.ctime(), found.ctime_nsec()));
        files.insert(name, Print { size: found.len(), inode: found.ino(), changed, content });
    }
    Ok(Seal { host_boot: boot_id(), files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn sealed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state"), "state").unwrap();
        File::create(folder.path().join("memory")).unwrap().set_len(SMALL + 1).unwrap();
        close(folder.path(), None).unwrap();
        folder
    }

    #[test]
    fn what_is_as_it_was_sealed_is_whole() {
        assert_eq!(broken(sealed().path()), None);
    }

    #[test]
    fn every_change_is_noticed() {
        type Change = fn(&Path);
        let change: [(&str, Change); 6] = [
            ("memory", |folder| {
                use std::os::unix::fs::FileExt;
                let memory = File::options().write(true).open(folder.join("memory")).unwrap();
                let before = memory.metadata().unwrap().modified().unwrap();
                memory.write_all_at(b"x", 100).unwrap();
                memory.set_modified(before).unwrap();
            }),
            ("state", |folder| fs::write(folder.join("state"), "State").unwrap()),
            ("state", |folder| fs::remove_file(folder.join("state")).unwrap()),
            ("more", |folder| fs::write(folder.join("more"), "").unwrap()),
            ("seal", |folder| fs::write(folder.join(SEAL_FILE), "{").unwrap()),
            ("seal", |folder| fs::remove_file(folder.join(SEAL_FILE)).unwrap()),
        ];
        for (what, change) in change {
            let folder = sealed();
            change(folder.path());
            let why = broken(folder.path()).unwrap();
            assert!(why.contains(what), "{what}: {why}");
        }
    }

    #[test]
    fn a_change_in_the_folder_of_one_of_several_machines_is_noticed() {
        type Change = fn(&Path);
        let change: [(&str, Change); 4] = [
            ("one/state", |folder| fs::write(folder.join("one/state"), "State").unwrap()),
            ("two/state", |folder| fs::remove_dir_all(folder.join("two")).unwrap()),
            ("three/state", |folder| {
                fs::create_dir(folder.join("three")).unwrap();
                fs::write(folder.join("three/state"), "").unwrap();
            }),
            ("two/state", |folder| fs::rename(folder.join("two"), folder.join("zwei")).unwrap()),
        ];
        for (what, change) in change {
            let folder = tempfile::tempdir().unwrap();
            for name in ["one", "two"] {
                fs::create_dir(folder.path().join(name)).unwrap();
                fs::write(folder.path().join(name).join("state"), name).unwrap();
            }
            close(folder.path(), None).unwrap();
            assert_eq!(broken(folder.path()), None);
            change(folder.path());
            assert_eq!(broken(folder.path()).unwrap(), format!("{what} was changed"));
        }
    }

    #[test]
    fn a_seal_holds_for_one_boot_of_the_host() {
        let folder = sealed();
        let text = fs::read_to_string(folder.path().join(SEAL_FILE)).unwrap();
        fs::write(folder.path().join(SEAL_FILE), text.replace(&boot_id(), "another")).unwrap();
        // No other file may be read for that: this one is unreadable.
        fs::remove_file(folder.path().join("state")).unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        assert_eq!(broken(folder.path()).unwrap(), "this host was restarted since then");
    }
}
