//! `nixvm-test list`: what is there to run, without running it.

use serde_json::Value;

use crate::folder::{Folder, file};

const WEB: &str = r#"
/// The page is served.
///
/// To everybody.
#[scenario(server = "server.nix", timeout = "2m", retries = 1, memory = "2G", allow("segfault"))]
async fn serves(server: Machine, client: Machine) { drop((server, client)); panic!("it ran") }

/// Nobody gets in.
#[scenario(from = logged_in("alice", "secret"), ignore = "needs a moon")]
async fn locked(machine: Machine) { drop(machine) }
"#;

#[test]
fn scenarios_are_listed_with_what_they_say_of_themselves_and_none_runs() {
    let folder = Folder::new();
    folder.put("scenarios/web.rs", file(WEB));
    folder.put("scenarios/sums.rs", file("#[scenario] async fn sums() {}"));
    folder.put("scenarios/server.nix", "{ }");
    folder.put("configuration.nix", "{ }");
    let ran = folder.run(&["list"]);
    ran.ended_with(0);
    assert_eq!(
        ran.out,
        "scenarios/sums.rs\n  \
           sums\n      \
               limit: 5 min\n\
         scenarios/web.rs\n  \
           serves\n      \
               The page is served.\n\n      \
               To everybody.\n      \
               server: scenarios/server.nix\n      \
               client: configuration.nix\n      \
               from: booted, limit: 2 min, memory: 2048 MiB, retries: 1, allowed: segfault\n  \
           locked\n      \
               Nobody gets in.\n      \
               machine: configuration.nix\n      \
               from: logged in as alice, limit: 5 min\n      \
               ignored, runs only with -- --ignored: needs a moon\n"
    );
    let ran = folder.run(&["list", "--json", "scenarios/web.rs", "--retries", "3"]);
    let all: Vec<Value> = serde_json::from_str(&ran.ended_with(0).out).unwrap();
    assert_eq!(all.len(), 2);
    let [serves, locked] = [&all[0], &all[1]];
    assert_eq!((&serves["name"], &serves["line"]), (&"serves".into(), &7.into()));
    assert_eq!(serves["timeout_seconds"], 120.0);
    assert_eq!((&serves["retries"], &locked["retries"]), (&1.into(), &3.into()));
    let server = folder.path().join("scenarios/server.nix").display().to_string();
    assert_eq!(serves["machines"][0]["source"], server);
    assert!(!ran.out.contains("secret"), "a password is told:\n{}", ran.out);
}

#[test]
fn a_system_is_listed_apart_from_the_machines_with_its_nixpkgs() {
    let code = r#"
#[scenario(machine = "vm:today", next = "flake:.#web")]
async fn other_sources(machine: Machine, next: System) { drop((machine, next)) }

#[scenario(nixpkgs(next = "channel:nixos-26.05"))]
async fn over_a_release(machine: Machine, next: System) { drop((machine, next)) }

#[scenario(next = "vm:tomorrow", nixpkgs(next = "standin"))]
async fn brings_its_own(next: System) { drop(next) }
"#;
    let folder = Folder::new();
    folder.put("scenarios/a.rs", file(code));
    folder.put("configuration.nix", "{ }");
    let ran = folder.run(&["list"]);
    let machine = "machine: configuration.nix\n";
    ran.ended_with(0)
        .printed("machine: scenarios/today\n")
        .printed("next: scenarios#web (a system, not booted)\n")
        .printed(&format!(
            "{machine}      next: configuration.nix, with the nixpkgs channel:nixos-26.05 (a system, not booted)\n"
        ))
        .printed("next: none: `nixpkgs(next = \"standin\")` has no use with")
        .printed("      limit: 5 min\n");
    let all: Vec<Value> = serde_json::from_str(&folder.run(&["list", "--json"]).ended_with(0).out).unwrap();
    let systems: Vec<_> = all.iter().map(|one| &one["systems"][0]).collect();
    assert_eq!(all[1]["machines"].as_array().unwrap().len(), 1, "a system is no machine");
    assert_eq!(systems[1]["nixpkgs"], "channel:nixos-26.05");
    assert_eq!((&systems[0]["nixpkgs"], &systems[0]["session"]), (&Value::Null, &Value::Null));
    assert_eq!(all[2]["machines"].as_array().unwrap().len(), 0);
}

#[test]
fn a_machine_without_a_configuration_is_listed_with_the_reason() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine) }");
    folder.put(".git/HEAD", "");
    folder.run(&["list"]).ended_with(0).printed("machine: none: no configuration.nix for scenarios in");
    folder.run(&["list", "b.rs"]).ended_with(2).said("there is no file or folder `b.rs`");
}

#[test]
fn a_file_that_is_named_twice_is_there_once() {
    let folder = Folder::with("a.rs", "#[scenario] async fn sums() {}");
    let ran = folder.run(&["list", "a.rs", "./a.rs", "."]);
    ran.ended_with(0);
    assert_eq!(ran.out.matches("sums").count(), 1, "{}", ran.out);
}
