//! `nixvm.toml` and `nixvm-test config`.

use crate::folder::{Folder, Ran};

#[test]
fn every_setting_is_shown_with_who_chose_it() {
    let folder = Folder::new();
    folder.put("nixvm.toml", "# of the project\nretries = 2\njobs = 1\nnixpkgs = \"./nixpkgs\"\n");
    folder.put(".git/HEAD", "");
    folder.put("deep/notes.txt", "");
    let ran = Ran::of(
        folder
            .command(&["config", "--fail-fast"])
            .env("NIXVM_JOBS", "3")
            .current_dir(folder.path().join("deep")),
    );
    let file = folder.path().join("nixvm.toml").display().to_string();
    let nixpkgs = folder.path().join("nixpkgs").display().to_string();
    ran.ended_with(0).printed(&format!("# {file}\n"));
    for (line, from) in [
        ("retries = 2", format!("# {file}:2\n")),
        (&format!("nixpkgs = \"{nixpkgs}\""), format!("# {file}:4\n")),
        ("jobs = 3", "# NIXVM_JOBS\n".to_owned()),
        ("fail-fast = true", "# --fail-fast\n".to_owned()),
        ("# run-timeout", "# default: no limit\n".to_owned()),
    ] {
        let shown = ran
            .out
            .lines()
            .find(|shown| shown.starts_with(line))
            .unwrap_or_else(|| panic!("{line}\n{}", ran.out));
        assert!(format!("{shown}\n").ends_with(&from), "{shown}");
    }
    // The whole is a nixvm.toml that says the same.
    let again = Folder::new();
    again.put("nixvm.toml", &ran.out);
    again.run(&["config"]).ended_with(0).printed("jobs = 3").printed(&nixpkgs);
}

#[test]
fn json_has_the_value_as_its_type_and_where_it_came_from() {
    let folder = Folder::new();
    folder.put("nixvm.toml", "keep-state = \"strict\"\nrun-timeout = \"2h\"\n");
    let ran = folder.run(&["config", "--json", "--jobs", "2"]);
    let shown: serde_json::Value = serde_json::from_str(&ran.ended_with(0).out).unwrap();
    let file = folder.path().join("nixvm.toml").display().to_string();
    assert_eq!(shown["file"], file);
    let of = |key: &str| {
        shown["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone()
    };
    assert_eq!((&of("jobs")["value"], &of("jobs")["from"]), (&2.into(), &"flag".into()));
    let keep = of("keep-state");
    assert_eq!((&keep["value"], &keep["from"]), (&"strict".into(), &"file".into()));
    assert_eq!(keep["where"], format!("{file}:1"));
    assert_eq!((&of("vm")["value"], &of("vm")["from"]), (&serde_json::Value::Null, &"default".into()));
}

#[test]
fn a_key_that_is_not_known_ends_a_run_before_anything_is_compiled() {
    let folder = Folder::with("a.rs", "this does not compile");
    folder.put("nixvm.toml", "retires = 2\n");
    let ran = folder.run(&["a.rs"]);
    ran.ended_with(2).said("nixvm.toml:1: there is no key `retires`").said("did you mean `retries`?");
    assert!(!ran.err.contains("compil"), "{}", ran.err);
}

#[test]
fn the_nixvm_toml_of_a_scenario_is_that_of_its_own_folder_wherever_it_is_run_from() {
    let folder = Folder::with("project/scenarios/a.rs", r#"#[scenario] async fn a() { panic!("it ran") }"#);
    folder.put("project/nixvm.toml", "skip = true\n");
    folder.put("nixvm.toml", "skip = false\n");
    folder.run(&["project/scenarios/a.rs"]).ended_with(0).printed("ignored (skip is set");
    // A flag goes before it.
    folder.run(&["project/scenarios/a.rs", "--no-skip-all"]).ended_with(1).printed("it ran");
    std::fs::remove_file(folder.path().join("project/nixvm.toml")).unwrap();
    folder.run(&["project/scenarios/a.rs"]).ended_with(1).printed("it ran");
}

#[test]
fn the_file_that_a_variable_names_is_read_instead() {
    let folder = Folder::new();
    folder.put("nixvm.toml", "jobs = 1\n");
    folder.put("ci.toml", "jobs = 8\n");
    Ran::of(folder.command(&["config"]).env("NIXVM_TOML", "ci.toml")).ended_with(0).printed("jobs = 8");
    let ran = Ran::of(folder.command(&["config"]).env("NIXVM_TOML", "none.toml"));
    ran.ended_with(2).said("there is no file").said("none.toml");
    folder.put("ci.toml", b"jobs = 8 # \xff\n");
    let ran = Ran::of(folder.command(&["config"]).env("NIXVM_TOML", "ci.toml"));
    ran.ended_with(2).said("ci.toml is not UTF-8");
}

#[test]
fn a_variable_that_nothing_reads_is_named_with_the_one_that_was_meant() {
    let folder = Folder::new();
    let mut command = folder.command(&["config"]);
    command.env("NIXVM_JBOS", "2").env("NIXVM_JOBS", "3").env("NIXVM_OF_MINE", "1");
    let ran = Ran::of(&mut command);
    ran.ended_with(0)
        .printed("# NIXVM_JBOS is set, but nixvm-test does not read it: did you mean NIXVM_JOBS?");
    ran.printed("# NIXVM_OF_MINE is set, but nixvm-test does not read it\n");
    assert!(!ran.out.contains("NIXVM_CACHE_DIR is set, but"), "{}", ran.out);
}
