//! What the helper keeps ready: shells, forked from one, under a name that says what they are.

use crate::guest::{Guest, Way, runs, until};

/// Says the shell that waits for it, and the one from which that was forked.
const ANCESTORS: &str = "read -r _ _ _ lane _ </proc/$BASHPID/stat; read -r _ _ _ stem _ </proc/$lane/stat";

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The shell from which the lanes are forked: the one child of what serves.
fn stem(guest: &Guest) -> i32 {
    let mut found = Vec::new();
    until("there is one", || {
        found = children(guest.pid());
        found.len() == 1
    });
    found[0]
}

/// Has so many commands run at the same time.
fn at_once(guest: &mut Guest, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let text = format!(
        ": >{}/$BASHPID; until [ -e {} ]; do sleep 0.01; done",
        folder.path().display(),
        go.display()
    );
    let ids: Vec<u32> = (0..count).map(|_| guest.begin(&text, "")).collect();
    until("all run", || std::fs::read_dir(folder.path()).unwrap().count() == count);
    std::fs::write(&go, "").unwrap();
    for id in ids {
        assert_eq!(guest.finish(id).status, Some(0));
    }
}

#[test]
fn the_list_of_processes_has_our_name_and_not_our_script() {
    let mut guest = Guest::start(Way::Helper);
    let shown = r#"bash -c read -r;shift;eval "$REPLY" bash nixvm-worker "#;
    let text =
        format!("{ANCESTORS}; for p in $BASHPID $lane $stem; do tr '\\0' ' ' </proc/$p/cmdline; echo; done");
    assert_eq!(guest.run(&text).text(), format!("{shown}\n").repeat(3));
    // What a command's text says is in no command line either.
    assert_eq!(
        guest.run("grep -lz 'no[t]ed' /proc/[0-9]*/cmdline 2>/dev/null | wc -l # noted").text(),
        "0\n"
    );
    assert_eq!(guest.run("echo $# ${nixvm_orders-none}").text(), "0 none\n");
}

#[test]
fn as_many_as_ran_at_once_are_kept_ready_up_to_a_limit() {
    let mut guest = Guest::start(Way::Helper);
    let stem = stem(&guest);
    assert!(children(stem).len() <= 4, "{:?}", children(stem));
    at_once(&mut guest, 20);
    let with_workers = || children(stem).into_iter().filter(|lane| !children(*lane).is_empty()).count();
    until("their lanes have workers", || with_workers() >= 20);
    at_once(&mut guest, 60);
    until("what is more than enough has ended", || children(stem).len() <= 34);
    until("those have workers", || with_workers() >= 20);
}

#[test]
fn the_stem_is_killed_and_another_takes_its_place() {
    let mut guest = Guest::start(Way::Helper);
    for times in 1..4 {
        let before = stem(&guest);
        guest.run(&format!("kill -9 {before}"));
        until("it is gone", || !runs(before));
        // More than are ready, which outlive it.
        at_once(&mut guest, times * 12);
    }
}

#[test]
fn nothing_is_left_of_the_stem_when_the_port_closes() {
    let mut guest = Guest::start(Way::Helper);
    at_once(&mut guest, 5);
    let stem = stem(&guest);
    let lanes = children(stem);
    assert!(!lanes.is_empty());
    guest.close();
    until("all have ended", || !runs(stem) && !lanes.iter().any(|lane| runs(*lane)));
}

/// A shell that says nothing, since it was stopped or killed at its birth, tells nobody.
#[test]
fn a_stem_that_says_nothing_any_more_is_replaced() {
    let mut guest = Guest::start(Way::Helper);
    let stopped = stem(&guest);
    guest.run(&format!("kill -STOP {stopped}"));
    // More than are ready.
    at_once(&mut guest, 6);
    until("it is gone", || !runs(stopped));
    at_once(&mut guest, 6);
}
