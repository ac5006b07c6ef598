//! What machines and systems are built from: files, commits and systems that say their commit.

use std::process::Command;

use nixvm_fake_guest::{FakeVm, write_executable};

use crate::folder::{Folder, Ran, file};

/// The machine of the last commit, and the system that is in the working tree.
const NEXT: &str = r#"
#[scenario(machine = "git:HEAD", next = "../hosts/configuration.nix")]
async fn next_is_not_committed(machine: Machine, next: System) -> Result {
    println!("{next} is {}", next.path()?.display());
    machine.power_off().await
}
"#;

/// A repository with a configuration that imports a file above it, and a nix-build that builds the VM with the name in
/// that file.
fn repository() -> Folder {
    let folder = Folder::new();
    for vm in ["today", "tomorrow"] {
        std::fs::create_dir(folder.path().join(vm)).unwrap();
        FakeVm::new().write_to(folder.path().join(vm));
    }
    folder.put("nixpkgs/nixos/default.nix", "{ }");
    folder.put(".gitignore", "/today\n/tomorrow\n/bin\n/nixpkgs\n/calls\n");
    folder.put("hosts/configuration.nix", "{ imports = [ ../name ]; }");
    folder.put("name", "today");
    folder.put("scenarios/a.rs", file(NEXT));
    folder.put("nixvm.toml", "configuration = \"hosts/configuration.nix\"\n");
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in nixos-config=*) config=${{word#*=}};; nixpkgs=*) nixpkgs=$word;; esac; done\n\
         echo \"$nixpkgs\" >>{0}/calls\necho {0}/$(cat \"${{config%/*}}/../name\")/result\n",
        folder.path().display()
    );
    write_executable(folder.path().join("bin/nix-build"), script).unwrap();
    git(&folder, &["init", "--quiet", "--initial-branch=main"]);
    git(&folder, &["add", "--all"]);
    commit(&folder, "today \u{1b}[31mit is");
    folder.put("name", "tomorrow");
    folder
}

fn git(folder: &Folder, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").current_dir(folder.path());
    command.args(["-c", "user.name=Alice", "-c", "user.email=alice@example.org"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(folder: &Folder, subject: &str) {
    git(folder, &["commit", "--quiet", "--all", "--message", subject]);
}

fn run(folder: &Folder, arguments: &[&str]) -> Ran {
    let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = folder.command(arguments);
    command.env("PATH", path).env("NIXVM_NIXPKGS", folder.path().join("nixpkgs"));
    // A cache of its own, where the commits are checked out.
    command.env("NIXVM_CACHE_DIR", folder.runs().join("cache"));
    Ran::of(&mut command)
}

#[test]
fn a_machine_of_the_last_commit_and_a_system_that_is_not_committed() {
    let folder = repository();
    // Scenarios are compiled in the cache that all tests share.
    let short = git(&folder, &["rev-parse", "--short", "HEAD"]);
    let ran = run(&folder, &["scenarios/a.rs", "--", "--nocapture"]);
    let tomorrow = folder.path().join("tomorrow/result/system").display().to_string();
    ran.ended_with(0)
        .printed(&format!("next (../hosts/configuration.nix) is {tomorrow}"))
        .said(&format!("git:HEAD is {short} of "))
        .said(" (today it is); uncommitted changes of 1 file are not in it");
    let started: Vec<&str> = ran.err.lines().filter(|line| line.contains("(QEMU is process ")).collect();
    assert_eq!(started.len(), 1, "{}", ran.err);
    assert!(!folder.path().join("hosts/result").exists());
    let list = run(&folder, &["list", "scenarios/a.rs"]);
    list.ended_with(0)
        .printed("machine: git:HEAD\n")
        .printed("next: scenarios/../hosts/configuration.nix (a system, not booted)\n");
    run(&folder, &["cache", "prune"]).ended_with(0).printed("and 1 checked-out commit");
}

#[test]
fn a_commit_that_is_not_there_is_a_mistake_in_the_scenario() {
    let folder = repository();
    let code =
        |source: &str| format!("#[scenario(next = {source:?})] async fn a(next: System) {{ drop(next) }}");
    folder.put("scenarios/b.rs", file(&code("git:mian")));
    run(&folder, &["scenarios/b.rs"]).ended_with(2).printed("did you mean main?");
    folder.put("scenarios/b.rs", file(&code("git:HEAD:./x.nix")));
    run(&folder, &["scenarios/b.rs"])
        .ended_with(2)
        .printed("the commit has no scenarios/x.nix")
        .printed("a.rs");
    folder.put("scenarios/b.rs", file(&code("gti:HEAD")));
    run(&folder, &["scenarios/b.rs"])
        .ended_with(2)
        .printed("other sources begin with git:, profile:, flake: or vm:");
}

#[test]
fn a_profile_is_built_from_the_commit_that_it_names() {
    let folder = repository();
    let commit = git(&folder, &["rev-parse", "HEAD"]);
    let says = |text: &str| {
        std::fs::create_dir_all(folder.path().join("today/profile/sw/bin")).unwrap();
        let program = folder.path().join("today/profile/sw/bin/nixos-version");
        write_executable(program, format!("#!/bin/sh\necho {text}\n")).unwrap();
    };
    let code = "#[scenario(next = \"profile:../today/profile\")]\n\
                async fn a(next: System) -> Result { println!(\"{}\", next.path()?.display()); Ok(()) }";
    folder.put("scenarios/b.rs", file(code));
    says(&commit);
    let ran = run(&folder, &["scenarios/b.rs", "--", "--nocapture"]);
    ran.ended_with(0)
        .printed(&folder.path().join("today/result/system").display().to_string())
        .said("profile:../today/profile is ");
    says(&"1".repeat(40));
    run(&folder, &["scenarios/b.rs"]).ended_with(2).printed("there is no revision \"1111");
    says(&format!("{commit}-dirty"));
    run(&folder, &["scenarios/b.rs"]).ended_with(2).printed("was built with uncommitted changes");
}

#[test]
fn a_parameter_is_built_with_its_own_nixpkgs() {
    let folder = repository();
    folder.put("scenarios/release/nixos/default.nix", "{ }");
    let code = "#[scenario(nixpkgs(next = \"./release\"))]\n\
                async fn a(today: System, next: System) -> Result { today.path()?; next.path().map(drop) }";
    folder.put("scenarios/b.rs", file(code));
    run(&folder, &["scenarios/b.rs"]).ended_with(0);
    let here = folder.path().display().to_string();
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(calls, format!("nixpkgs={here}/nixpkgs\nnixpkgs={here}/scenarios/release\n"));
}

#[test]
fn a_rehearsal_reaches_root_also_for_a_scenario_that_begins_before_any_login() {
    let folder = Folder::with(
        "a.rs",
        "#[scenario] async fn a(machine: Machine) -> Result { machine.power_off().await }",
    );
    for vm in ["today", "tomorrow"] {
        std::fs::create_dir(folder.path().join(vm)).unwrap();
        FakeVm::new().write_to(folder.path().join(vm));
    }
    let users = folder.path().join("users-groups.json").display().to_string();
    folder.put(
        "users-groups.json",
        r#"{"users": [{"name": "alice", "initialPassword": "test"}], "groups": [{"name": "wheel", "members": ["alice"]}]}"#,
    );
    folder.put("today/result/system/activate", format!("update-users-groups.pl {users}\n"));
    let mut command = folder.command(&["a.rs", "--no-template"]);
    command.env("NIXVM_VM", folder.path().join("today/result")).env("NIXVM_REHEARSED", "switched");
    let ran = Ran::of(command.env("NIXVM_REHEARSED_NEXT", folder.path().join("tomorrow/result")));
    // The fake guest has no port for root.
    ran.ended_with(1).said("login as alice").printed("root is needed: alice could not become root");
}
