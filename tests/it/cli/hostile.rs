//! A guest that prints what CI systems take for commands, and passwords, on every way on which its words get out.

use std::path::Path;

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};

/// The login fails in a line below the first password; the last line prints lines of the guest from their beginning.
const SCENARIO: &str = r#"
const PASSWORD: &str = "S3cr3tPw";

#[scenario]
async fn hostile(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.succeed(&format!("echo 'bob:{PASSWORD}' -p{PASSWORD}")).await?;
    alice.succeed(r"printf 'S3cr\033[1m3t\033[0mPw S3c\033P~\033\\r3tPw nixos-te%s\n' st").await?;
    alice.succeed("echo '::add-mask::step ##[error]step ##vso[task.complete]step ##teamcity[step] section_start:1:step'").await?;
    alice.succeed(r"printf 'A:S3cr\0073tPw B:S3cr\0003tPw C:S3cr\342\200\2133tPw D:S3cr\302\23331m3tPw E:S3cr\302\255\0013tPw\n'").await?;
    alice.succeed("echo '[[ATTACHMENT|/etc/shadow]]'").await?;
    let theirs = format!("thread\n::error::x ##[error]x ##vso[x]x ##teamcity[x] section_start:1:x S3cr\u{7}{}", &PASSWORD[4..]);
    assert!(std::thread::spawn(move || panic!("{theirs}")).join().is_err());
    let said = alice.succeed(r"printf '%s\n' '::error file=x::forged' '  ::stop-commands::x' 'a ##[error]b' '##vso[a]b' '##teamcity[c]' 'section_end:1:d'").await?;
    let why = format!("{said}\nthe password {PASSWORD} is not {}", "Other-Pw1");
    assert!(login(&alice, "Other-Pw1", "no"), "{why}");
    Ok(())
}

fn login(_: &Session, _password: &str, _: &str) -> bool { false }
"#;

/// The commands that the runner of a CI system finds in a log, line by line: for GitHub as `ActionCommand.TryParseV2` and
/// `TryParse` of actions/runner do.
fn commands(system: &str, log: &str) -> Vec<String> {
    let lines = log.split(['\n', '\r']);
    let found = lines.filter(|line| match system {
        "GITHUB_ACTIONS" => {
            let v2 = line.trim_start().strip_prefix("::").is_some_and(|rest| rest.contains("::"));
            v2 || line.contains("##[")
        }
        "GITLAB_CI" => line.contains("section_start:") || line.contains("section_end:"),
        "TF_BUILD" => line.contains("##vso[") || line.contains("##["),
        "TEAMCITY_VERSION" => line.contains("##teamcity["),
        _ => false,
    });
    found.map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Text without the escape sequences that the scenario prints.
fn stripped(text: &str) -> String {
    text.replace("\u{1b}[1m", "")
        .replace("\u{1b}[0m", "")
        .replace("\u{1b}P~\u{1b}\\", "")
        .replace("\\u001b[1m", "")
        .replace("\\u001b[0m", "")
        .replace("\\u001bP~\\u001b\\\\", "")
        .replace(['\0', '\u{7}', '\u{1}', '\u{200b}', '\u{fffd}', '\u{ad}'], "")
        .replace("\\u0007", "")
        .replace("\\u0001", "")
        .replace("\\u0000", "")
        .replace("\u{9b}31m", "")
        .replace("31m", "")
}

#[test]
fn no_ci_system_finds_a_command_in_what_a_guest_prints_and_no_file_of_the_record_has_a_password() {
    let folder = Folder::with("a.rs", SCENARIO);
    FakeVm::new().write_to(folder.path());
    let summary = folder.path().join("summary.md");
    for system in ["GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "TEAMCITY_VERSION", "NONE"] {
        let mut command = folder.command(&["-v", "--vm", "result", "a.rs"]);
        for other in ["GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "TEAMCITY_VERSION"] {
            command.env_remove(other);
        }
        command.env(system, "true").env("GITHUB_STEP_SUMMARY", &summary).env("CI", "true");
        command.env("GITHUB_WORKSPACE", folder.path());
        let ran = Ran::of(&mut command);
        ran.ended_with(1);
        let log = format!("{}\n{}", ran.out, ran.err);
        let found = commands(system, &log);
        match system {
            "GITHUB_ACTIONS" => {
                assert_eq!(found.len(), 1, "{found:#?}");
                assert!(
                    found[0].starts_with("::error file=a.rs,line=") && !found[0].contains("##["),
                    "{found:?}"
                );
                assert!(log.contains("\n  : :stop-commands::x"), "it can be read still\n{log}");
            }
            "NONE" => assert!(log.contains("\n  ::stop-commands::x"), "{log}"),
            _ => assert_eq!(found, [""; 0], "{system}"),
        }
        for secret in ["S3cr3tPw", "Other-Pw1"] {
            assert!(!stripped(&log).contains(secret), "{secret} is printed\n{log}");
        }
        assert!(log.contains("panicked at"), "a thread's panic is told\n{log}");
    }
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(summary.contains("hostile") && !summary.contains("S3cr3tPw"), "{summary}");
    let mut checked = Vec::new();
    for file in files(&folder.runs()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = stripped(&String::from_utf8_lossy(&std::fs::read(&file).unwrap()));
        // Answers have what the scenario asks as it asks it, for a replay.
        if !name.ends_with(".answers") {
            assert!(!text.contains("S3cr3tPw") && !text.contains("Other-Pw1"), "{}\n{text}", file.display());
        }
        if name == "events.jsonl" {
            // Texts have whole words masked.
            assert!(text.contains("nixos-test") && text.contains("bob:****"), "{text}");
        }
        if name == "junit.xml" {
            let attached: Vec<&str> = text.lines().filter(|line| line.contains("[[ATTACHMENT|")).collect();
            assert!(
                attached.iter().all(|line| !line.contains("/etc/shadow")) && attached.len() > 1,
                "{attached:?}"
            );
        }
        checked.push(name);
    }
    for name in [
        "events.jsonl",
        "junit.xml",
        "report.html",
        "machine.transcript",
        "machine.cast",
        "machine.log",
        "machine.svg",
        "machine.film",
    ] {
        assert!(checked.iter().any(|checked| checked == name), "{name} is not among {checked:?}");
    }
}

#[test]
fn a_command_line_that_is_refused_is_quoted_without_what_a_terminal_acts_on() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    let evil = "\x1b[31mEVIL\x1b]0;t\x07\u{202e}abc";
    for arguments in [["--jobs", evil], ["a.rs", &format!("--{evil}")], ["completions", evil]] {
        let ran = folder.run(&arguments);
        ran.ended_with(2).said("EVIL");
        assert!(!ran.err.contains(['\x1b', '\x07', '\u{202e}']), "{:?}", ran.err);
    }
    let ran = folder.run(&["a.rs", "--", &format!("--{evil}")]);
    ran.ended_with(2);
    assert!(!ran.err.contains(['\x1b', '\x07', '\u{202e}']), "{:?}", ran.err);
    let mut command = folder.command(&["config"]);
    let ran = crate::folder::Ran::of(command.env("NIXVM_ACCELERATOR", evil));
    assert!(ran.out.contains("EVIL") && !ran.out.contains(['\x1b', '\u{202e}']), "{:?}", ran.out);
}
