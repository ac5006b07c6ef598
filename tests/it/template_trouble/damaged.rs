//! A template is damaged after it was made.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::case::Case;
use crate::again::count;

/// Of the two, the template that was made of the other: the one whose folder is younger.
fn last_made(case: &Case) -> PathBuf {
    let folders = case.templates().into_iter().map(|name| case.path("cache/templates").join(name));
    folders.max_by_key(|folder| fs::metadata(folder.join("seal.json")).unwrap().modified().unwrap()).unwrap()
}

#[test]
fn a_damaged_template_is_noticed_and_made_again_with_one_line() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("state", flip),
        ("memory", |file| fs::File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap()),
        ("memory", flip),
        ("image0", |file| fs::remove_file(file).unwrap()),
        ("known.json", |file| fs::write(file, "{}").unwrap()),
        ("seal.json", |file| fs::write(file, "").unwrap()),
    ];
    let case = Case::new();
    case.next_works();
    for (file, damage) in damages {
        damage(&last_made(&case).join(file));
        let said = case.next_works();
        let notes: Vec<&String> = said.iter().filter(|line| line.starts_with("note: a template")).collect();
        let [note] = notes[..] else { panic!("{file}: {said:#?}") };
        let why = if file == "seal.json" {
            "its seal is damaged".to_owned()
        } else {
            format!("{file} was changed")
        };
        assert_eq!(*note, format!("note: a template is made again: {why}"));
        // Of the moment before, which is whole.
        assert_eq!((count(&said, "login prompt"), count(&said, "in the step")), (0, 1), "{file}: {said:#?}");
    }
}

/// Turns bits round in the middle of a file, and its time back.
fn flip(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let found = file.metadata().unwrap();
    let (mut bytes, at) = ([0; 64], found.len() / 2);
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&bytes.map(|byte| !byte), at).unwrap();
    file.set_modified(found.modified().unwrap()).unwrap();
}

#[test]
fn a_state_that_qemu_refuses_is_thrown_away_and_the_machine_booted_cold() {
    let case = Case::new();
    case.next_works();
    let folder = last_made(&case);
    let state = folder.join("state");
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    seal_again(&folder, "state");
    let said = case.process().end();
    let notes: Vec<&String> = said.iter().filter(|line| line.starts_with("note: guest")).collect();
    assert_eq!(notes.len(), 1, "{said:#?}");
    assert!(notes[0].starts_with("note: guest boots cold: "), "{notes:?}");
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (1, 1), "{said:#?}");
    assert_eq!(case.templates().len(), 1, "it was thrown away");
    assert_eq!(count(&case.next_works(), "login prompt"), 0);
}

/// Seals a file as it is now, as only one could do who means harm.
fn seal_again(folder: &Path, name: &str) {
    let seal = folder.join("seal.json");
    let mut sealed: serde_json::Value = serde_json::from_slice(&fs::read(&seal).unwrap()).unwrap();
    let path = folder.join(name);
    let found = fs::metadata(&path).unwrap();
    let digest = Sha256::digest(fs::read(&path).unwrap());
    let content: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    sealed["files"][name] = serde_json::json!({
        "size": found.len(), "inode": found.ino(), "changed": [found.ctime(), found.ctime_nsec()], "content": content,
    });
    fs::write(seal, sealed.to_string()).unwrap();
}
