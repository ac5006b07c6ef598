//! What of a suite runs, and how often: shares, orders, tries.

use std::collections::BTreeSet;

use crate::folder::{Folder, Ran};

/// The names of the scenarios that passed, in the order in which they ran.
fn passed(ran: &Ran) -> Vec<String> {
    let lines = ran.out.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    lines.map(|name| name.trim().to_owned()).collect()
}

fn twenty() -> Folder {
    let code = (0..20).map(|number| format!("#[scenario] async fn number_{number}() {{}}\n"));
    Folder::with("a.rs", &code.collect::<String>())
}

#[test]
fn shares_have_each_scenario_once_and_list_what_they_run() {
    let folder = twenty();
    for kind in ["hash", "count"] {
        let mut all = Vec::new();
        for share in 1..=3 {
            let share = format!("{kind}:{share}/3");
            let ran = folder.run(&["a.rs", "--partition", &share]);
            let mut its = passed(ran.ended_with(0));
            assert!(its.len() > 1 && its.len() < 19, "{share}: {its:?}");
            let list = folder.run(&["a.rs", "--partition", &share, "--", "--list"]);
            let mut listed: Vec<String> = list
                .ended_with(0)
                .out
                .lines()
                .map(|line| line.trim_end_matches(": test").to_owned())
                .collect();
            its.sort();
            listed.sort();
            assert_eq!(its, listed);
            all.extend(its);
        }
        assert_eq!(all.len(), 20, "{kind}: {all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 20, "{kind}: {all:?}");
    }
}

#[test]
fn a_seed_decides_the_order_and_loses_none() {
    let folder = twenty();
    let order = |arguments: &[&str]| {
        let ran = folder.run(&[&["a.rs", "--jobs", "1"], arguments].concat());
        let mut passed = passed(ran.ended_with(0));
        let as_it_ran = passed.clone();
        passed.sort();
        (as_it_ran, passed)
    };
    let ((as_written, all), (shuffled, same)) = (order(&[]), order(&["--shuffle", "1"]));
    assert_eq!((all.len(), &all), (20, &same));
    assert_ne!(as_written, shuffled);
}

#[test]
fn what_passes_on_another_try_is_named_flaky_and_what_never_does_fails() {
    let folder = Folder::with(
        "a.rs",
        r#"
fn tries(name: &str) -> usize {
    let before = std::fs::read_to_string(name).unwrap_or_default();
    std::fs::write(name, format!("{before}x")).unwrap();
    before.len() + 1
}
#[scenario] async fn third_time_lucky() { assert_eq!(tries("lucky"), 3) }
#[scenario(retries = 1)] async fn tried_twice() { assert_eq!(tries("twice"), 3) }
#[scenario] async fn steady() { assert_eq!(tries("steady"), 1) }
"#,
    );
    let ran = folder.run(&["a.rs", "--retries", "2"]);
    ran.ended_with(1)
        .printed("test third_time_lucky ... ok")
        .printed("test tried_twice      ... FAILED")
        .printed("test steady           ... ok")
        .said("nixvm-test: third_time_lucky: try 1 of 3 failed: ")
        .said("nixvm-test: third_time_lucky: flaky: it passed on try 3 of 3")
        .said("nixvm-test: tried_twice: try 1 of 2 failed: ");
    assert_eq!(ran.err.matches("flaky").count(), 1, "{}", ran.err);
    assert_eq!(std::fs::read_to_string(folder.path().join("twice")).unwrap(), "xx");
}
