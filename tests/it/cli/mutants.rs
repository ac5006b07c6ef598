//! `nixvm-test mutants`, with a Nix of its own: it evaluates a configuration to a derivation that is named by the text of
//! its files, and builds each to one of three fake VMs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::folder::{Folder, Ran, file};

/// Without `needed` it does not evaluate, `dead` is looked at by nobody, `alice` is tested, and `other` is not.
const CONFIGURATION: &str = "{
  imports = [ ./users.nix ];
  needed = x; # by all
  dead = lib.mkForce 1;
  boots = true;
}
";
const USERS: &str = "{
  alice = x;
  other = x;
}
";

/// What the files say without comments, spaces and `dead`; without `imports`, nothing of `users.nix`.
const NIX_INSTANTIATE: &str = r#"#!/bin/sh
for word; do case $word in nixos-config=*) config=${word#nixos-config=};; esac; done
folder=$(dirname "$config")
case $* in *opt/org.nixvm-test/network*) touch FOLDER/networked;; esac
case $config in FOLDER/*) echo "error: the file of the user itself" >&2; exit 1;; esac
own=$(sed 's/#.*//; /dead/d; /boots = false/d' "$config" | tr -d ' \n')
users=$(tr -d ' \n' <"$folder/users.nix")
case $own in *needed=*) ;; *) echo "error: The option needed is used but not defined." >&2; exit 1;; esac
case $own in *users.nix*) ;; *) users= own=$(echo "$own" | sed 's/imports=\[\];//');; esac
name=$(echo "$own$users" | md5sum | cut -c1-32)
echo "$own$users" >FOLDER/store/$name
echo "/nix/store/$name-vm.drv"
"#;
const NIX_BUILD: &str = r#"#!/bin/sh
name=${1#/nix/store/}
text=$(cat FOLDER/store/${name%-vm.drv})
echo "$text" >>FOLDER/built
case $text in
*boots=*alice=*) echo FOLDER/good/result;;
*boots=*) echo FOLDER/other/result;;
*) [ ! -e FOLDER/full ] || { echo "error: No space left on device" >&2; exit 1; }; echo FOLDER/panics/result;;
esac
"#;

const LOGIN: &str = r#"
#[scenario]
async fn login(machine: Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.power_off().await
}
"#;

/// A folder of a user with a configuration, a scenario and that Nix.
struct User {
    folder: Folder,
}

impl User {
    fn new() -> Self {
        let folder = Folder::with("scenarios/login.rs", LOGIN);
        folder.put("configuration.nix", CONFIGURATION);
        folder.put("users.nix", USERS);
        folder.put(".git/HEAD", "");
        folder.put("nixpkgs/nixos/default.nix", "{ }");
        folder.put("store/.keep", "");
        for (name, vm) in [
            ("good", FakeVm::new()),
            ("other", FakeVm::new().user("bob", "test")),
            ("panics", FakeVm::new().setting("panic", "services")),
        ] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            vm.write_to(folder.path().join(name));
        }
        let here = folder.path().display().to_string();
        folder.program("bin/nix-instantiate", NIX_INSTANTIATE.replace("FOLDER", &here));
        folder.program("bin/nix-build", NIX_BUILD.replace("FOLDER", &here));
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self
            .folder
            .command(&[&["mutants", "--nixpkgs", "./nixpkgs", "--no-template"], arguments].concat());
        let bin = self.folder.path().join("bin").display().to_string();
        command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    fn out(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("mutants.out").join(name)).unwrap()
    }

    /// The changes in a file of `mutants.out`, without their places and identifiers.
    fn changes(&self, name: &str) -> Vec<String> {
        let change = |line: &str| line.split_once(": ").unwrap().1.split(" [").next().unwrap().to_owned();
        self.out(name).lines().map(change).collect()
    }

    /// The copies of configurations that are left in the cache.
    fn copies(&self) -> Vec<PathBuf> {
        let mutants = crate::folder::cache().join("mutants");
        let entries = std::fs::read_dir(mutants).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_it = |path: &PathBuf| {
            let copy = self.folder.path().strip_prefix("/").unwrap().to_owned();
            path.join("files").join(copy).exists()
        };
        entries.filter(of_it).collect()
    }

    /// Fails unless the user's files are as they were, and nothing is left of the run.
    #[track_caller]
    fn is_as_before(&self) {
        let text = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        assert_eq!((text("configuration.nix").as_str(), text("users.nix").as_str()), (CONFIGURATION, USERS));
        assert_eq!(self.copies(), Vec::<PathBuf>::new());
    }
}

const LIST: &str = "\
configuration.nix:2:3: drop imports
configuration.nix:2:15: drop the import ./users.nix
configuration.nix:3:3: drop needed
configuration.nix:4:3: drop dead
configuration.nix:4:10: unwrap lib.mkForce in dead
configuration.nix:4:22: change 1 to 2 in dead
configuration.nix:5:3: drop boots
configuration.nix:5:11: change true to false in boots
users.nix:2:3: drop alice
users.nix:3:3: drop other
";

#[test]
fn mutants_are_listed_without_nix_and_without_a_scenario() {
    let folder = Folder::new();
    folder.put("configuration.nix", CONFIGURATION);
    folder.put("users.nix", USERS);
    let ran = folder.run(&["mutants", "--list"]);
    assert_eq!(ran.ended_with(0).out, LIST);
    let ran = folder.run(&["mutants", "configuration.nix", "--list", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&ran.ended_with(0).out).unwrap();
    assert_eq!(listed.len(), 10);
    assert_eq!((&listed[7]["operator"], &listed[7]["line"]), (&"flip_boolean".into(), &5.into()));
    assert_eq!((&listed[7]["before"], &listed[7]["after"]), (&"true".into(), &"false".into()));
    folder.put("change.diff", "--- a/users.nix\n+++ b/users.nix\n@@ -1,0 +2 @@\n+  alice = x;\n");
    let ran = folder.run(&["mutants", "--list", "--in-diff", "change.diff"]);
    assert_eq!(ran.ended_with(0).out, "users.nix:2:3: drop alice\n");
    assert!(!folder.path().join("mutants.out").exists());
    folder.run(&["mutants", "--list", "none.nix"]).ended_with(2).said("there is no configuration none.nix");
    folder.run(&["mutants", "--list", "--in-diff", "none"]).ended_with(2).said("there is no diff none");
    folder.put("flake.nix", "{ outputs = _: { }; }");
    for other in ["flake.nix", ".#web", "flake:.#web", "git:HEAD", "vm:result"] {
        folder.run(&["mutants", "--list", other]).ended_with(2).said(&format!("{other} can't be changed"));
    }
    folder.run(&["mutants", "--list", "none.rs"]).ended_with(2).said("none.rs");
    folder
        .run(&["mutants", "users.nix", "configuration.nix"])
        .ended_with(2)
        .said("one configuration is changed");
}

#[test]
fn each_mutant_has_its_outcome_and_the_next_run_leaves_out_what_was_caught() {
    let user = User::new();
    let ran = user.run(&[]);
    ran.ended_with(1).said("missed   users.nix:3:3: drop other");
    assert_eq!(user.changes("unviable.txt"), ["drop needed"]);
    assert_eq!(
        user.changes("without_effect.txt"),
        ["drop dead", "unwrap lib.mkForce in dead", "change 1 to 2 in dead"]
    );
    assert_eq!(user.changes("missed.txt"), ["drop other"]);
    assert_eq!(
        user.changes("caught.txt"),
        [
            "drop imports",
            "drop the import ./users.nix",
            "drop boots",
            "change true to false in boots",
            "drop alice"
        ]
    );
    ran.printed("missed: all scenarios pass\n  users.nix:3:3  drop other\n");
    ran.printed("without effect: the system is the same\n  configuration.nix:4:3   drop dead\n");
    ran.printed("10 mutants tried: 5 caught, 1 missed, 1 unviable, 3 without effect\n");
    let outcomes: Value = serde_json::from_str(&user.out("outcomes.json")).unwrap();
    let reason = |change: &str| {
        let all = outcomes["outcomes"].as_array().unwrap();
        let of_it = all.iter().find(|outcome| outcome["scenario"]["Mutant"]["change"] == change).unwrap();
        of_it["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("drop boots").contains("it does not boot: "), "{}", reason("drop boots"));
    assert!(reason("drop alice").starts_with("login: "), "{}", reason("drop alice"));
    assert!(reason("drop needed").contains("used but not defined"), "{}", reason("drop needed"));
    let id = outcomes["outcomes"][1]["scenario"]["Mutant"]["id"].as_str().unwrap();
    assert!(user.out(&format!("diff/{id}.diff")).starts_with("--- a/configuration.nix\n"));
    assert!(user.out(&format!("log/{id}.log")).contains("configuration.nix:"));
    user.is_as_before();
    assert!(!user.folder.path().join("networked").exists());
    // A system that several changes lead to is built and booted once.
    let built = std::fs::read_to_string(user.folder.path().join("built")).unwrap();
    let unique: std::collections::BTreeSet<&str> = built.lines().collect();
    assert_eq!((built.lines().count(), unique.len()), (5, 5));

    let ran = user.run(&["--iterate", "--max", "1", "--json"]);
    let all: Value = serde_json::from_str(&ran.ended_with(1).out).unwrap();
    assert_eq!((&all["missed"], &all["caught"]), (&1.into(), &0.into()));
    assert_eq!(user.out("previously_caught.txt").lines().count(), 5);
    assert!(user.folder.path().join("mutants.out.old/caught.txt").exists());
}

/// Without the module for networks, machines would not know each other by name, and no scenario would pass.
#[test]
fn mutants_of_machines_on_a_network_have_the_module_for_it() {
    let user = User::new();
    let text = "#[scenario]\nasync fn two(one: Machine, other: Machine) { drop((one, other)); }";
    user.folder.put("scenarios/login.rs", file(text));
    user.run(&["--max", "1"]).ended_with(1).printed("1 mutant tried: 1 missed");
    assert!(user.folder.path().join("networked").exists());
}

#[test]
fn what_only_nix_knows_needs_no_machine() {
    let user = User::new();
    let ran = user.run(&["--check"]);
    ran.ended_with(0).printed("4 mutants tried: 1 unviable, 3 without effect\n").printed("6 not tried\n");
    assert!(!user.folder.path().join("built").exists());
    user.is_as_before();
}

#[test]
fn scenarios_that_fail_anyway_say_nothing_about_mutants() {
    let user = User::new();
    user.folder.put("scenarios/login.rs", file(&LOGIN.replace("alice", "nobody")));
    user.run(&[]).ended_with(6).said("the scenarios fail with the unchanged configuration: login: ");
    assert_eq!(user.changes("caught.txt"), [""; 0]);
    user.is_as_before();
    user.folder.put("scenarios/login.rs", file("#[scenario] async fn sums() {}"));
    user.run(&[]).ended_with(2).said("no scenario has a machine of configuration.nix");
    user.folder.put("configuration.nix", "{\n  a = ;\n}");
    for arguments in [&["--list"][..], &[]] {
        user.run(arguments)
            .ended_with(3)
            .said("configuration.nix is not understood: line 2, column 7: unexpected `;`");
    }
    user.folder.put("users.nix", "{ ");
    user.folder.put("configuration.nix", "{ imports = [ ./users.nix ]; }");
    user.folder.put("scenarios/login.rs", file(LOGIN));
    user.run(&[]).ended_with(3).said("is used but not defined").said("note: ");
}

#[test]
fn a_configuration_that_is_another_system_each_time_is_refused() {
    let user = User::new();
    let nix = std::fs::read_to_string(user.folder.path().join("bin/nix-instantiate")).unwrap();
    let counts = "echo x >>FOLDER/count; own=$own$(wc -l <FOLDER/count)\nname=$(";
    let counts = counts.replace("FOLDER", &user.folder.path().display().to_string());
    user.folder.program("bin/nix-instantiate", nix.replace("name=$(", &counts));
    user.run(&["--check"]).ended_with(5).said("is another system than a moment ago");
    user.is_as_before();
}

#[test]
fn a_host_that_fails_catches_no_mutant_and_what_was_found_stays() {
    let user = User::new();
    user.folder.put("full", "");
    let ran = user.run(&[]);
    ran.ended_with(5).said("the trial ends at configuration.nix:5:3: drop boots").said("No space left");
    assert_eq!(user.changes("caught.txt"), ["drop imports", "drop the import ./users.nix"]);
    assert_eq!(user.changes("missed.txt"), [""; 0]);
    user.is_as_before();
}

#[test]
fn a_run_that_can_not_be_written_down_does_not_say_that_a_mutant_was_missed() {
    let user = User::new();
    user.folder.put("mutants.out", "a file");
    user.run(&["--check"]).ended_with(5).said("mutants.out");
    user.is_as_before();
}

#[test]
fn a_signal_leaves_what_was_found_and_nothing_else() {
    let user = User::new();
    let mut child = user.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(400);
    let caught = user.folder.path().join("mutants.out/caught.txt");
    while std::fs::read_to_string(&caught).unwrap_or_default().is_empty() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!user.changes("caught.txt").is_empty());
    let outcomes: Value = serde_json::from_str(&user.out("outcomes.json")).unwrap();
    let caught = outcomes["caught"].as_u64().unwrap();
    assert!(caught > 0);
    user.is_as_before();
    user.run(&["--iterate", "--max", "0"])
        .ended_with(0)
        .printed(&format!("{caught} left out: caught before\n"));
}
