//! The list, with everyone in this process.

use super::*;

const SMALL: Need = Need { memory: 1000, cores: 1 };
const CAPACITY: Capacity = Capacity::new(3500, 2);

fn ask(folder: &Path, need: Need) -> io::Result<Permit> {
    super::ask(folder, Demand { need, machines: 1, run: None })
}

fn runs(permit: &Permit) -> bool {
    may_run(permit, CAPACITY).unwrap()
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
        // As the kernel does it: the lock goes, and nothing else.
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
    let permit = ask(folder.path(), SMALL).unwrap();
    fs::write(folder.path().join(LIST), "[{").unwrap();
    assert!(may_run(&permit, CAPACITY).unwrap());
}

#[test]
fn a_run_has_no_more_machines_than_it_may_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let large = Capacity::new(100_000, 100);
    let of = |run: &str, jobs, machines| {
        let run = Some(Run { name: run.to_owned(), jobs });
        super::ask(folder.path(), Demand { need: SMALL, machines, run }).unwrap()
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
    // Written over, and not yet cut to its length.
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
    let held = File::create(folder.path().join("a")).unwrap();
    held.lock().unwrap();
    let list = r#"[{"holder":"a","need":{"memory":3000,"cores":1},"runs":true}]"#;
    fs::write(folder.path().join(LIST), list).unwrap();
    let permit = ask(folder.path(), SMALL).unwrap();
    assert!(!runs(&permit));
    drop(held);
    assert!(runs(&permit));
}

/// Users that share a host: each is a process of its own.
mod users {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// What runs as another user: asks, and says whether it may run, each time it is asked.
    #[test]
    #[ignore = "is started by the test below, as another user"]
    fn one_of_them() {
        let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return };
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let mut permit = Some(ask(&folder, SMALL).unwrap());
        for line in std::io::stdin().lines() {
            match line.unwrap().as_str() {
                "may you run?" => println!("\nanswer: {}", runs(permit.as_ref().unwrap())),
                _ => drop(permit.take()),
            }
        }
    }

    struct User(Child, BufReader<std::process::ChildStdout>);

    impl User {
        fn new(id: u32, program: &Path, folder: &Path) -> Self {
            let mut child = Command::new(program)
                .args([
                    "--ignored",
                    "--exact",
                    "scenario::admission::tests::users::one_of_them",
                    "--nocapture",
                ])
                .env(VARIABLE, folder)
                .current_dir("/")
                .uid(id)
                .gid(id)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut user = Self(child, out);
            // It is on the list before the next one asks.
            user.runs();
            user
        }

        fn runs(&mut self) -> bool {
            writeln!(self.0.stdin.as_mut().unwrap(), "may you run?").unwrap();
            let answer =
                self.1.by_ref().lines().map(|line| line.unwrap()).find(|line| line.starts_with("answer: "));
            answer.expect("an answer").ends_with("true")
        }

        fn killed(mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }

        fn done(mut self) {
            drop(self.0.stdin.take());
            assert!(self.0.wait().unwrap().success());
        }
    }

    #[test]
    fn users_are_counted_together_whoever_came_first_and_however_they_end() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: nobody else's processes can be started, so this is not tested");
            return;
        }
        // Where all users may read it.
        let place = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let program = place.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        for [one, other, third] in [[65534, 0, 4242], [0, 65534, 4242]] {
            let folder = place.path().join(format!("admission {one}"));
            let user = |id| User::new(id, &program, &folder);
            let (mut first, mut second, mut third) = (user(one), user(other), user(third));
            assert!(first.runs() && second.runs() && !third.runs(), "two processors, three users");
            first.killed();
            assert!(third.runs(), "what another user's process left is not counted");
            second.done();
            third.done();
            let list = fs::metadata(folder.join(LIST)).unwrap();
            assert_eq!(list.permissions().mode() & 0o777, 0o666);
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o1777);
        }
    }
}
