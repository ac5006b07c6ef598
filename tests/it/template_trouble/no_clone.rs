//! A clone that does not start, or starts and does not run: the machine is booted cold, with one line. A fake QEMU is the
//! guest here, which takes a state and then does what it is told.

use std::process::Command;

use super::case::Case;
use crate::again::{Process, count};

/// The words that tell the fake guest what its clones do. The script does not name the variable, so the template stays
/// the same.
fn told(case: &Case, clone: &str) -> Vec<String> {
    let mut command = case.command(Command::new(std::env::current_exe().unwrap()));
    // A clone may take as long as a boot, at most.
    command.env("FAKE_GUEST", format!("clone={clone}")).env("BOOT_LIMIT", "2");
    Process::start(&mut command).end()
}

/// The line that says why the machine was booted cold; it works.
#[track_caller]
fn cold(said: &[String]) -> &str {
    assert_eq!((count(said, "works"), count(said, "cloned")), (1, 0), "{said:#?}");
    let mut cold = said.iter().filter_map(|line| line.strip_prefix("note: guest boots cold: "));
    let (Some(why), None) = (cold.next(), cold.next()) else { panic!("{said:#?}") };
    why
}

fn started(said: &[String]) -> usize {
    said.iter().filter(|line| line.starts_with("qemu ")).count()
}

#[test]
fn a_clone_that_gives_no_sign_of_life_costs_a_cold_boot_twice_and_is_not_tried_again() {
    let case = Case::fake();
    for qemus in [3, 2] {
        let said = told(&case, "mute");
        assert!(cold(&said).starts_with("a clone did not run: "), "{said:#?}");
        assert_eq!(started(&said), qemus, "{said:#?}");
        assert_eq!(case.templates().len(), 1, "its template is good");
    }
    let said = told(&case, "mute");
    let why = cold(&said);
    assert!(why.starts_with("clones do not run on this host: ") && why.contains("doctor --retry"), "{why}");
    assert_eq!(started(&said), 1, "{said:#?}");
}

#[test]
fn what_the_host_lacks_for_a_moment_throws_no_template_away_and_is_not_remembered() {
    let case = Case::fake();
    for words in [
        "failed to initialize kvm: Device or resource busy",
        "cannot set up guest memory 'nixvm-memory': Cannot allocate memory",
        "could not open disk image: Too many open files",
        "Could not open '/x': No space left on device",
    ] {
        let said = told(&case, &format!("exit:{}", words.replace(' ', r"\s")));
        assert!(cold(&said).starts_with("a clone did not run: "), "{words}: {said:#?}");
        assert_eq!(case.templates().len(), 1, "{words}");
    }
    let said = told(&case, "ok");
    assert_eq!((count(&said, "login prompt"), count(&said, "cloned")), (0, 2), "{said:#?}");
}

#[test]
fn a_state_that_is_refused_is_made_again_once() {
    let case = Case::fake();
    for _ in 0..2 {
        let said = told(&case, r"refuse:Invalid\sargument");
        assert!(cold(&said).contains("loading the state failed: Invalid argument"), "{said:#?}");
        assert_eq!(case.templates().len(), 0, "it is thrown away");
    }
    assert!(cold(&told(&case, "ok")).starts_with("clones do not run on this host: "));
}

/// Clones of other templates run on this host, so the host is none of the cause.
#[test]
fn a_template_whose_clones_all_fail_is_made_again_once_and_then_left_alone() {
    let case = Case::fake();
    assert_eq!(count(&told(&case, "ok"), "cloned"), 2);
    let fails = |templates: usize| {
        let said = told(&case, r"exit:no\sluck");
        assert!(cold(&said).starts_with("a clone did not run: "), "{said:#?}");
        assert_eq!(case.templates().len(), templates, "{said:#?}");
        started(&said)
    };
    // That of the step, twice.
    assert_eq!((fails(2), fails(1)), (2, 2));
    // The one before, of which that of the step would be made again.
    assert_eq!((fails(1), fails(0)), (2, 2));
    // It is made again by a boot.
    assert_eq!((fails(1), fails(0)), (3, 2));
    let said = told(&case, "ok");
    let why = cold(&said);
    assert!(why.starts_with("clones of this moment do not run: ") && why.contains("doctor --retry"), "{why}");
    assert_eq!((started(&said), case.templates().len()), (1, 0), "{said:#?}");
    std::fs::remove_dir_all(case.path("cache/accelerator")).unwrap();
    assert_eq!(count(&told(&case, "ok"), "cloned"), 2);
}

/// What its kernel said of the stall would be in each clone.
#[test]
fn a_machine_whose_kernel_stalled_becomes_no_template() {
    let case = Case::fake();
    let stall = r"kernel-noise=every:1ms noise-from=services noise-limit=1 noise-text=watchdog:\sBUG:\ssoft\slockup\s-\sCPU#0\sstuck\sfor\s22s!\s[swapper/0:0]";
    let said = told(&case, &format!("ok {stall}"));
    assert!(cold(&said).contains("whose kernel stalled"), "{said:#?}");
    assert_eq!(case.templates().len(), 0, "{said:#?}");
    assert_eq!(count(&told(&case, "ok"), "cloned"), 2);
}
