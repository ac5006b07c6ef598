//! Tests of templates of one VM that share an image.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::*;
use crate::shared_file;

const IMAGE: usize = 8 << 20;
const OWN: u64 = 100_000;

/// Writes a template with an image that is full of `byte`, as a boot does.
fn boots(byte: u8) -> impl AsyncFn(&Path) -> Result<Option<String>> {
    async move |folder: &Path| {
        boot(folder, byte);
        Ok(None)
    }
}

fn boot(folder: &Path, byte: u8) {
    fs::write(folder.join("memory"), vec![1; OWN as usize]).unwrap();
    fs::write(folder.join("image0"), vec![byte; IMAGE]).unwrap();
    shared_file::share(&folder.join("image0")).unwrap();
}

/// Writes a template that is based on another.
fn goes_on(from: &Path) -> impl AsyncFn(&Path) -> Result<Option<String>> {
    async move |folder: &Path| {
        writes(folder).await?;
        shared_file::hold(&from.join("image0"), &folder.join("image0")).unwrap();
        Ok(None)
    }
}

impl Case {
    async fn made_by(
        &self,
        moment: &str,
        make: impl AsyncFnOnce(&Path) -> Result<Option<String>>,
    ) -> TemplateLease {
        let made = self.store.get(&self.key(moment), &Events::none(), make).await.unwrap();
        let Made::Ready(made) = made else { panic!("{made:?}") };
        made
    }

    /// Makes a template that was booted and two that are based on it, and uses them in this order.
    async fn three(&self) -> [PathBuf; 3] {
        let booted = self.made_by("booted", boots(1)).await;
        let logged_in = self.made_by("logged in", goes_on(&booted.folder)).await;
        let checkpoint = self.made_by("checkpoint", goes_on(&logged_in.folder)).await;
        for (age, template) in [(300, &booted), (200, &logged_in), (100, &checkpoint)] {
            template.lock.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        [booted.folder, logged_in.folder, checkpoint.folder]
    }

    /// Returns what the store takes on the disk, as du(1) counts it.
    fn taken(&self) -> u64 {
        let output = std::process::Command::new("du").arg("-sB1").arg(self.store.folder()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    async fn is_whole(&self, moment: &str) -> bool {
        self.store.whole(&self.key(moment)).await.unwrap().is_some()
    }

    /// Returns the file that records what is known about an image.
    fn record(&self, image: &Path) -> PathBuf {
        let inode = fs::metadata(image).unwrap().ino();
        self.store.folder().join(".shared").join(inode.to_string())
    }
}

fn inode(folder: &Path) -> u64 {
    fs::metadata(folder.join("image0")).unwrap().ino()
}

fn damage(image: &Path) {
    let before = fs::metadata(image).unwrap().modified().unwrap();
    fs::set_permissions(image, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().write(true).open(image).unwrap();
    file.write_all_at(b"x", 5000).unwrap();
    file.set_modified(before).unwrap();
    fs::set_permissions(image, fs::Permissions::from_mode(0o400)).unwrap();
}

#[tokio::test]
async fn the_image_of_a_vm_takes_its_room_once_and_goes_with_its_last_template() {
    let case = Case::new();
    let folders = case.three().await;
    assert!(folders.iter().all(|folder| inode(folder) == inode(&folders[0])));
    let taken = case.taken();
    assert!((IMAGE as u64..IMAGE as u64 * 3 / 2).contains(&taken), "{taken}");
    let all = list(&case.store).unwrap();
    assert_eq!(all.len(), 3);
    for entry in &all {
        assert_eq!(entry.shared, IMAGE as u64);
        assert!((OWN..OWN * 2).contains(&entry.size), "{}", entry.size);
    }
    assert!((IMAGE as u64..taken).contains(&total(&all)), "{} of {taken}", total(&all));
    // The image counts once, so two templates have to go when the limit is 1 byte below what two take with
    // the image.
    let gone = prune(&case.store, IMAGE as u64 + OWN * 3 / 2).unwrap();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|entry| entry.size < OWN * 2), "the image is not free yet: {gone:?}");
    assert!(case.is_whole("checkpoint").await);
    assert_eq!(fs::read(folders[2].join("image0")).unwrap().len(), IMAGE);
    let gone = prune(&case.store, 0).unwrap();
    assert!(gone[0].size > IMAGE as u64, "{gone:?}");
    assert!(case.taken() < 100_000, "{}", case.taken());
    assert!(case.names().iter().all(|name| name.starts_with('.')), "{:?}", case.names());
}

#[tokio::test]
async fn an_image_that_a_kept_machine_holds_is_not_said_to_be_free() {
    let case = Case::new();
    let template = case.made_by("booted", boots(1)).await;
    let kept = tempfile::tempdir_in(case.store.folder().parent().unwrap()).unwrap();
    shared_file::hold(&template.folder.join("image0"), &kept.path().join("image0")).unwrap();
    drop(template);
    let all = list(&case.store).unwrap();
    assert_eq!((all[0].shared, total(&all) > IMAGE as u64), (IMAGE as u64, true));
    let gone = prune(&case.store, 0).unwrap();
    assert!(gone[0].size < OWN * 2, "{gone:?}");
    assert_eq!(fs::read(kept.path().join("image0")).unwrap().len(), IMAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn templates_that_are_made_at_once_share_their_image() {
    let case = Arc::new(Case::new());
    let mut making = tokio::task::JoinSet::new();
    for number in 0..6 {
        let case = Arc::clone(&case);
        making.spawn(async move {
            let make = async |folder: &Path| {
                boot(folder, 1);
                Ok(None)
            };
            case.made_by(&format!("hardware {number}"), make).await.folder
        });
    }
    let folders = making.join_all().await;
    assert!(folders.iter().all(|folder| inode(folder) == inode(&folders[0])));
    let other = case.made_by("another VM", boots(2)).await;
    assert_ne!(inode(&other.folder), inode(&folders[0]));
    for number in 0..6 {
        assert!(case.is_whole(&format!("hardware {number}")).await);
    }
}

#[tokio::test]
async fn damage_to_a_shared_image_is_noticed_by_every_template_and_each_is_made_again() {
    let case = Case::new();
    let folders = case.three().await;
    for moment in ["booted", "logged in", "checkpoint"] {
        assert!(case.is_whole(moment).await, "{moment}");
    }
    damage(&folders[1].join("image0"));
    for moment in ["booted", "logged in", "checkpoint"] {
        assert!(!case.is_whole(moment).await, "{moment}");
    }
    let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
    let events = Events::new(move |event| drop(sender.send(format!("{event:?}"))));
    case.store.get(&case.key("booted"), &events, boots(1)).await.unwrap();
    let note = notes.recv().await.unwrap();
    assert!(note.contains("made again: image0 was changed"), "{note}");
    assert!(
        case.is_whole("booted").await
            && !case.is_whole("logged in").await
            && !case.is_whole("checkpoint").await
    );
    assert_ne!(inode(&folders[0]), inode(&folders[1]), "nothing damaged is shared again");
    case.made_by("logged in", goes_on(&folders[0])).await;
    assert!(case.is_whole("logged in").await);
}

#[tokio::test]
async fn what_is_not_protected_any_more_is_not_trusted() {
    let case = Case::new();
    let folders = case.three().await;
    fs::set_permissions(folders[0].join("image0"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!case.is_whole("booted").await && !case.is_whole("checkpoint").await);
}

#[tokio::test]
async fn what_a_killed_process_left_is_freed_by_the_next_prune() {
    let case = Case::new();
    let [booted, logged_in, _] = case.three().await;
    // Killed while saving: once with its lock, and once after another prune has removed the lock.
    for name in ["0123", "4567"] {
        let making = case.store.folder().join(format!("{name}.making"));
        fs::create_dir(&making).unwrap();
        writes(&making).await.unwrap();
        fs::hard_link(booted.join("image0"), making.join("image0")).unwrap();
    }
    fs::write(case.store.folder().join("0123.lock"), "").unwrap();
    // Killed while pruning: half of a template is gone.
    fs::remove_file(logged_in.join("memory")).unwrap();
    fs::remove_file(logged_in.join("seal.json")).unwrap();
    assert!(
        case.is_whole("booted").await
            && !case.is_whole("logged in").await
            && case.is_whole("checkpoint").await
    );
    assert_eq!(list(&case.store).unwrap().len(), 5);
    assert_eq!(prune(&case.store, 0).unwrap().len(), 5);
    assert!(case.names().iter().all(|name| name.starts_with('.')), "{:?}", case.names());
    assert!(case.taken() < 100_000, "{}", case.taken());
}

#[tokio::test]
async fn what_is_in_the_making_is_not_pruned() {
    let case = Case::new();
    let make = async |folder: &Path| {
        boots(1)(folder).await?;
        assert_eq!(prune(&case.store, 0).unwrap().len(), 0);
        assert!(list(&case.store).unwrap()[0].in_use);
        assert!(folder.join("image0").exists());
        Ok(None)
    };
    case.made_by("booted", make).await;
}

#[tokio::test]
async fn a_copy_of_an_image_becomes_another_name_of_it() {
    let case = Case::new();
    let booted = case.made_by("booted", boots(1)).await;
    // As when the previous template is on another file system: the copy of a protected file is protected.
    let copies = async |folder: &Path| {
        writes(folder).await?;
        fs::copy(booted.folder.join("image0"), folder.join("image0")).unwrap();
        Ok(None)
    };
    let copy = case.made_by("logged in", copies).await;
    assert!(case.is_whole("booted").await && case.is_whole("logged in").await);
    let all = list(&case.store).unwrap();
    assert_eq!(inode(&booted.folder), inode(&copy.folder));
    assert_eq!(all.iter().map(|entry| entry.shared).collect::<Vec<_>>(), [IMAGE as u64; 2]);
}

/// Changes a value in a JSON file.
fn with(file: &Path, field: &str, value: serde_json::Value) {
    let mut found: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    found[field] = value;
    fs::write(file, found.to_string()).unwrap();
}

#[tokio::test]
async fn an_image_that_a_crash_of_the_host_tore_is_not_taken_for_a_good_one() {
    let case = Case::new();
    let folders = case.three().await;
    // The power fails before the data is on the disk. The file system's journal restores size and times, so
    // the record of the file still fits.
    let torn = folders[2].join("image0");
    damage(&torn);
    let found = fs::metadata(&torn).unwrap();
    with(&case.record(&torn), "changed", serde_json::json!([found.ctime(), found.ctime_nsec()]));
    with(&case.record(&torn), "host_boot", "before".into());
    for folder in &folders {
        with(&folder.join("seal.json"), "host_boot", "before".into());
    }
    let booted = case.made_by("booted", boots(1)).await.folder;
    assert!(fs::read(booted.join("image0")).unwrap().iter().all(|byte| *byte == 1), "it is the torn one");
    assert_ne!(inode(&booted), inode(&folders[2]));
    assert!(case.is_whole("booted").await && !case.is_whole("checkpoint").await);
}

/// Runs on one thread: if the check blocked that thread, the event that it waits for could never happen.
#[tokio::test]
async fn looking_at_a_template_holds_up_nothing_else_on_its_thread() {
    let case = Case::new();
    let booted = case.made_by("booted", boots(1)).await.folder;
    let turn = shared_file::Records::in_store(case.store.folder()).turn();
    fs::remove_file(case.record(&booted.join("image0"))).unwrap();
    let others = std::cell::Cell::new(false);
    let looks = async {
        assert!(case.is_whole("booted").await);
        assert!(others.get(), "the others on this thread had to wait");
    };
    let goes_on = async {
        drop(turn);
        others.set(true);
    };
    tokio::join!(biased; looks, goes_on);
}
