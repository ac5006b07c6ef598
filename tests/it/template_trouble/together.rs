//! Templates of several machines: whatever happens to one of them, all are clones of one moment, or all are booted.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;

use nixvm_test::Result;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::template::{self, Before, Member, Moment, Together};
use nixvm_test::machine::{Machine, MachineOptions};

use super::case::Case;
use super::{answers, place, said};
use crate::again::{Process, count, say};

const PROCESS: &str = "template_trouble::together::process";

/// Gets two machines after a step of both, says what happens, and tries them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the tests below"]
async fn process() {
    let Ok(script) = std::env::var("SCRIPT") else { return };
    let events = said();
    let second = std::env::var("SECOND").unwrap_or_else(|_| script.clone());
    let member = |(name, script): (&str, &str)| Member {
        vm: BuiltVm::open(script).unwrap(),
        options: MachineOptions::new(name)
            .events(events.clone())
            .boot_limit(std::time::Duration::from_secs(2)),
    };
    let [one, two] = names();
    let members: Vec<Member> = [(two, &*second), (one, &*script)].map(member).into();
    let from = match std::env::var("FROM").as_deref() {
        Ok("off") => Before::Off,
        _ => Before::Each(Moment::Booted),
    };
    let together = Together { from, name: "step".to_owned(), machines: names().into(), step };
    let machines = template::machines(members, &together, &events).await.unwrap();
    assert!(machines.iter().map(Machine::name).eq([two, one]), "in the order in which they were asked for");
    for machine in &machines {
        answers(machine, "x").await.unwrap();
    }
    say("works");
}

/// Fails if it does not get the machines in its own order.
fn step(machines: &mut [Machine]) -> Pin<Box<dyn Future<Output = Result> + Send + '_>> {
    Box::pin(async move {
        let [one, two] = machines else { panic!("{machines:?}") };
        assert_eq!([one.name(), two.name()], names());
        answers(one, "s").await?;
        answers(two, "s").await?;
        say("in the step");
        while place().join("in-step").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    })
}

/// The machines' names.
fn names() -> [&'static str; 2] {
    match std::env::var_os("NAMES_OF_FILES") {
        Some(_) => ["impossible", "seal.json"],
        None => ["one", "two"],
    }
}

fn process_of(case: &Case, variables: &[(&str, &str)]) -> Process {
    let mut command = case.command_for(Command::new(std::env::current_exe().unwrap()), PROCESS);
    Process::start(command.envs(variables.iter().copied()))
}

fn ran(case: &Case, variables: &[(&str, &str)]) -> Vec<String> {
    let said = process_of(case, variables).end();
    assert_eq!(count(&said, "works"), 1, "{said:#?}");
    said
}

/// The notes about templates, without what they begin with.
fn notes(said: &[String]) -> Vec<&str> {
    let notes = said.iter().filter_map(|line| line.strip_prefix("note: "));
    notes.filter(|note| !note.starts_with("machines run under TCG")).collect()
}

fn started(said: &[String]) -> usize {
    said.iter().filter(|line| line.starts_with("qemu ")).count()
}

/// The folder of the template of both.
fn folder(case: &Case) -> PathBuf {
    let folders = case.templates().into_iter().map(|name| case.path("cache/templates").join(name));
    folders.into_iter().find(|folder| folder.join("machine-two").is_dir()).unwrap()
}

#[test]
fn both_are_made_once_and_cloned_from_then_on() {
    let case = Case::fake();
    let said = ran(&case, &[]);
    // One template of the login prompt serves both, and the step needs a clone of it for each.
    assert_eq!((count(&said, "login prompt"), count(&said, "in the step")), (1, 1), "{said:#?}");
    assert_eq!((count(&said, "saved"), count(&said, "cloned")), (3, 4), "{said:#?}");
    assert_eq!(case.templates().len(), 2);
    let said = ran(&case, &[]);
    assert_eq!((count(&said, "in the step"), count(&said, "cloned"), started(&said)), (0, 2, 2), "{said:#?}");
    // Machines that boot together are another moment.
    let said = ran(&case, &[("FROM", "off")]);
    assert_eq!((count(&said, "login prompt"), count(&said, "in the step")), (2, 1), "{said:#?}");
    assert_eq!((started(&ran(&case, &[("FROM", "off")])), case.templates().len()), (2, 3));
}

#[test]
fn two_processes_that_want_both_at_once_make_them_once() {
    let case = Case::fake();
    case.hold("in-step");
    let mut first = process_of(&case, &[]);
    first.until("in the step");
    let mut second = process_of(&case, &[]);
    second.until("note: waiting for the template");
    case.go_on("in-step");
    let (first, second) = (first.end(), second.end());
    assert_eq!((count(&first, "works"), count(&second, "works")), (1, 1), "{first:#?} {second:#?}");
    assert_eq!((count(&second, "in the step"), started(&second)), (0, 2), "{second:#?}");
}

#[test]
fn a_maker_that_is_killed_leaves_nothing_that_is_used() {
    let case = Case::fake();
    case.hold("in-step");
    let mut first = process_of(&case, &[]);
    first.until("in the step");
    first.kill();
    case.go_on("in-step");
    let said = ran(&case, &[]);
    assert_eq!((count(&said, "in the step"), count(&said, "login prompt")), (1, 0), "{said:#?}");
    assert_eq!(case.templates().len(), 2, "{:?}", case.templates());
}

/// The run script shows it, or QEMU says it once the machine has booted.
#[test]
fn one_machine_that_can_not_be_cloned_has_both_booted_with_one_line() {
    let share = "-virtfs local,path=/tmp,mount_tag=x,security_model=none";
    for (shown, boots) in [("\\\n  ", [2, 2]), ("", [4, 2])] {
        let case = Case::fake();
        let script = format!(
            "exec {} -m 64 -nographic {shown}{share} -append \"console=ttyS0 $QEMU_KERNEL_PARAMS\" $QEMU_OPTS\n",
            nixvm_fake_guest::binary().display()
        );
        let shares = crate::run_script::RunScript::new(&script);
        let path = shares.path().display().to_string();
        for boots in boots {
            let said = ran(&case, &[("SECOND", &path)]);
            let [note] = notes(&said)[..] else { panic!("{said:#?}") };
            assert!(
                note.starts_with("one and two boot cold: two: it shares folders with the host by 9p"),
                "{note}"
            );
            // The step runs on the machines that are booted.
            assert_eq!((count(&said, "login prompt"), count(&said, "in the step")), (boots, 1), "{said:#?}");
            assert_eq!(started(&said), boots, "{said:#?}");
        }
    }
}

#[test]
fn one_clone_that_does_not_run_has_both_booted_with_one_line() {
    let case = Case::fake();
    ran(&case, &[]);
    let said = ran(&case, &[("FAKE_GUEST", r"clone=exit:no\sluck clone-of=two")]);
    let [note] = notes(&said)[..] else { panic!("{said:#?}") };
    assert!(note.starts_with("one and two boot cold: two: a clone did not run: "), "{note}");
    assert_eq!(
        (count(&said, "login prompt"), count(&said, "in the step"), started(&said)),
        (2, 1, 4),
        "{said:#?}"
    );
    assert_eq!(case.templates().len(), 2, "the first failure may be the host's");
    // The second one is the template's, which is made again.
    ran(&case, &[("FAKE_GUEST", r"clone=exit:no\sluck clone-of=two")]);
    assert_eq!(case.templates().len(), 1);
    let said = ran(&case, &[]);
    assert_eq!((count(&said, "in the step"), case.templates().len()), (1, 2), "{said:#?}");
}

#[test]
fn a_state_of_one_that_is_refused_throws_both_away() {
    let case = Case::fake();
    ran(&case, &[]);
    let said = ran(&case, &[("FAKE_GUEST", r"clone=refuse:Invalid\sargument clone-of=one")]);
    let [note] = notes(&said)[..] else { panic!("{said:#?}") };
    assert!(note.contains("one: a clone did not run: loading the state failed"), "{note}");
    assert_eq!(case.templates().len(), 1);
}

#[test]
fn machines_may_have_the_names_of_files_of_a_template() {
    let case = Case::fake();
    ran(&case, &[("NAMES_OF_FILES", "1")]);
    let said = ran(&case, &[("NAMES_OF_FILES", "1")]);
    assert_eq!((notes(&said), started(&said)), (vec![], 2), "{said:#?}");
}

#[test]
fn a_part_that_is_damaged_or_gone_has_all_made_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("machine-two/known.json", |folder| fs::write(folder.join("machine-two/known.json"), "{}").unwrap()),
        ("machine-one/known.json", |folder| fs::remove_dir_all(folder.join("machine-one")).unwrap()),
        ("frames.json", |folder| fs::write(folder.join("frames.json"), "").unwrap()),
        ("machine-two/more", |folder| fs::write(folder.join("machine-two/more"), "").unwrap()),
    ];
    let case = Case::fake();
    ran(&case, &[]);
    for (file, damage) in damages {
        damage(&folder(&case));
        let said = ran(&case, &[]);
        let notes = notes(&said);
        assert!(
            matches!(&notes[..], [note] if note.starts_with("a template is made again: ")),
            "{file}: {notes:?}"
        );
        assert_eq!((count(&said, "in the step"), count(&said, "login prompt")), (1, 0), "{file}: {said:#?}");
    }
    // One that was pruned.
    fs::remove_dir_all(folder(&case)).unwrap();
    assert_eq!(count(&ran(&case, &[]), "in the step"), 1);
}
