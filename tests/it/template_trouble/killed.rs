//! Who makes a template, or waits for it, is killed.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::case::Case;
use crate::again::count;

#[test]
fn templates_are_made_once_and_then_used() {
    let case = Case::new();
    let said = case.next_works();
    // Booted for the first template, cloned for the second, and cloned for itself.
    assert_eq!(
        (count(&said, "login prompt"), count(&said, "cloned"), count(&said, "in the step")),
        (1, 2, 1)
    );
    let said = case.next_works();
    assert_eq!(
        (count(&said, "login prompt"), count(&said, "cloned"), count(&said, "note: guest")),
        (0, 1, 0)
    );
}

#[test]
fn the_maker_is_killed_half_way_and_whoever_waits_makes_it() {
    for moment in ["before-boot", "in-step"] {
        let case = Case::new();
        case.hold(moment);
        let mut maker = case.process();
        match moment {
            "in-step" => drop(maker.until("in the step")),
            _ => {
                while case.templates().is_empty() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        let mut waiting = case.process();
        waiting.until("note: waiting for the template");
        assert!(case.templates().iter().any(|name| name.ends_with(".making")), "{:?}", case.templates());
        maker.kill();
        case.go_on(moment);
        let said = waiting.end();
        assert_eq!((count(&said, "in the step"), count(&said, "works")), (1, 1), "{said:?}");
        assert_eq!(count(&said, "note: guest boots cold"), 0, "{said:?}");
        case.is_clean();
        assert_eq!(count(&case.next_works(), "cloned"), 1);
    }
}

#[test]
fn the_maker_is_killed_at_any_moment_and_the_next_run_just_works() {
    let case = Case::new();
    let begun = Instant::now();
    case.next_works();
    let whole = begun.elapsed();
    const KILLS: u32 = 10;
    for number in 0..KILLS {
        let case = Case::new();
        let maker = case.process();
        std::thread::sleep(whole * number / KILLS);
        maker.kill();
        let said = case.next_works();
        assert_eq!(count(&said, "note: guest boots cold"), 0, "killed after {number}/{KILLS}: {said:?}");
    }
}

#[test]
fn the_makers_qemu_is_killed_and_the_machine_is_booted_cold() {
    let case = Case::new();
    case.hold("in-step");
    let mut maker = case.process();
    maker.until("login prompt");
    let qemu: i32 = maker.until("qemu ").parse().unwrap();
    maker.until("in the step");
    kill_process(Pid::from_raw(qemu).unwrap(), Signal::KILL).unwrap();
    let cold = maker.until("note: ");
    assert!(cold.starts_with("guest boots cold: ") && cold.contains("QEMU"), "{cold}");
    case.go_on("in-step");
    let said = maker.end();
    assert_eq!(
        (count(&said, "login prompt"), count(&said, "works"), count(&said, "note")),
        (1, 1, 0),
        "{said:?}"
    );
    assert_eq!(case.templates().len(), 1, "what was half made is gone: {:?}", case.templates());
    assert_eq!(count(&case.next_works(), "cloned"), 2);
}
