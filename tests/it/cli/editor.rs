//! `nixvm-test editor`: which files it writes, and which it leaves. That rust-analyzer reads them is tested in
//! `editor_server.rs`.

use std::fs;

use crate::folder::Folder;

const SCENARIO: &str = "#[scenario] async fn a() {}";

fn manifest(folder: &Folder, name: &str) -> toml::Table {
    fs::read_to_string(folder.path().join(name)).unwrap().parse().unwrap()
}

fn paths(manifest: &toml::Table) -> Vec<&str> {
    manifest["bin"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect()
}

#[test]
fn a_package_with_a_binary_for_each_file_is_written_beside_the_files() {
    let folder = Folder::with("scenarios/a.rs", SCENARIO);
    let front = format!("---\n[dependencies]\nserde_json = \"1\"\n---\n{}", crate::folder::file(SCENARIO));
    folder.put("scenarios/b.rs", &front);
    folder.put("scenarios/helper.rs", "pub fn help() {}");
    let ran = folder.run(&["editor"]);
    ran.ended_with(0).printed("made   scenarios/Cargo.toml ").printed("rust-analyzer.linkedProjects");
    ran.printed("Open the folder scenarios, or the one above it");
    let made = manifest(&folder, "scenarios/Cargo.toml");
    assert_eq!(paths(&made), ["a.rs", "b.rs"]);
    assert_eq!(made["dependencies"]["nixvm-test"]["path"].as_str(), Some(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(made["dependencies"]["serde_json"].as_str(), Some("1"));
    let settings = manifest(&folder, "scenarios/.cargo/config.toml");
    let target = settings["build"]["target-dir"].as_str().unwrap();
    assert!(target.starts_with(crate::folder::cache().to_str().unwrap()), "{target}");
    // The files run as before.
    folder.run(&["scenarios"]).ended_with(0).printed("test a ... ok");

    // Once more, with another file.
    folder.put("scenarios/c.rs", crate::folder::file(SCENARIO));
    folder.run(&["editor", "scenarios/c.rs"]).ended_with(0).printed("wrote  scenarios/Cargo.toml ");
    assert_eq!(paths(&manifest(&folder, "scenarios/Cargo.toml")), ["a.rs", "b.rs", "c.rs"]);
    fs::remove_file(folder.path().join("scenarios/a.rs")).unwrap();
    folder.run(&["editor", "scenarios/c.rs"]).ended_with(0);
    assert_eq!(paths(&manifest(&folder, "scenarios/Cargo.toml")), ["b.rs", "c.rs"]);
}

#[test]
fn files_of_the_user_are_never_changed() {
    let folder = Folder::with("a.rs", SCENARIO);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    folder.put("Cargo.lock", "# mine\n");
    let ran = folder.run(&["editor", "a.rs"]);
    ran.ended_with(2)
        .said("Cargo.lock is there without a Cargo.toml of `nixvm-test editor`, and was not changed");
    assert_eq!(read("Cargo.lock"), "# mine\n");
    fs::remove_file(folder.path().join("Cargo.lock")).unwrap();

    folder.put(".cargo/config.toml", "[net]\noffline = true\n");
    folder.run(&["editor", "a.rs"]).ended_with(0).printed("left   .cargo/config.toml ");
    assert_eq!(read(".cargo/config.toml"), "[net]\noffline = true\n");

    folder.put("Cargo.toml", "[package]\nname = \"mine\"\n");
    let ran = folder.run(&["editor", "a.rs"]);
    ran.ended_with(2).said("Cargo.toml was not written by `nixvm-test editor`, and was not changed");
    assert_eq!(read("Cargo.toml"), "[package]\nname = \"mine\"\n");
    folder.put("Cargo.toml", "[dev-dependencies]\nnixvm-test = \"0.1\"\n");
    folder.run(&["editor", "a.rs"]).ended_with(0).printed("Cargo.toml has nixvm-test already");

    // A link is no file of ours, even if it leads to one that looks like it.
    fs::remove_file(folder.path().join("Cargo.toml")).unwrap();
    folder.put("elsewhere", "# Written by `nixvm-test editor`, for rust-analyzer alone.");
    std::os::unix::fs::symlink("elsewhere", folder.path().join("Cargo.toml")).unwrap();
    folder.run(&["editor", "a.rs"]).ended_with(2).said("was not changed");
    assert_eq!(read("elsewhere"), "# Written by `nixvm-test editor`, for rust-analyzer alone.");
}

/// rust-analyzer does not follow `nixvm_test::scenarios!`, so the files of a suite need a package, too.
#[test]
fn a_package_above_the_files_is_named_since_an_editor_that_is_open_there_takes_it() {
    let folder = Folder::with("scenarios/a.rs", SCENARIO);
    folder.put("Cargo.toml", "[dev-dependencies]\nnixvm-test = \"0.1\"\n");
    folder.run(&["editor"]).ended_with(0).printed("further up, rust-analyzer finds Cargo.toml instead");
    assert!(folder.path().join("scenarios/Cargo.toml").exists());
}

#[test]
fn what_is_no_scenario_is_refused_and_what_cargo_refuses_is_said() {
    let folder = Folder::new();
    folder.put("notes.rs", "fn help() {}");
    folder.run(&["editor", "notes.rs"]).ended_with(2).said("has no `nixvm_test::main!();`");
    let front = "---\n[dependencies]\nno-such-crate = { path = \"nowhere\" }\n---\n";
    folder.put("a.rs", format!("{front}{}", crate::folder::file(SCENARIO)));
    folder.run(&["editor", "a.rs"]).ended_with(3).said("cargo can't resolve").said("nowhere");
}
