//! What `nixvm-test init` makes passes as it stands, on the real VM: alone, and under `cargo test`.

use std::path::Path;
use std::process::Command;

use super::root;

/// A command in `folder` with nothing of this test's environment that could decide for it.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("NIXVM_") || name.starts_with("CARGO_") || name.starts_with("NEXTEST") {
            command.env_remove(&*name);
        }
    }
    // The tests are for hosts without a channel too.
    command.current_dir(folder).env("NIXVM_NIXPKGS", "standin");
    if let Some(cache) = std::env::var_os("NIXVM_CACHE_DIR") {
        command.env("NIXVM_CACHE_DIR", cache);
    }
    command
}

/// `cargo test` where the crates that this test was compiled with lie, with their profile and the same features: so they
/// are not compiled again for the project.
fn cargo_test(folder: &Path, project: &Path) -> Command {
    let manifest: toml::Table = std::fs::read_to_string(root("Cargo.toml")).unwrap().parse().unwrap();
    let settings = folder.join("profile.toml");
    let profile = toml::Table::from_iter([("profile".to_owned(), manifest["profile"].clone())]);
    std::fs::write(&settings, profile.to_string()).unwrap();
    let mut command = command(env!("CARGO"), project);
    command.arg("test").arg("--config").arg(settings);
    for (feature, has) in [("expectrl", cfg!(feature = "expectrl")), ("testing", cfg!(feature = "testing"))] {
        command.args(has.then(|| format!("--features=nixvm-test/{feature}")));
    }
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
    command
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
    std::fs::copy(root("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let out = passes(cargo_test(folder.path(), &project));
    assert!(out.contains("test login::login ... ok"), "{out}");
    let mut file = command(nixvm_test, &project);
    file.arg("scenarios/login.rs");
    let out = passes(file);
    assert!(out.contains("test login ... ok"), "{out}");
}
