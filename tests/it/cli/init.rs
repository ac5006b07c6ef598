//! `nixvm-test init`. That what it makes passes is tested on the real VM (`tests/it/real_vm/init.rs`).

use std::fs;

use crate::folder::Folder;

fn files(folder: &Folder, name: &str) -> Vec<String> {
    fn below(path: &std::path::Path, root: &std::path::Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).unwrap().flatten() {
            if entry.path().is_dir() {
                below(&entry.path(), root, found);
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let (root, mut found) = (folder.path().join(name), Vec::new());
    below(&root, &root, &mut found);
    found.sort();
    found
}

#[test]
fn a_first_project_is_made_and_named_file_by_file() {
    let folder = Folder::new();
    let ran = folder.run(&["init", "my-web"]);
    ran.ended_with(0).printed("cd my-web").printed("nixvm-test scenarios/login.rs").printed("cargo test");
    let made = files(&folder, "my-web");
    let workflow = ".github/workflows/nixvm-test.yml";
    assert_eq!(
        made,
        [
            workflow,
            ".gitignore",
            "Cargo.toml",
            "configuration.nix",
            "scenarios/login.rs",
            "tests/scenarios.rs"
        ]
    );
    for file in made {
        assert!(
            ran.out.lines().any(|line| line.starts_with(&format!("made  {file} "))),
            "{file}\n{}",
            ran.out
        );
    }
    let text = |name: &str| fs::read_to_string(folder.path().join("my-web").join(name)).unwrap();
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["package"]["name"].as_str(), Some("my-web"));
    assert_eq!(manifest["test"][0]["harness"].as_bool(), Some(false));
    assert_eq!(manifest["dev-dependencies"]["nixvm-test"]["path"].as_str(), Some(env!("CARGO_MANIFEST_DIR")));
    assert!(text(workflow).contains("run: cargo test"), "{}", text(workflow));
}

#[test]
fn what_is_there_already_is_left_and_named() {
    let folder = Folder::new();
    folder.put("configuration.nix", "{ mine = true; }");
    std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join(".gitignore")).unwrap();
    let ran = folder.run(&["init"]);
    ran.ended_with(0)
        .printed("left  configuration.nix ")
        .printed("left  .gitignore ")
        .printed("There already, and left as it was: configuration.nix, .gitignore\n")
        .printed("made  scenarios/login.rs ");
    let left = |name: &str| fs::read_to_string(folder.path().join(name));
    assert_eq!(left("configuration.nix").unwrap(), "{ mine = true; }");
    assert!(left(".gitignore").is_err(), "it wrote where a link leads");
    // Once more: nothing is made, and nothing changes.
    let before = left("Cargo.toml").unwrap();
    let again = folder.run(&["init"]);
    assert!(!again.ended_with(0).out.contains("made  ") && !again.out.contains("add to it"), "{}", again.out);
    assert_eq!(left("Cargo.toml").unwrap(), before);
}

#[test]
fn a_package_of_the_users_own_is_not_touched_but_told_what_to_add() {
    let folder = Folder::new();
    let manifest = "[package]\nname = \"mine\"\nversion = \"1.0.0\"\n";
    folder.put("Cargo.toml", manifest);
    let ran = folder.run(&["init", "--ci", "gitlab"]);
    ran.ended_with(0)
        .printed("nothing was changed in it")
        .printed("    [dev-dependencies]\n    nixvm-test = {")
        .printed("    [[test]]\n    name = \"scenarios\"\n    harness = false\n")
        .printed("    nixvm_test::scenarios!(\"../scenarios\");\n");
    assert_eq!(fs::read_to_string(folder.path().join("Cargo.toml")).unwrap(), manifest);
    assert_eq!(
        files(&folder, "."),
        [".gitlab-ci.yml", "Cargo.toml", "configuration.nix", "scenarios/login.rs"]
    );
}

#[test]
fn without_cargo_and_workflow_there_is_a_configuration_and_a_scenario() {
    let folder = Folder::new();
    folder.run(&["init", "--no-cargo", "--ci", "none"]).ended_with(0);
    assert_eq!(files(&folder, "."), ["configuration.nix", "scenarios/login.rs"]);
    folder.put("file", "");
    folder.run(&["init", "file"]).ended_with(2).said("file is not a folder");
    folder.run(&["init", "file/deeper"]).ended_with(1).said("could not make file/deeper/configuration.nix");
}
