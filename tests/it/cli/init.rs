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
    folder.put("configuration.nix", BOB);
    std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join(".gitignore")).unwrap();
    let ran = folder.run(&["--nixpkgs", "standin", "init"]);
    ran.ended_with(0)
        .printed("left  configuration.nix ")
        .printed("left  .gitignore ")
        .printed("Already there, not changed: configuration.nix, .gitignore\n")
        .printed("made  scenarios/login.rs ");
    let left = |name: &str| fs::read_to_string(folder.path().join(name));
    assert_eq!(left("configuration.nix").unwrap(), BOB);
    assert!(left(".gitignore").is_err(), "it wrote where a link leads");
    // Once more: nothing is made, and nothing changes.
    let before = left("Cargo.toml").unwrap();
    let again = folder.run(&["init"]);
    assert!(
        !again.ended_with(0).out.contains("made  ") && !again.out.contains("add this to it"),
        "{}",
        again.out
    );
    assert_eq!(left("Cargo.toml").unwrap(), before);
}

#[test]
fn a_package_of_the_users_own_is_not_touched_but_told_what_to_add() {
    let folder = Folder::new();
    let manifest = "[package]\nname = \"mine\"\nversion = \"1.0.0\"\n";
    folder.put("Cargo.toml", manifest);
    let ran = folder.run(&["init", "--ci", "gitlab"]);
    ran.ended_with(0)
        .printed("Cargo.toml exists and was not changed")
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

/// A configuration of somebody else's.
const BOB: &str = r#"{ lib, ... }: {
  users.users.bob = { isNormalUser = true; initialPassword = "it's \"so\""; };
  users.users.anna = { isNormalUser = true; hashedPassword = "$6$x"; };
  users.users.daemon = { isSystemUser = true; group = "daemon"; password = "no"; };
}"#;

fn scenario(folder: &Folder) -> String {
    fs::read_to_string(folder.path().join("scenarios/login.rs")).unwrap()
}

#[test]
fn beside_a_configuration_one_of_its_users_logs_in() {
    let folder = Folder::new();
    folder.put("configuration.nix", BOB);
    let ran = folder.run(&["--nixpkgs", "standin", "init"]);
    ran.ended_with(0).printed("the test: bob logs in");
    assert!(!ran.out.contains("alice"), "{}", ran.out);
    let text = scenario(&folder);
    assert!(text.contains(r#"machine.login("bob", "it's \"so\"")"#), "{text}");
    assert!(!text.contains("alice") && !text.contains("cow"), "{text}");
    assert!(!folder.path().join("nixvm.toml").exists(), "a scenario finds it by itself");
}

#[test]
fn a_password_of_the_vm_alone_is_one_too() {
    let folder = Folder::new();
    let variant = r#"virtualisation.vmVariant.users.users.bob = { hashedPassword = lib.mkForce null; initialPassword = "vm"; };"#;
    let bob = r#"users.users.bob = { isNormalUser = true; hashedPassword = "$6$x"; };"#;
    folder.put("configuration.nix", format!("{{ lib, ... }}: {{ {bob} {variant} }}"));
    folder.run(&["--nixpkgs", "standin", "init"]).ended_with(0);
    assert!(scenario(&folder).contains(r#"machine.login("bob", "vm")"#), "{}", scenario(&folder));
}

#[test]
fn where_no_password_is_known_it_is_said_which_is_missing_and_nothing_is_made() {
    let folder = Folder::new();
    let users = r#"users.users.carol = { isNormalUser = true; hashedPassword = "$6$x"; };
        users.users.dave = { isNormalUser = true; };
        users.users.eve = { isNormalUser = true; initialPassword = "x"; shell = "/run/current-system/sw/bin/nologin"; };"#;
    folder.put("configuration.nix", format!("{{ {users} }}"));
    let ran = folder.run(&["--nixpkgs", "standin", "init"]);
    ran.ended_with(2)
        .said("has no user whose password is in the configuration")
        .said("carol: hashedPassword does not contain the password")
        .said("dave: no password is set")
        .said("eve: the shell is nologin")
        .said("virtualisation.vmVariant.users.users.carol.initialPassword = \"test\";")
        .said("virtualisation.vmVariant.users.users.carol.hashedPassword = lib.mkForce null;");
    assert_eq!(files(&folder, "."), ["configuration.nix"]);
}

#[test]
fn a_configuration_that_does_not_evaluate_is_nixs_error_and_nothing_is_made() {
    let folder = Folder::new();
    for (text, said) in [
        ("{ services.ngnix.enable = true; }", "The option `services.ngnix"),
        (
            "{ pkgs, ... }: { environment.etc.x.text = nowhere; users.users.a = 1; }",
            "undefined variable 'nowhere'",
        ),
        // Not where the users are.
        ("{ environment.etc.x = { }; }", "has neither `text' nor `source'"),
    ] {
        folder.put("configuration.nix", text);
        let ran = folder.run(&["--nixpkgs", "standin", "init"]);
        ran.ended_with(3).said("evaluating ").said(said);
        assert_eq!(files(&folder, "."), ["configuration.nix"]);
    }
}

#[test]
fn the_existing_configuration_of_the_book_is_ready_for_tests() {
    let folder = Folder::new();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/existing");
    for name in ["configuration.nix", "hardware-configuration.nix", "vm.nix"] {
        folder.put(name, fs::read(examples.join(name)).unwrap());
    }
    folder.run(&["--nixpkgs", "standin", "init"]).ended_with(0).printed("the test: kim logs in");
    assert!(scenario(&folder).contains(r#"machine.login("kim", "test")"#), "{}", scenario(&folder));
    // Without what is there for tests it is as on the server.
    folder.put("vm.nix", "{ }");
    fs::remove_dir_all(folder.path().join("scenarios")).unwrap();
    let ran = folder.run(&["--nixpkgs", "standin", "init"]);
    ran.ended_with(2).said("kim: hashedPasswordFile does not contain the password");
}

/// A flake with hosts that have these users: a name of Nix and the rest of it for each.
fn flake(hosts: &[(&str, &str)]) -> String {
    let host = |(name, users): &(&str, &str)| {
        format!(
            "nixosConfigurations.{name}.config = {{ system.build.vm.drvPath = \"x\"; users.users = {{ {users} }}; }};"
        )
    };
    let hosts: String = hosts.iter().map(host).collect();
    format!("{{ outputs = _: {{ other = 1; {hosts} }}; }}")
}

const MAX: &str = r#"max = { name = "max"; isNormalUser = true; initialPassword = "secret"; };"#;

#[test]
fn beside_a_flake_its_host_is_what_is_tested() {
    let folder = Folder::new();
    folder.put("flake.nix", flake(&[("web", MAX)]));
    let ran = folder.run(&["init"]);
    ran.ended_with(0).printed("made  nixvm.toml ").printed("what is tested: .#web");
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let settings: toml::Table = text("nixvm.toml").parse().unwrap();
    assert_eq!(settings["flake"].as_str(), Some(".#web"));
    assert!(scenario(&folder).contains(r#"machine.login("max", "secret")"#));
    // A flake brings its own release, and a setting of both is an error.
    let workflow = text(".github/workflows/nixvm-test.yml");
    assert!(!workflow.contains("NIXVM_NIXPKGS") && workflow.contains("NIXVM_RUNS"), "{workflow}");
    // Neither the sample nor a lock file.
    assert!(!folder.path().join("configuration.nix").exists() && !folder.path().join("flake.lock").exists());
    let again = folder.run(&["init"]);
    assert!(!again.ended_with(0).out.contains("made  "), "{}", again.out);
}

#[test]
fn of_several_hosts_one_is_taken_and_said_with_the_way_to_another() {
    let folder = Folder::new();
    let emma = r#"emma = { name = "emma"; isNormalUser = true; password = "e"; };"#;
    folder.put("flake.nix", flake(&[("web", MAX), ("mail", emma), ("db", MAX)]));
    folder
        .run(&["init"])
        .ended_with(0)
        .printed("flake.nix has the hosts db, mail, web. The scenario tests db.")
        .printed("nixvm-test --flake .#mail init");
    assert!(fs::read_to_string(folder.path().join("nixvm.toml")).unwrap().contains("flake = \".#db\""));
    for made in ["nixvm.toml", "scenarios/login.rs"] {
        fs::remove_file(folder.path().join(made)).unwrap();
    }
    folder.run(&["--flake", ".#mail", "init"]).ended_with(0);
    assert!(fs::read_to_string(folder.path().join("nixvm.toml")).unwrap().contains("flake = \".#mail\""));
    assert!(scenario(&folder).contains(r#"machine.login("emma", "e")"#));
}

#[test]
fn a_flake_without_hosts_is_left_alone_and_said_so() {
    let folder = Folder::new();
    folder.put("flake.nix", flake(&[]));
    folder
        .run(&["init"])
        .ended_with(0)
        .printed("flake.nix has no nixosConfigurations")
        .printed("made  configuration.nix ");
    assert!(!folder.path().join("nixvm.toml").exists());
}

#[test]
fn a_flake_that_does_not_evaluate_is_nixs_error_and_nothing_is_made() {
    let folder = Folder::new();
    folder.put("flake.nix", "{ outputs = _: { nixosConfigurations = nowhere; }; }");
    folder.run(&["init"]).ended_with(3).said("evaluating ").said("undefined variable 'nowhere'");
    folder.put("flake.nix", flake(&[("web", "a = throw \"broken on purpose\";")]));
    folder.run(&["init"]).ended_with(3).said("broken on purpose");
    assert_eq!(files(&folder, "."), ["flake.nix"]);
}

#[test]
fn settings_that_are_there_already_are_not_touched_but_told_what_to_add() {
    let folder = Folder::new();
    folder.put("flake.nix", flake(&[("web", MAX)]));
    folder.put("nixvm.toml", "jobs = 1\n");
    folder.run(&["init"]).ended_with(0).printed("nixvm.toml: flake = \".#web\"");
    assert_eq!(fs::read_to_string(folder.path().join("nixvm.toml")).unwrap(), "jobs = 1\n");
}

#[test]
fn names_from_a_configuration_are_words_and_never_code() {
    let folder = Folder::new();
    let evil = r#"x\"); std::process::abort(); //"#;
    let users =
        format!(r#"a = {{ name = "{evil}"; isNormalUser = true; initialPassword = "{evil}\${{b}}"; }};"#);
    // A host whose name is a command, and one that is more than one word of TOML.
    folder.put(
        "flake.nix",
        flake(&[(r#""$(touch x)""#, MAX), ("\"a\\\" b\u{1b}[31m\"", MAX), ("plain", &users)]),
    );
    let ran = folder.run(&["init"]);
    ran.ended_with(0).printed("The scenario tests plain.");
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
    let text = scenario(&folder);
    let login = text.lines().find(|line| line.contains("machine.login")).unwrap();
    let name = r#"x\"); std::process::abort(); //"#;
    assert_eq!(login.trim(), format!("let session = machine.login(\"{name}\", \"{name}${{b}}\").await?;"));
    let only = Folder::new();
    only.put("flake.nix", flake(&[(r#""$(touch x)""#, MAX)]));
    only.run(&["init"]).ended_with(0).printed("no host with a name that can be written as .#HOST");
}
