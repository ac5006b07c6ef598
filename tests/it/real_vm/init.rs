//! What `nixvm-test init` makes passes as it stands, on the real VM: alone, and under `cargo test`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command in `folder` with nothing of this test's environment that could decide for it.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("NIXVM_") || name.starts_with("CARGO_") || name.starts_with("NEXTEST") {
            command.env_remove(&*name);
        }
    }
    // The tests are for hosts without a channel too; the folder of what was compiled stays from run to run.
    command.current_dir(folder).env("NIXVM_NIXPKGS", "standin").env("CARGO_TARGET_DIR", target());
    command
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("init")
}

#[track_caller]
fn passes(mut command: Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n--- stdout\n{out}\n--- stderr\n{err}");
    out.into_owned()
}

#[test]
fn what_init_makes_passes_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let nixvm_test = env!("CARGO_BIN_EXE_nixvm-test");
    let mut init = command(nixvm_test, folder.path());
    init.args(["init", "my-web"]);
    passes(init);
    let project = folder.path().canonicalize().unwrap().join("my-web");
    // The versions that are here already: nothing is downloaded.
    std::fs::copy(super::root("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut suite = command(env!("CARGO"), &project);
    suite.arg("test");
    let out = passes(suite);
    assert!(out.contains("test login::login ... ok"), "{out}");
    let mut file = command(nixvm_test, &project);
    file.arg("scenarios/login.rs").env_remove("CARGO_TARGET_DIR");
    let out = passes(file);
    assert!(out.contains("test login ... ok"), "{out}");
}
