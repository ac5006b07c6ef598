//! A host with little room: processes, threads, open files, memory. Each limit is an error that names it, and never an
//! abort or a wait without an end. A cache that can't be written is none of them: machines boot cold.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran, take_over};
use crate::small_disk;

/// Another user, whose processes are counted apart: limits of processes do not bind root. No other test has it.
const OTHER: &str = "4243";

/// A suite of one scenario with this signature and body, which needs no cargo any more: its binary is `suite`.
fn suite(scenario: &str, body: &str) -> Folder {
    let copies = "let own = std::env::current_exe().unwrap(); let _ = std::fs::copy(own, \"suite\");";
    let folder = Folder::with("a.rs", &format!("#[scenario] async fn {scenario} {{ {copies} {body} }}"));
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(0);
    for name in ["cache", "runs", "home"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

/// The programs that start another one as another user, if that is possible here. The folder is made fit for that user.
fn as_another_user(folder: &Folder) -> Option<[&'static str; 6]> {
    let has_program = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !has_program("setpriv") || !rustix::process::geteuid().is_root() {
        eprintln!(
            "not root, or no setpriv: no process of another user can be started, so this is not tested"
        );
        return None;
    }
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["cache", "runs", "home"] {
        std::os::unix::fs::chown(folder.path().join(name), OTHER.parse().ok(), None).unwrap();
    }
    Some(["setpriv", "--reuid", OTHER, "--regid", OTHER, "--clear-groups"])
}

/// Runs the suite with at most these numbers of processes. Each run passes, or names the limit as its error.
fn passes_or_names_the_limit(folder: &Folder, by: &[&str], limits: impl IntoIterator<Item = u32>) {
    for most in limits {
        let ran = run(folder, by, &format!("ulimit -u {most}"));
        if ran.code != Some(0) {
            ran.ended_with(5);
            let said = format!("{}{}", ran.out, ran.err);
            let named = format!("this user may have {most} processes and threads at once (`ulimit -u`)");
            assert!(said.contains(&named) && !said.contains("panicked"), "{most}: {said}");
        }
        assert!(most > 5 || ran.code == Some(5), "{most}: {ran:?}");
    }
}

/// Runs the suite by a shell that says `limit` first. A run that hangs is killed.
fn run(folder: &Folder, by: &[&str], limit: &str) -> Ran {
    let command = folder.command(&[]);
    let mut limited = Command::new("timeout");
    limited.args(["--signal=KILL", "120"]).args(by).args(["bash", "-c", &format!("{limit}; exec ./suite")]);
    limited.current_dir(folder.path()).stdin(Stdio::null());
    take_over(&mut limited, &command);
    for (variable, name) in [("NIXVM_CACHE_DIR", "cache"), ("NIXVM_RUNS", "runs"), ("HOME", "home")] {
        limited.env(variable, folder.path().join(name));
    }
    limited.env("NIXVM_VM", folder.path().join("result")).env("TMPDIR", folder.path().join("home"));
    Ran::of(&mut limited)
}

#[test]
fn a_limit_of_processes_is_an_error_that_names_it() {
    let folder = suite("takes_none()", "");
    let Some(by) = as_another_user(&folder) else { return };
    passes_or_names_the_limit(&folder, &by, 1..=16);
    run(&folder, &by, "ulimit -u 200").ended_with(0);
}

#[test]
fn a_limit_of_processes_is_an_error_that_names_it_wherever_a_machine_meets_it() {
    let folder = suite("boots(machine: Machine) -> Result", LOGS_IN);
    let Some(by) = as_another_user(&folder) else { return };
    // With more, the stand-in for the guest gets some of its own processes, which a guest has without the host.
    passes_or_names_the_limit(&folder, &by, 8..=16);
}

#[test]
fn a_limit_of_processes_that_qemu_or_the_run_script_meets_is_no_failed_boot() {
    let folder = Folder::with("a.rs", "#[scenario] async fn boots(machine: Machine) { drop(machine) }");
    FakeVm::new().write_to(folder.path());
    for (says, ends) in [
        ("qemu: qemu_thread_create: Resource temporarily unavailable", "kill -ABRT $$"),
        ("run-nixos-vm: fork: retry: Resource temporarily unavailable", "exit 254"),
        ("run-nixos-vm: 7: Cannot fork", "exit 2"),
    ] {
        folder.program("result/bin/run-nixos-vm", format!("#!/bin/sh\necho '{says}' >&2\n{ends}\n"));
        let ran = folder.run(&["--vm", "result", "a.rs"]);
        ran.ended_with(5).printed(says).printed("likely cause: ").printed("processes and threads");
    }
}

/// The rest of a scenario that logs in on its machine.
const LOGS_IN: &str = r#"machine.login("alice", "test").await?.succeed("echo hello").await?; Ok(())"#;

#[test]
fn a_limit_of_memory_is_an_error_that_names_it_and_no_abort() {
    let folder = suite("boots(machine: Machine) -> Result", LOGS_IN);
    for (option, most) in
        [('v', 100_000), ('v', 200_000), ('v', 300_000), ('v', 400_000), ('v', 500_000), ('d', 100_000)]
    {
        let ran = run(&folder, &[], &format!("ulimit -{option} {most}"));
        ran.ended_with(5);
        let named = format!("this process may have {most} KiB of memory (`ulimit -{option}`)");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(&named) && !said.contains("memory allocation"), "{most}: {said}");
    }
    run(&folder, &[], "ulimit -v 8000000").ended_with(0);
}

#[test]
fn a_cache_that_is_read_only_has_machines_boot_cold_and_one_note() {
    let folder = suite("boots(machine: Machine) -> Result", LOGS_IN);
    let read_only = "mount -o remount,ro none \"$0\" && exec \"$@\"";
    let disk = tempfile::tempdir().unwrap();
    for cache in [disk.path().to_owned(), disk.path().join("below/it")] {
        let mut command = small_disk::with_script(disk.path(), "1m,mode=700", read_only);
        command.arg("./suite").current_dir(folder.path()).stdin(Stdio::null());
        take_over(&mut command, &folder.command(&[]));
        command.env("NIXVM_CACHE_DIR", &cache).env("NIXVM_VM", folder.path().join("result"));
        command.env("TMPDIR", folder.path().join("home"));
        let ran = Ran::of(&mut command);
        ran.ended_with(0);
        let note = format!("the cache, {}, is read-only: machines boot cold, and ", cache.display());
        assert_eq!(ran.err.matches(&note).count(), 1, "{}", ran.err);
        ran.said_not("Read-only file system");
    }
}

#[test]
fn a_limit_of_open_files_is_an_error_that_names_it() {
    let folder = suite("takes_none()", "");
    for most in [8, 10, 14, 18, 20, 24] {
        let ran = run(&folder, &[], &format!("ulimit -n {most}"));
        if ran.code != Some(0) {
            ran.ended_with(5);
            let said = format!("{}{}", ran.out, ran.err);
            let named = format!("this process may have {most} files open at once (`ulimit -n`)");
            assert!(said.contains(&named) && !said.contains("panicked"), "{most}: {said}");
            assert!(said.contains("next: raise the limit"), "{most}: {said}");
        }
        assert!(most > 16 || ran.code == Some(5), "{most}: {ran:?}");
    }
}
