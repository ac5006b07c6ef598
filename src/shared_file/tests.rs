//! Tests of shared files in a store of two folders.

use super::*;

const SIZE: u64 = 6 << 20;

struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        for key in ["one", "other"] {
            fs::create_dir(store.path().join(key)).unwrap();
        }
        fs::create_dir(store.path().join(FOLDER)).unwrap();
        Self(store)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn records(&self) -> Records {
        Records::in_store(self.0.path())
    }

    /// Makes a shared file that is full of this byte.
    fn shared(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, vec![byte; SIZE as usize]).unwrap();
        share(&path).unwrap();
        path
    }

    fn digest(&self, path: &Path) -> String {
        self.records().digest(path, None).unwrap()
    }

    /// Puts a wrong digest into the record of a file. A caller that gets it has not read the file.
    fn is_said_to_be(&self, path: &Path, digest: &str) {
        let records = self.records();
        let found = fs::metadata(path).unwrap();
        let record = records.fitting(&found).unwrap();
        records.write(found.ino(), &Record { digest: digest.to_owned(), ..record });
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn overwrite(path: &Path, at: u64) {
    let before = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"damage", at).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).unwrap();
}

#[test]
fn a_shared_file_gets_another_name_and_any_other_file_is_copied() {
    let case = Case::new();
    let shared = case.shared("one/image", 1);
    hold(&shared, &case.path("other/image")).unwrap();
    assert_eq!(inode(&shared), inode(&case.path("other/image")));
    let own = case.path("one/own");
    fs::write(&own, vec![1; SIZE as usize]).unwrap();
    hold(&own, &case.path("other/own")).unwrap();
    assert_ne!(inode(&own), inode(&case.path("other/own")), "somebody may write to it");
    let small = case.path("one/small");
    fs::write(&small, "small").unwrap();
    share(&small).unwrap();
    assert!(!is_shared(&fs::metadata(&small).unwrap()));
    // A file that is only a hole takes no space.
    let hollow = case.path("one/hollow");
    File::create(&hollow).unwrap().set_len(1 << 30).unwrap();
    share(&hollow).unwrap();
    assert!(!is_shared(&fs::metadata(&hollow).unwrap()));
    assert!(hold(&shared, &own).is_err(), "nothing is overwritten");
    assert!(hold(&case.path("one/none"), &case.path("other/none")).is_err());
}

#[test]
fn where_there_can_be_no_other_name_a_copy_is_made_that_is_protected_as_well() {
    let case = Case::new();
    let shared = case.shared("one/image", 1);
    let digest = case.digest(&shared);
    for errno in [Errno::XDEV, Errno::MLINK, Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::ACCESS] {
        let to = case.path(&format!("other/{}", errno.raw_os_error()));
        hold_by(&shared, &to, |_, _| Err(errno.into())).unwrap();
        assert_ne!(inode(&shared), inode(&to));
        assert!(is_shared(&fs::metadata(&to).unwrap()), "{errno}");
        assert_eq!(case.digest(&to), digest, "{errno}");
    }
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let to = elsewhere.path().join("image");
    hold(&shared, &to).unwrap();
    assert!(fs::read(&shared).unwrap() == fs::read(&to).unwrap());
}

#[test]
fn holes_are_what_they_read_as() {
    let case = Case::new();
    let (full, hollow) = (case.path("full"), case.path("hollow"));
    let mut content = vec![0; SIZE as usize];
    content[3 << 20..(3 << 20) + 5].copy_from_slice(b"there");
    fs::write(&full, &content).unwrap();
    let file = File::create(&hollow).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"there", 3 << 20).unwrap();
    let of = |path: &Path| digest_of(&File::open(path).unwrap()).unwrap();
    assert!(fs::metadata(&hollow).unwrap().blocks() < fs::metadata(&full).unwrap().blocks());
    assert_eq!(of(&full), of(&hollow));
    file.write_all_at(b"there", 4 << 20).unwrap();
    assert_ne!(of(&full), of(&hollow));
    file.set_len(SIZE + 1).unwrap();
    file.write_all_at(&[0; 5], 4 << 20).unwrap();
    assert_ne!(of(&full), of(&hollow), "another size");
    let empty = case.path("empty");
    File::create(&empty).unwrap();
    assert_ne!(of(&empty), of(&full));
}

#[test]
fn a_file_is_read_once_however_its_names_change_here() {
    let case = Case::new();
    let image = case.shared("one/image", 1);
    case.digest(&image);
    case.is_said_to_be(&image, "as it was");
    let second = case.path("other/image");
    hold(&image, &second).unwrap();
    assert_eq!((case.digest(&image), case.digest(&second)), ("as it was".to_owned(), "as it was".to_owned()));
    let records = case.records();
    records.while_names_change(std::slice::from_ref(&image), || fs::remove_file(&image)).unwrap();
    assert_eq!(case.digest(&second), "as it was");
    let inode = inode(&second);
    records.while_names_change(std::slice::from_ref(&second), || fs::remove_file(&second)).unwrap();
    assert!(!records.path(inode).exists(), "nothing is known of what is gone");
}

#[test]
fn a_name_that_somebody_else_gave_or_took_is_no_damage() {
    let case = Case::new();
    let image = case.shared("one/image", 1);
    let digest = case.digest(&image);
    fs::hard_link(&image, case.path("elsewhere")).unwrap();
    assert_eq!(case.digest(&image), digest);
    fs::remove_file(case.path("elsewhere")).unwrap();
    fs::remove_dir_all(case.path(FOLDER)).unwrap();
    assert_eq!(case.digest(&image), digest);
}

#[test]
fn damage_is_noticed_under_every_name_of_the_file() {
    let case = Case::new();
    for at in [0, SIZE / 2, SIZE - 6] {
        let image = case.shared(&format!("one/image{at}"), 1);
        let second = case.path(&format!("other/image{at}"));
        let digest = case.digest(&image);
        hold(&image, &second).unwrap();
        overwrite(&image, at);
        assert_ne!(case.digest(&image), digest);
        assert_ne!(case.digest(&second), digest);
        // A concurrent change of its names must not make it be skipped.
        hold(&image, &case.path(&format!("other/again{at}"))).unwrap();
        assert_ne!(case.digest(&second), digest);
    }
}

#[test]
fn damage_during_a_change_of_names_is_noticed() {
    let case = Case::new();
    let image = case.shared("one/image", 1);
    let digest = case.digest(&image);
    let change = || {
        fs::set_permissions(&image, fs::Permissions::from_mode(0o600))?;
        File::options().write(true).open(&image)?.write_all_at(b"damage", 100)?;
        fs::set_permissions(&image, fs::Permissions::from_mode(MODE))
    };
    case.records().while_names_change(std::slice::from_ref(&image), change).unwrap();
    assert_ne!(case.digest(&image), digest);
}

#[test]
fn files_of_the_same_content_become_one_and_others_stay_apart() {
    let case = Case::new();
    let records = case.records();
    let image = case.shared("one/image0", 1);
    let others = [case.path("one")];
    for (byte, same) in [(1, true), (2, false)] {
        let new = case.shared("other/image", byte);
        records.merge(&records.turn().unwrap(), &case.path("other"), &others).unwrap();
        assert_eq!(inode(&new) == inode(&image), same, "{byte}");
        assert_eq!(fs::read(&new).unwrap()[7], byte);
        assert_eq!(fs::read_dir(case.path("other")).unwrap().count(), 1, "nothing else is left");
        fs::remove_file(&new).unwrap();
    }
    // A damaged file is not linked.
    overwrite(&image, 0);
    let new = case.shared("other/image", 1);
    records.merge(&records.turn().unwrap(), &case.path("other"), &others).unwrap();
    assert_ne!(inode(&new), inode(&image));
    assert_eq!(case.digest(&new), case.digest(&case.shared("one/image1", 1)));
}

#[test]
fn what_is_known_of_files_that_are_gone_is_swept() {
    let case = Case::new();
    let (gone, stays) = (case.shared("one/gone", 1), case.shared("other/stays", 2));
    case.digest(&gone);
    case.digest(&stays);
    case.is_said_to_be(&stays, "as it was");
    fs::remove_file(&gone).unwrap();
    fs::write(case.path(FOLDER).join("rubbish"), "x").unwrap();
    case.records().sweep(&[case.path("one"), case.path("other")]).unwrap();
    assert_eq!(case.digest(&stays), "as it was");
    assert_eq!(fs::read_dir(case.path(FOLDER)).unwrap().count(), 2, "the lock, and one record");
}

#[test]
fn a_record_that_is_damaged_or_of_another_file_is_not_gone_by() {
    let case = Case::new();
    let (image, other) = (case.shared("one/image", 1), case.shared("other/image", 2));
    let digest = case.digest(&image);
    case.digest(&other);
    let records = case.records();
    for text in ["", "{", "[]", "{\"size\":1}"] {
        fs::write(records.path(inode(&image)), text).unwrap();
        assert_eq!(case.digest(&image), digest);
    }
    fs::copy(records.path(inode(&other)), records.path(inode(&image))).unwrap();
    assert_eq!(case.digest(&image), digest);
}
