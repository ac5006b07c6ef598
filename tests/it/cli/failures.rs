//! What is printed of a failure, kind by kind, compared with what was found good: as text, and as it looks on a
//! terminal. `SNAPSHOTS=overwrite` writes what there is now.

use nixvm_fake_guest::FakeVm;
use snapbox::data::DataFormat;

use crate::folder::Folder;

/// A scenario of each kind of failure on a machine that is up.
const SCENARIOS: &str = r#"
#[scenario]
async fn the_password_is_wrong(machine: Machine) -> Result {
    machine.login("alice", "wrong").await?;
    Ok(())
}

#[scenario]
async fn a_command_fails(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.succeed("cd /").await?;
    alice.succeed("echo the page is empty; false").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_command_is_not_there(alice: Session) -> Result {
    alice.succeed("cowsya hello").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_command_succeeds_that_must_not(alice: Session) -> Result {
    alice.fail("echo anybody may do this").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_command_takes_too_long(alice: Session) -> Result {
    alice.within(Duration::from_millis(400)).succeed("echo begun; sleep 60").await?;
    Ok(())
}

#[scenario]
async fn the_console_says_something_else(machine: Machine) -> Result {
    let (console, alice) = (machine.console(), machine.login("alice", "test").await?);
    alice.execute("(sleep 0.2; echo 'ready: Nginx is up') &").await?;
    console.expect("ready: nginx is up", Duration::from_millis(900)).await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn the_kernel_panics(alice: Session) -> Result {
    alice.succeed("fake panic 'Attempted to kill init!'").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn qemu_ends(alice: Session) -> Result {
    alice.succeed("fake die 3").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn an_assertion_fails(alice: Session) -> Result {
    let cow = alice.succeed("echo moo").await?;
    assert_eq!(
        cow.text(), "hello\n",
        "what the cow says",
    );
    Ok(())
}

#[scenario]
async fn the_scenario_returns_an_error() -> Result {
    let pages = std::fs::read("/nowhere/pages")?;
    drop(pages);
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn the_session_ended(alice: Session) -> Result {
    alice.execute("exit").await.unwrap_err();
    alice.succeed("whoami").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_program_crashed_unnoticed(alice: Session) -> Result {
    alice.succeed("fake kernel 'cow[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4'").await?;
    Ok(())
}

#[scenario(timeout = "300ms")]
async fn the_scenario_takes_too_long(machine: Machine) -> Result {
    nixvm_test::tokio::time::sleep(Duration::from_secs(3600)).await;
    machine.power_off().await
}

#[scenario]
async fn nobody_there_may_become_root(machine: Machine) -> Result {
    machine.login("bob", "test").await?;
    machine.wait_for_unit("nginx.service").await?;
    Ok(())
}

#[scenario(configuration = "wbe.nix")]
async fn the_configuration_is_not_there(machine: Machine) -> Result {
    machine.power_off().await
}

#[scenario(allow("flying pigs"))]
async fn an_unknown_check_is_allowed(machine: Machine) -> Result {
    machine.power_off().await
}
"#;

/// One that needs a machine that boots, and what keeps it from that.
const BOOT: &str = "#[scenario]\nasync fn boots(machine: Machine) -> Result { machine.power_off().await }";
const BOOTS: [(&str, &str, &str); 3] = [
    ("the_kernel_panics_at_boot", "panic", "services"),
    ("the_boot_ends_in_emergency_mode", "boot", "emergency"),
    ("no_login_prompt_comes", "boot", "no-getty"),
];

/// What Nix says of a name that there is not, in the configuration of this folder.
const NIX: &str = r"#!/bin/sh
cat >&2 <<'END'
error: undefined variable 'cowsya'

       at FOLDER/configuration.nix:2:39:

            1| { pkgs, ... }: {
            2|   environment.systemPackages = [ pkgs.cowsay cowsya ];
             |                                              ^
            3| }

(use '--show-trace' to show detailed location information)
END
exit 1
";

/// The reports of what was printed: the name of the scenario, and what stands under it.
fn reports(out: &str) -> Vec<(String, String)> {
    let (_, failures) = out.split_once("\nfailures:\n").unwrap();
    let mut reports: Vec<(String, String)> = Vec::new();
    for line in failures.lines() {
        let plain = String::from_utf8(anstream::adapter::strip_str(line).to_string().into_bytes()).unwrap();
        match plain.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            Some(name) => reports.push((name.to_owned(), String::new())),
            None if plain == "failures:" => break,
            None => {
                if let Some((_, report)) = reports.last_mut() {
                    report.push_str(line);
                    report.push('\n');
                }
            }
        }
    }
    reports.into_iter().map(|(name, report)| (name, report.trim_end().to_owned() + "\n")).collect()
}

/// Without what is another in each run.
fn steady(report: &str, folder: &Folder) -> String {
    let replace = |text: String, pattern: &str, by: &str| {
        regex::Regex::new(pattern).unwrap().replace_all(&text, by).into_owned()
    };
    let text = report.replace(&folder.runs().canonicalize().unwrap().display().to_string(), "RUNS");
    let text = text.replace(&folder.path().display().to_string(), "FOLDER");
    let text = replace(text, r"RUNS/\d{8}-\d{6}-[0-9a-f]{4}", "RUNS/RUN");
    let text = replace(text, r"--against \d{8}-\d{6}-[0-9a-f]{4}", "--against RUN");
    let text = replace(text, r"\[ *\d+\.\d{6}\]", "[    1.234567]");
    let text = replace(text, r"after \d+\.\d s", "after 1.2 s");
    let text = replace(text, r"/tmp/\.tmp\w+|/var/tmp/\S+", "TMP");
    let text = text.replace(&crate::folder::cache().display().to_string(), "CACHE");
    let text = replace(text, r"CACHE/logs/[0-9a-f]+", "CACHE/logs/LOG");
    let text = replace(text, r"\b[0-9a-f]{5} [0-9a-f]{5}\b", "N0NCE n0nce");
    // How much of a panic's trace came before the report was written.
    let text = match text.contains("kernel panicked") {
        true => replace(
            text,
            r"(last lines of the console:(\x1b\[0m)?\n)(.*\|.*\n)+?(\x1b\[36m)?  scenario",
            "$1    | …\n$4  scenario",
        ),
        false => text,
    };
    replace(text, r"QEMU is process \d+", "QEMU is process 123")
}

#[track_caller]
fn compare(name: &str, report: &str) {
    let golden = |ending: &str| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/it/cli/failures/{name}.{ending}"))
    };
    let plain = anstream::adapter::strip_str(report).to_string();
    let assert = snapbox::Assert::new().action_env("SNAPSHOTS");
    assert.eq(plain, snapbox::Data::read_from(&golden("txt"), None).raw());
    let picture = snapbox::Data::text(report).coerce_to(DataFormat::TermSvg);
    assert.eq(picture, snapbox::Data::read_from(&golden("term.svg"), Some(DataFormat::TermSvg)).raw());
}

#[test]
fn every_kind_of_failure_is_told_as_it_was_found_good() {
    let folder = Folder::with("failures.rs", SCENARIOS);
    FakeVm::new().user("alice", "test").setting("user", "bob:test:nowheel").write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "failures.rs", "--", "--color=always", "--test-threads=2"]);
    ran.ended_with(1);
    let reports = reports(&ran.out);
    assert_eq!(reports.len(), SCENARIOS.matches("async fn").count(), "{}", ran.out);
    for (name, report) in &reports {
        compare(name, &steady(report, &folder));
    }
}

#[test]
fn a_boot_that_fails_is_told_as_it_was_found_good() {
    let folder = Folder::with("boots.rs", BOOT);
    folder.run(&["boots.rs", "--", "--list"]).ended_with(0);
    for (name, setting, value) in BOOTS {
        let _ = std::fs::remove_dir_all(folder.path().join("result"));
        FakeVm::new().setting(setting, value).write_to(folder.path());
        // A boot that falls silent is not tried once more under TCG then.
        let mut command = folder.command(&["--vm", "result", "boots.rs", "--", "--color=always"]);
        let ran = crate::folder::Ran::of(command.env("NIXVM_ACCELERATOR", "kvm"));
        ran.ended_with(4);
        let [(_, report)] = &reports(&ran.out)[..] else { panic!("{}", ran.out) };
        compare(name, &steady(report, &folder));
    }
}

#[test]
fn a_build_that_fails_is_told_as_it_was_found_good() {
    let folder = Folder::with("boots.rs", BOOT);
    let here = folder.path().display().to_string();
    let configuration = "{ pkgs, ... }: {\n  environment.systemPackages = [ pkgs.cowsay cowsya ];\n}\n";
    folder.put("configuration.nix", configuration);
    folder.put("nixpkgs/nixos/default.nix", "{ }");
    folder.program("bin/nix-build", NIX.replace("FOLDER", &here));
    let mut command = folder.command(&["--nixpkgs", "./nixpkgs", "boots.rs", "--", "--color=always"]);
    command.env("PATH", format!("{here}/bin:{}", std::env::var("PATH").unwrap()));
    let ran = crate::folder::Ran::of(&mut command);
    ran.ended_with(3);
    let [(_, report)] = &reports(&ran.out)[..] else { panic!("{}", ran.out) };
    compare("the_configuration_does_not_evaluate", &steady(report, &folder));
}
