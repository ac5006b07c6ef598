//! Tests of the list, with all entries in this process.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::list::LIST;
use super::*;
use crate::ErrorKind;

const SMALL: Need = Need { memory: 1000, cores: 1 };
const CAPACITY: Capacity = Capacity::new(3500, 2);

fn done<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Far beyond every limit in these tests: it only shows that nothing hangs.
    let limited = async { tokio::time::timeout(Duration::from_secs(300), what).await };
    runtime.block_on(limited).expect("no wait without a limit")
}

fn demanded(folder: &Path, demand: Demand) -> Result<Permit, NotLocked> {
    done(super::ask(folder, demand, &Events::none()))
}

fn ask(folder: &Path, need: Need) -> Result<Permit, NotLocked> {
    demanded(folder, Demand { need, machines: 1, run: Some(Run::new(None)) })
}

fn may_run(permit: &Permit, capacity: Capacity) -> Result<bool, NotLocked> {
    let turn = done(super::may_run(permit, capacity, &Events::none()))?;
    Ok(matches!(turn, Turn::Runs))
}

fn runs(permit: &Permit) -> bool {
    may_run(permit, CAPACITY).unwrap()
}

fn change<T>(folder: &Path, how: impl FnOnce(&mut Vec<Entry>) -> T) -> Result<T, NotLocked> {
    Folder::open(folder)?.change_blocking(MOMENT, how)
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn as_many_run_as_there_is_room_for_and_the_first_who_asked_is_next() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let [one, two, large, last] =
        [SMALL, SMALL, Need { memory: 3000, cores: 2 }, SMALL].map(|need| ask(here, need).unwrap());
    assert!(runs(&one) && runs(&two));
    assert!(!runs(&large) && !runs(&last), "no more cores");
    drop(one);
    assert!(!runs(&last), "the large one asked before");
    assert!(!runs(&large), "one of two cores is free");
    drop(two);
    assert!(runs(&large) && !runs(&last));
    drop(large);
    assert!(runs(&last));
    drop(last);
    assert_eq!(entries(here), 1, "the list alone is left");
}

#[test]
fn a_machine_that_a_person_has_open_waits_for_nobody_and_others_see_it() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let [one, two, waits] = [SMALL, SMALL, SMALL].map(|need| ask(here, need).unwrap());
    assert!(runs(&one) && runs(&two) && !runs(&waits));
    let persons = by_hand::run_at_once(here, SMALL).unwrap();
    drop(one);
    assert!(!runs(&waits), "two of two processors are taken");
    assert!(change(here, |list| list.iter().any(Entry::is_by_hand)).unwrap());
    drop(persons);
    assert!(runs(&waits));
    drop((two, waits));
    assert_eq!(entries(here), 1, "the list alone is left");
}

#[test]
fn what_is_more_than_there_is_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let huge = ask(folder.path(), Need { memory: 1 << 40, cores: 64 }).unwrap();
    let small = ask(folder.path(), SMALL).unwrap();
    assert!(may_run(&huge, CAPACITY).unwrap());
    assert!(!may_run(&small, CAPACITY).unwrap());
}

#[test]
fn who_died_is_taken_off_the_list_whether_it_ran_or_waited() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let dead: Vec<_> = (0..4).map(|_| ask(here, SMALL).unwrap()).collect();
    assert!(may_run(&dead[0], CAPACITY).unwrap() && may_run(&dead[1], CAPACITY).unwrap());
    for permit in dead {
        // As the kernel does it: only the lock is released.
        permit._lock.unlock().unwrap();
        std::mem::forget(permit);
    }
    let next = ask(here, SMALL).unwrap();
    assert!(may_run(&next, CAPACITY).unwrap());
    drop(next);
    assert_eq!(entries(here), 1);
}

#[test]
fn a_damaged_list_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LIST);
    let outside = folder.path().with_extension("kept");
    fs::write(&outside, "kept").unwrap();
    let named = |holder: &str| {
        format!(r#"[{{"holder":"{holder}","need":{{"memory":1,"cores":999}},"runs":true}}]"#).into_bytes()
    };
    let elsewhere = format!("../{}", outside.file_name().unwrap().to_str().unwrap());
    for damage in [
        b"[{".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b'['; 300_000],
        vec![0; (2 << 20) + 1],
        named(&elsewhere),
        named(outside.to_str().unwrap()),
        named(LIST),
        named("0123456789abcdef"),
    ] {
        let permit = ask(folder.path(), SMALL).unwrap();
        fs::write(&path, &damage).unwrap();
        assert!(runs(&permit), "{}", String::from_utf8_lossy(&damage[..damage.len().min(80)]));
        assert!(fs::metadata(&path).unwrap().len() < 1000);
    }
    // Larger than any disk, and empty.
    let permit = ask(folder.path(), SMALL).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(6 << 30).unwrap();
    assert!(runs(&permit));
    assert!(fs::metadata(&path).unwrap().len() < 1000);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    fs::remove_file(outside).unwrap();
}

#[test]
fn a_list_that_is_no_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LIST);
    let kept = folder.path().join("kept");
    fs::write(&kept, "kept").unwrap();
    let make: [(&str, &dyn Fn()); 4] = [
        ("FIFO", &|| fifo(&path)),
        ("link", &|| std::os::unix::fs::symlink(&kept, &path).unwrap()),
        ("device", &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap()),
        ("folder", &|| fs::create_dir(&path).unwrap()),
    ];
    for (what, make) in make {
        make();
        let error = ask(folder.path(), SMALL).unwrap_err().to_string();
        assert!(error.contains(LIST), "{what}: {error}");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
}

#[test]
fn a_holder_that_is_no_file_is_one_that_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let holder = folder.path().join("0123456789abcdef");
    let kept = folder.path().join("kept");
    fs::write(&kept, "kept").unwrap();
    let make: [&dyn Fn(); 2] = [&|| fifo(&holder), &|| std::os::unix::fs::symlink(&kept, &holder).unwrap()];
    for make in make {
        make();
        let list = r#"[{"holder":"0123456789abcdef","need":{"memory":3000,"cores":2},"runs":true}]"#;
        fs::write(folder.path().join(LIST), list).unwrap();
        assert!(runs(&ask(folder.path(), SMALL).unwrap()));
        assert!(fs::symlink_metadata(&holder).is_err());
    }
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_list_that_another_process_holds_is_waited_for_with_a_limit_and_a_line_that_names_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let permit = ask(folder.path(), SMALL).unwrap();
    let mut holder = std::process::Command::new("flock")
        .arg(folder.path().join(LIST))
        .args(["sh", "-c", "echo; exec cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let (sender, said) = std::sync::mpsc::channel();
    let by = |by: &str| sender.send(by.to_owned()).unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    let failed = done(opened.change(Duration::from_millis(700), by, |_| ())).unwrap_err();
    let process = format!("process {} (flock)", holder.id());
    assert_eq!(said.recv().unwrap(), process);
    assert_eq!(failed.error("x").kind(), ErrorKind::Timeout);
    assert!(failed.to_string().starts_with(&process), "{failed}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(runs(&permit));
}

#[test]
fn what_is_waited_for_names_the_processes_that_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, waits] = [SMALL; 3].map(|need| ask(folder.path(), need).unwrap());
    assert!(runs(&one) && runs(&two));
    let turn = done(super::may_run(&waits, CAPACITY, &Events::none())).unwrap();
    let this = std::process::id();
    let text = format!("waiting until other machines on this host are done (this process ({this}))");
    assert_eq!(turn.told(folder.path()), text);
}

#[test]
fn memory_that_others_have_delays_a_machine_beside_others_and_not_the_first() {
    let folder = tempfile::tempdir().unwrap();
    // No host has that much, so other programs seem to use it.
    let need = Need { memory: 1 << 40, cores: 1 };
    let capacity = Capacity::found(1 << 50, 100);
    let by_hand = by_hand::run_at_once(folder.path(), SMALL).unwrap();
    let [first, second] = [need; 2].map(|need| ask(folder.path(), need).unwrap());
    assert!(may_run(&first, capacity).unwrap(), "a machine that a person has open may be there for ever");
    let turn = done(super::may_run(&second, capacity, &Events::none())).unwrap();
    let text = turn.told(folder.path());
    assert!(text.starts_with("waiting until 1099511627776 MiB of memory are available ("), "{text}");
    drop(first);
    assert!(may_run(&second, capacity).unwrap());
    drop(by_hand);
}

#[test]
fn a_run_has_no_more_machines_than_it_may_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let large = Capacity::new(100_000, 100);
    let of = |run: &str, jobs, machines| {
        let run = Some(Run { name: run.to_owned(), jobs });
        demanded(folder.path(), Demand { need: SMALL, machines, run }).unwrap()
    };
    let runs = |permit: &Permit| may_run(permit, large).unwrap();
    let first = of("one", Some(2), 1);
    let pair = of("one", Some(2), 2);
    let third = of("one", Some(2), 1);
    let other = of("other", None, 1);
    assert!(runs(&first) && !runs(&pair), "three would be more than two");
    assert!(!runs(&third), "the pair asked before");
    assert!(runs(&other), "another run does not wait for it");
    drop(first);
    assert!(runs(&pair) && !runs(&third));
    drop(pair);
    assert!(runs(&third));
    let crowd = of("one", Some(2), 5);
    assert!(!runs(&crowd));
    drop(third);
    assert!(runs(&crowd), "more than the run may have at once: alone");
}

#[test]
fn one_who_is_killed_while_writing_leaves_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let [one, other, third] = [SMALL; 3].map(|need| ask(here, need).unwrap());
    assert!(runs(&one) && runs(&other));
    // Overwritten, but not yet truncated to its length.
    let path = here.join(LIST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text:300}")).unwrap();
    assert!(!runs(&third), "the list is still known");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, text.trim_end());
}

#[test]
fn a_list_of_an_earlier_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let held = File::create(folder.path().join("00000000deadbeef")).unwrap();
    held.lock().unwrap();
    let list = r#"[{"holder":"00000000deadbeef","need":{"memory":3000,"cores":1},"runs":true}]"#;
    fs::write(folder.path().join(LIST), list).unwrap();
    let permit = ask(folder.path(), SMALL).unwrap();
    assert!(!runs(&permit));
    // A process that another test forks may have a copy of it for a moment.
    held.unlock().unwrap();
    assert!(runs(&permit));
}

/// Attacks by another user of this host, who is not root.
mod strangers {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::{environment, user_lock};

    const STRANGER: &str = "4242";

    /// A folder like /var/tmp, with a file of the attacked user in it.
    struct TestFolder(tempfile::TempDir);

    impl TestFolder {
        fn new() -> Option<Self> {
            if Command::new("setpriv").arg("--version").output().is_err()
                || !rustix::process::geteuid().is_root()
            {
                eprintln!("not root, or no setpriv: no process of another user can be started: not tested");
                return None;
            }
            let place = tempfile::tempdir_in("/tmp").unwrap();
            fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
            fs::create_dir(place.path().join("mine")).unwrap();
            fs::write(place.path().join("mine/kept"), "kept").unwrap();
            Some(Self(place))
        }

        fn admission(&self) -> PathBuf {
            self.0.path().join("admission")
        }

        /// Starts the stranger's actions in that folder. They have begun when this returns, and continue
        /// until it is dropped.
        fn stranger(&self, does: &str) -> Stranger {
            let script = format!("set -e; umask 0; {does}\necho ready; exec cat");
            let mut child = Command::new("setpriv")
                .args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "sh", "-c", &script])
                .current_dir(self.0.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
            assert_eq!(&said, b"ready\n");
            Stranger(child)
        }
    }

    struct Stranger(Child);

    impl Drop for Stranger {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    /// Returns a list with one running entry, in a folder that everyone may write to.
    fn listed(holder: &str, cores: u64) -> String {
        format!(
            "mkdir admission; echo '[{{\"holder\":\"{holder}\",\"need\":{{\"memory\":9,\"cores\":{cores}}},\
             \"runs\":true}}]' >admission/list.json"
        )
    }

    #[test]
    fn what_a_stranger_put_in_the_place_of_the_folder_is_refused_by_name_and_nothing_is_removed_or_waited_for()
     {
        let held = "0123456789abcdef";
        for (attack, why) in [
            (listed("../mine/kept", 9), "belongs to the user 4242"),
            ("mkdir admission; mkfifo admission/list.json".to_owned(), "belongs to the user 4242"),
            (format!("{}; mkfifo admission/{held}", listed(held, 9)), "belongs to the user 4242"),
            ("mkdir admission; ln -s /dev/zero admission/list.json".to_owned(), "belongs to the user 4242"),
            ("mkdir admission; truncate -s 6G admission/list.json".to_owned(), "belongs to the user 4242"),
            ("mkdir admission; exec 9>admission/list.json; flock 9".to_owned(), "belongs to the user 4242"),
            (format!("{}; exec 9>admission/{held}; flock 9", listed(held, 999)), "belongs to the user 4242"),
            ("mkdir -m 755 admission".to_owned(), "belongs to the user 4242"),
            ("mkdir -m 700 admission".to_owned(), "belongs to the user 4242"),
            ("ln -s mine admission".to_owned(), "symbolic link"),
            ("ln -s nothing admission".to_owned(), "symbolic link"),
            ("mkfifo admission".to_owned(), "not a folder"),
            ("touch admission".to_owned(), "not a folder"),
        ] {
            let Some(place) = TestFolder::new() else { return };
            let _stranger = place.stranger(&attack);
            let failed = ask(&place.admission(), SMALL).expect_err(&attack).to_string();
            assert!(failed.contains("admission") && failed.contains(why), "{attack}: {failed}");
            let mine: Vec<_> = fs::read_dir(place.0.path().join("mine")).unwrap().flatten().collect();
            assert_eq!(mine.len(), 1, "{attack}");
            assert_eq!(fs::read_to_string(place.0.path().join("mine/kept")).unwrap(), "kept", "{attack}");
        }
    }

    #[test]
    fn a_folder_of_ones_own_that_all_could_write_to_is_refused() {
        let Some(place) = TestFolder::new() else { return };
        fs::create_dir(place.admission()).unwrap();
        fs::set_permissions(place.admission(), fs::Permissions::from_mode(0o777)).unwrap();
        let _stranger = place.stranger(&listed("../mine/kept", 9).replace("mkdir admission; ", ""));
        let failed = ask(&place.admission(), SMALL).unwrap_err().to_string();
        assert!(failed.contains("other users may write to it"), "{failed}");
    }

    #[test]
    fn a_stranger_can_not_look_into_the_folder_or_lock_anything_in_it() {
        let Some(place) = TestFolder::new() else { return };
        let permit = ask(&place.admission(), SMALL).unwrap();
        let _stranger = place.stranger(
            "! ls admission 2>/dev/null; ! cat admission/list.json 2>/dev/null; ! (exec 9<admission/list.json) \
             2>/dev/null; ! touch admission/list.json 2>/dev/null; ! mv admission other 2>/dev/null; \
             ! rm -r admission 2>/dev/null",
        );
        assert!(runs(&permit));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&place.admission()), mode(&place.admission().join(LIST))), (0o700, 0o600));
    }

    #[test]
    fn the_folder_is_in_the_cache_of_the_user() {
        if !environment::is_set(user_lock::VARIABLE) {
            assert_eq!(user_lock::path().unwrap(), crate::cache::dir().unwrap().join("admission"));
        }
    }
}
