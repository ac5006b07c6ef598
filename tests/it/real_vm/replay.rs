//! What a real machine answered, by all the ways there are to ask it, is what a replay answers: without QEMU.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Asks by session, control channel, systemd's bus, commands that are watched, QMP, and the console; `{}` is what is
/// expected of a file.
const SCENARIO: &str = r#"use nixvm_test::console::Pattern;
use nixvm_test::prelude::*;

#[checkpoint]
async fn at_work(machine: &mut Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.succeed("echo planted >/root/plant").await.map(drop)
}

#[scenario(from = at_work, timeout = "10m")]
async fn asks(machine: Machine) -> Result {
    assert_eq!(machine.read_file("/root/plant").await?, b"{}\n");
    machine.succeed("test -e /root/plant && printf 'a\\377'").await?;
    let alice = machine.login("alice", "test").await?;
    assert_eq!(alice.succeed("cowsay moo | lolcat").await?.lines().count(), 8);
    assert_eq!(machine.as_user("alice").succeed("id -un").await?.text(), "alice\n");
    assert_eq!(machine.command("rev").stdin("tset").output().await?.text(), "test");
    assert_eq!(machine.execute("echo test >&2; exit 3").await?.stderr(), b"test\n");
    machine.wait_for_unit("multi-user.target").await?;
    machine.require_unit_state("nosuch.service", "inactive").await?;
    machine.wait_until_succeeds("test -d /root").await?;
    machine.write_file("/tmp/greeting", "hello").await?;
    machine.wait_for_file("/tmp/greeting").await?;
    machine.succeed("systemd-run --unit=greets echo it is said").await?;
    assert_eq!(machine.wait_for_log("greets", Pattern::regex("^it is")?).await?, "it is said");
    assert!(machine.qmp("query-status", None).await?["running"].as_bool().unwrap());
    machine.wait_for_console_text("logs in: ****", Duration::from_millis(10)).await.unwrap_err();
    machine.wait_for_console_text("login: ", Duration::from_secs(5)).await?;
    let before = machine.snapshot().await?;
    machine.succeed("rm /root/plant").await?;
    machine.restore(&before).await?;
    machine.succeed("test -e /root/plant").await?;
    machine.crash().await;
    machine.restore(&before).await?;
    let alice = machine.session().await.ok_or_else(|| Error::new(ErrorKind::Other, "nobody is logged in"))?;
    assert_eq!(alice.succeed("sudo cat /root/plant").await?.text(), "planted\n");
    machine.power_off().await
}

nixvm_test::main!();
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn put(&self, expected: &str) {
        std::fs::write(self.0.path().join("asks.rs"), SCENARIO.replace("{}", expected)).unwrap();
    }

    /// Runs it with `qemu` as the folder where programs are looked for first.
    fn run(&self, arguments: &[&str], first: &Path) -> Output {
        let path = format!("{}:{}", first.display(), std::env::var("PATH").unwrap());
        let configuration = super::root("configuration.nix");
        Command::new(env!("CARGO_BIN_EXE_nixvm-test"))
            .arg("asks.rs")
            .args(arguments)
            .current_dir(self.0.path())
            .env("PATH", path)
            .env("NIXVM_CONFIGURATION", configuration)
            .env("NIXVM_RUNS", self.0.path().join("runs"))
            .env_remove("NEXTEST_RUN_ID")
            .env_remove("CARGO_MANIFEST_DIR")
            .output()
            .unwrap()
    }

    fn answers(&self) -> PathBuf {
        let run = std::fs::read_dir(self.0.path().join("runs")).unwrap().next().unwrap().unwrap();
        run.path().join("asks/machine.answers")
    }
}

#[track_caller]
fn text(output: &Output, code: i32) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[test]
fn what_a_machine_answered_is_answered_again_without_one() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let nothing = tempfile::tempdir().unwrap();
    folder.put("planted");
    text(&folder.run(&[], nothing.path()), 0);
    let answers = std::fs::read_to_string(folder.answers()).unwrap();
    // The password, which is also a word.
    assert!(!answers.contains("test") && answers.contains("cowsay"), "{answers}");
    // Whatever would start a machine or build one fails.
    for program in ["nix-build", "nix-instantiate", "nix", "qemu-system-x86_64", "qemu-img"] {
        std::os::unix::fs::symlink("/bin/false", nothing.path().join(program)).unwrap();
    }
    let replayed = text(&folder.run(&["--against", "last"], nothing.path()), 0);
    assert!(replayed.contains("no machine is booted"), "{replayed}");
    folder.put("plentiful");
    let wrong = text(&folder.run(&["--against", "last"], nothing.path()), 1);
    assert!(wrong.contains("assertion `left == right` failed"), "{wrong}");
}
