//! Tests of the store with templates that take no time to make.

mod images;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::BuiltVm;
use crate::machine::TemplateLease;
use crate::qemu::accelerator::{self, Choice};
use crate::{Error, ErrorKind, Event, Events, Result};

struct Case {
    store: Store,
    vm: BuiltVm,
    _folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run-nixos-vm");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let store = Store::at(folder.path().join("templates")).unwrap();
        Self { store, vm: BuiltVm::open(script).unwrap(), _folder: folder }
    }

    fn key(&self, moment: &str) -> Key {
        let choice = accelerator::choose(&self.vm, &Events::none()).unwrap();
        Key::new(&self.vm, &choice, &[moment])
    }

    async fn made(&self, moment: &str) -> TemplateLease {
        let made = self.store.get(&self.key(moment), &Events::none(), writes).await.unwrap();
        let Made::Ready(made) = made else { panic!("{made:?}") };
        made
    }

    /// Returns the names in the store.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn writes(folder: &Path) -> Result<Option<String>> {
    fs::write(folder.join("memory"), vec![1; 100_000]).unwrap();
    Ok(None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_it_is_made_once_and_the_others_wait() {
    let case = Arc::new(Case::new());
    let count = Arc::new(AtomicUsize::new(0));
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (case, count, said) = (Arc::clone(&case), Arc::clone(&count), Arc::clone(&said));
        asking.spawn(async move {
            let sink = Arc::clone(&said);
            let events = Events::new(move |event| {
                if let Event::Note { text } = event {
                    sink.lock().unwrap().push(text.clone());
                }
            });
            let make = async |folder: &Path| {
                count.fetch_add(1, Ordering::Relaxed);
                while said.lock().unwrap().len() < 7 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                writes(folder).await
            };
            let made = case.store.get(&case.key("booted"), &events, make).await.unwrap();
            assert!(matches!(&made, Made::Ready(made) if made.folder.join("memory").exists()));
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 7);
    assert!(said[0].contains("waiting for the template"), "{said:?}");
}

#[test]
fn templates_of_different_processors_have_different_keys() {
    let case = Case::new();
    let whole = accelerator::choose(&case.vm, &Events::none()).unwrap();
    let (mut less, mut other_reason) = (whole.clone(), whole.clone());
    less.cpu = Some("max,arch-capabilities=off");
    other_reason.reason = "another".to_owned();
    let key = |choice: &Choice| Key::new(&case.vm, choice, &["booted"]);
    assert_eq!(key(&whole), key(&other_reason));
    assert_ne!(key(&whole), key(&less));
}

#[tokio::test]
async fn why_there_can_be_none_is_remembered() {
    let case = Case::new();
    for expected in [1, 1] {
        let count = AtomicUsize::new(0);
        let make = async |_: &Path| {
            assert_eq!(count.fetch_add(1, Ordering::Relaxed) + 1, expected);
            Ok::<_, Error>(Some("it shares a folder".to_owned()))
        };
        let made = case.store.get(&case.key("booted"), &Events::none(), make).await.unwrap();
        assert!(matches!(made, Made::Impossible(why) if why == "it shares a folder"));
    }
    let never = async |_: &Path| -> Result<Option<String>> { panic!("it is known") };
    case.store.get(&case.key("booted"), &Events::none(), never).await.unwrap();
}

#[tokio::test]
async fn what_failed_or_was_given_up_leaves_nothing_and_is_made_by_the_next() {
    let case = Case::new();
    let fails = async |folder: &Path| {
        fs::write(folder.join("half"), "x").unwrap();
        Err(Error::new(ErrorKind::Io, "No space left on device"))
    };
    assert!(case.store.get(&case.key("booted"), &Events::none(), fails).await.is_err());
    let begun = tokio::sync::Notify::new();
    let hangs = async |folder: &Path| {
        fs::write(folder.join("half"), "x").unwrap();
        begun.notify_one();
        std::future::pending::<Result<Option<String>>>().await
    };
    let (key, events) = (case.key("booted"), Events::none());
    tokio::select! {
        made = case.store.get(&key, &events, hangs) => panic!("{made:?}"),
        () = begun.notified() => {}
    }
    assert!(case.names().iter().all(|name| name.ends_with(".lock")), "{:?}", case.names());
    // A maker that was killed leaves an unfinished folder without a lock.
    fs::create_dir(case.store.folder().join(format!("{}.making", key.name()))).unwrap();
    case.made("booted").await;
    assert_eq!(case.names().len(), 2);
}

#[tokio::test]
async fn a_template_that_was_changed_is_made_again_and_that_is_said() {
    let case = Case::new();
    let folder = case.made("booted").await.folder;
    fs::write(folder.join("memory"), "damaged").unwrap();
    let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
    let events = Events::new(move |event| drop(sender.send(format!("{event:?}"))));
    case.store.get(&case.key("booted"), &events, writes).await.unwrap();
    let note = notes.recv().await.unwrap();
    assert!(note.contains("made again: memory was changed"), "{note}");
    assert_eq!(fs::read(folder.join("memory")).unwrap().len(), 100_000);
}

#[tokio::test]
async fn those_used_longest_ago_go_first_and_none_in_use() {
    let case = Case::new();
    let used = case.made("oldest, in use").await;
    for (age, moment) in [(300, "old"), (200, "middle"), (100, "new")] {
        let at = std::time::SystemTime::now() - Duration::from_secs(age);
        case.made(moment).await.lock.set_modified(at).unwrap();
    }
    used.lock.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let all = list(&case.store).unwrap();
    assert_eq!(all.iter().map(|entry| entry.in_use).collect::<Vec<_>>(), [false, false, false, true]);
    let size: u64 = all.iter().map(|entry| entry.size).sum();
    let gone = prune(&case.store, size - 1).unwrap();
    assert_eq!(gone.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), [case.key("old").name()]);
    let gone = prune(&case.store, 0).unwrap();
    assert_eq!(gone.len(), 2);
    assert_eq!(case.names().len(), 2, "the one in use, and its lock");
    drop(used);
    assert_eq!(prune(&case.store, 0).unwrap().len(), 1);
    assert_eq!(case.names(), [""; 0]);
}

#[tokio::test]
async fn a_lock_alone_is_no_template() {
    let case = Case::new();
    let fails = async |_: &Path| Err(Error::new(ErrorKind::Host, "it does not boot"));
    assert!(case.store.get(&case.key("failed"), &Events::none(), fails).await.is_err());
    assert_eq!(list(&case.store).unwrap().len(), 0, "{:?}", case.names());
    drop(case.made("made").await);
    assert_eq!(list(&case.store).unwrap().len(), 1, "{:?}", case.names());
    let gone: Vec<_> = prune(&case.store, 0).unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(gone, [case.key("made").name()]);
}

#[tokio::test]
async fn rubbish_without_a_lock_is_as_old_as_it_is_and_goes_first() {
    let case = Case::new();
    let used = std::time::SystemTime::now() - Duration::from_secs(100);
    case.made("booted").await.lock.set_modified(used).unwrap();
    let old = used - Duration::from_secs(100);
    for name in ["0123", "4567.making"] {
        let rubbish = case.store.folder().join(name);
        fs::create_dir(&rubbish).unwrap();
        writes(&rubbish).await.unwrap();
        fs::File::open(&rubbish).unwrap().set_modified(old).unwrap();
    }
    let before = case.names();
    let all = list(&case.store).unwrap();
    assert_eq!(all.iter().map(|entry| entry.used).collect::<Vec<_>>(), [used, old, old]);
    assert_eq!(case.names(), before, "who lists makes no locks");
    let gone = prune(&case.store, all[0].size).unwrap();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|entry| entry.key != case.key("booted").name()), "{gone:?}");
    assert_eq!(case.names().len(), 2, "the one that was used, and its lock");
}
