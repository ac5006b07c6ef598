//! What says that a template is whole, and the one that was made.
//!
//! Small files are hashed. The RAM and the disks, hundreds of MiB, are known by what the kernel notes of each
//! change: size, inode, and the times of the last change of content and of inode, which no program can set
//! back. So is what it was made of outside of the Nix store (see `qemu/template/outside`). A file that other folders hold
//! as well is known by its content, since its times change with its names (see [`crate::shared_file`]). What a crash of
//! the host may have torn is not trusted: a seal holds for one boot of the host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::boot_id::boot_id;
use crate::qemu::changed_outside;
use crate::shared_file::{self, Records, Turn};

const SEAL_FILE: &str = "seal.json";
/// Files up to this size are hashed.
const SMALL: u64 = 4 << 20;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    host_boot: String,
    files: BTreeMap<String, Print>,
}

/// By what a file is known.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    size: u64,
    inode: u64,
    /// None for a shared file.
    changed: Option<(i64, i64)>,
    content: Option<String>,
}

/// Seals what is in `folder` now. `turn` is that of its shared files, if the caller has it.
pub(super) fn close(folder: &Path, turn: Option<&Turn>) -> io::Result<()> {
    let text = serde_json::to_vec(&seal(folder, turn)?)?;
    fs::write(folder.join(SEAL_FILE), text)
}

/// Why the template in `folder` can't be used; `None` when it is as it was sealed.
pub(super) fn broken(folder: &Path) -> Option<String> {
    let text = match fs::read(folder.join(SEAL_FILE)) {
        Ok(text) => text,
        Err(error) => return Some(format!("its seal can't be read: {error}")),
    };
    let Ok(sealed) = serde_json::from_slice::<Seal>(&text) else {
        return Some("its seal is damaged".to_owned());
    };
    if sealed.host_boot != boot_id() {
        return Some("this host was restarted since".to_owned());
    }
    let found = match seal(folder, None) {
        Ok(found) => found,
        Err(error) => return Some(format!("it can't be read: {error}")),
    };
    let changed = |name: &&String| found.files.get(*name) != sealed.files.get(*name);
    match sealed.files.keys().chain(found.files.keys()).find(changed) {
        Some(name) => Some(format!("{name} was changed")),
        // What it was made of lies elsewhere; the list of it is one of the files.
        None => changed_outside(folder),
    }
}

fn seal(folder: &Path, turn: Option<&Turn>) -> io::Result<Seal> {
    let shared = Records::in_store(folder.parent().unwrap_or(folder));
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == SEAL_FILE {
            continue;
        }
        let found = entry.metadata()?;
        let is_shared = shared_file::is_shared(&found);
        let content = match found.len() {
            _ if is_shared => Some(shared.digest(&entry.path(), turn)?),
            0..=SMALL => Some(crate::digest::hex(&Sha256::digest(fs::read(entry.path())?), 32)),
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
    fn a_seal_holds_for_one_boot_of_the_host() {
        let folder = sealed();
        let text = fs::read_to_string(folder.path().join(SEAL_FILE)).unwrap();
        fs::write(folder.path().join(SEAL_FILE), text.replace(&boot_id(), "another")).unwrap();
        // Nothing else is read for that: it could not be.
        fs::remove_file(folder.path().join("state")).unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        assert_eq!(broken(folder.path()).unwrap(), "this host was restarted since");
    }
}
