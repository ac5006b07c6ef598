//! What the helper keeps ready: shells that wait for a command, and that nobody can harm by ending them.

use crate::channel_guest::guest::{Guest, Way, runs, until};

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The workers that are ready, once there are so many.
fn ready(guest: &Guest, count: usize) -> Vec<i32> {
    let mut found = Vec::new();
    until("so many are ready", || {
        found = children(guest.pid());
        found.retain(|pid| is_bash(*pid));
        found.len() >= count
    });
    found
}

fn is_bash(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.starts_with(b"bash\0-euo\0pipefail\0-c\0"))
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
fn the_list_of_processes_has_what_bash_was_given() {
    let mut guest = Guest::start(Way::Helper);
    ready(&guest, 8);
    for _ in 0..20 {
        let text = "tr '\\0' ' ' </proc/$$/cmdline; true";
        assert_eq!(guest.run(text).text().trim_end(), format!("bash -euo pipefail -c {text}"));
    }
    assert_eq!(guest.run("echo $# ${BASH_ENV-none}").text(), "0 none\n");
}

/// Who waits until no process has a word in its command line must not find the command that waits.
#[test]
fn a_hidden_text_is_in_no_command_line() {
    let mut guest = Guest::start(Way::Helper);
    let long = "x".repeat(200_000);
    for text in ["", "# 'é日'", &long] {
        let text =
            format!("grep -lz 'no[t]ed' /proc/[0-9]*/cmdline 2>/dev/null | wc -l || true # noted {text}\n\n");
        let outcome = guest.run_with(&text, "hidden 1\n");
        assert_eq!((outcome.status, outcome.text()), (Some(0), "0\n"), "{outcome:?}");
    }
}

#[test]
fn so_many_are_kept_ready_and_more_when_commands_come_fast() {
    let mut guest = Guest::start(Way::Helper);
    for kept in [8, 32, 32] {
        assert_eq!(ready(&guest, kept).len(), kept);
        at_once(&mut guest, 50);
    }
}

/// What kills every bash, or stops it, does not mean the commands that come after it.
#[test]
fn those_that_are_ready_are_killed_or_stopped() {
    let mut guest = Guest::start(Way::Helper);
    for signal in ["KILL", "TERM", "STOP", "HUP"] {
        for _ in 0..3 {
            let all = ready(&guest, 8).iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
            // Among them is the one that runs this.
            let text = format!("for p in {all}; do [ $p = $$ ] || kill -{signal} $p; done; echo done");
            assert_eq!(guest.run(&text).text(), "done\n", "{signal}");
            for _ in 0..12 {
                let outcome = guest.run("echo $(id -un >/dev/null; echo next)");
                assert_eq!((outcome.status, outcome.text()), (Some(0), "next\n"), "{signal}: {outcome:?}");
            }
        }
    }
    at_once(&mut guest, 30);
}

#[test]
fn nothing_is_left_of_them_when_the_port_closes() {
    let mut guest = Guest::start(Way::Helper);
    at_once(&mut guest, 5);
    let all = ready(&guest, 8);
    guest.close();
    until("all have ended", || !all.iter().any(|pid| runs(*pid)));
    // Nor when it is killed.
    let mut guest = Guest::start(Way::Helper);
    let all = ready(&guest, 8);
    let pid = rustix::process::Pid::from_raw(guest.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    guest.wait();
    until("all have ended", || !all.iter().any(|pid| runs(*pid)));
}
