//! A host with little room: processes, threads, open files. Each limit is an error that names it, and never a wait without
//! an end.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::folder::{Folder, Ran, take_over};

/// Another user, whose processes are counted apart: limits of processes do not bind root. No other test has it.
const OTHER: &str = "4243";

/// A suite of one scenario, which needs no cargo any more: its binary is `suite`.
fn suite() -> Folder {
    let copies = "let own = std::env::current_exe().unwrap(); let _ = std::fs::copy(own, \"suite\");";
    let folder = Folder::with("a.rs", &format!("#[scenario] async fn takes_none() {{ {copies} }}"));
    folder.run(&["a.rs"]).ended_with(0);
    folder
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
    Ran::of(&mut limited)
}

#[test]
fn a_limit_of_processes_is_an_error_that_names_it() {
    let has_program = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !has_program("setpriv") || !rustix::process::geteuid().is_root() {
        eprintln!(
            "not root, or no setpriv: no process of another user can be started, so this is not tested"
        );
        return;
    }
    let folder = suite();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["cache", "runs", "home"] {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, OTHER.parse().ok(), None).unwrap();
    }
    let by = ["setpriv", "--reuid", OTHER, "--regid", OTHER, "--clear-groups"];
    for most in [1, 3, 5, 6, 7, 8, 9] {
        let ran = run(&folder, &by, &format!("ulimit -u {most}"));
        if ran.code != Some(0) {
            ran.ended_with(5);
            let said = format!("{}{}", ran.out, ran.err);
            let named = format!("this user may have {most} processes and threads at once (`ulimit -u`)");
            assert!(said.contains(&named) && !said.contains("panicked"), "{most}: {said}");
        }
        assert!(most > 5 || ran.code == Some(5), "{most}: {ran:?}");
    }
    run(&folder, &by, "ulimit -u 200").ended_with(0);
}

#[test]
fn a_limit_of_open_files_is_an_error_that_names_it() {
    let folder = suite();
    for most in [8, 10, 14, 18, 24] {
        let ran = run(&folder, &[], &format!("ulimit -n {most}"));
        if ran.code != Some(0) {
            ran.ended_with(5);
            let said = format!("{}{}", ran.out, ran.err);
            let named = format!("this process may have {most} files open at once (`ulimit -n`)");
            assert!(said.contains(&named) && !said.contains("panicked"), "{most}: {said}");
        }
        assert!(most > 16 || ran.code == Some(5), "{most}: {ran:?}");
    }
}
