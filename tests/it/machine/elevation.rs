//! Becoming root, by whatever there is: the question is answered where it is for the user's own password, and told by name
//! where it is not.

use std::time::{Duration, Instant};

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::ErrorKind;

fn vm(words: &[(&str, &str)]) -> FakeVm {
    words.iter().fold(FakeVm::new(), |vm, (key, value)| vm.setting(key, value))
}

/// What a scenario's own command asks is answered, and no part of its output.
async fn answers(vm: FakeVm, command: &str) {
    let fake = Fake::boot(vm).await;
    let alice = fake.alice().await;
    for _ in 0..2 {
        let output = alice.succeed(format!("echo before; {command} echo as root")).await.unwrap();
        assert_eq!(output.text(), "before\nas root\n", "{command}");
    }
}

/// What is typed for a purpose of our own gets its password.
async fn powers_off(vm: FakeVm, how: &str) {
    let fake = Fake::boot(vm).await;
    let _alice = fake.alice().await;
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped(), [format!("powered off by {how}")]);
}

#[tokio::test]
async fn every_sudo_gets_its_password() {
    for kind in ["german", "rs", "old-rs"] {
        answers(vm(&[("sudo", kind)]), "sudo").await;
        powers_off(vm(&[("sudo", kind)]), "sudo poweroff").await;
    }
}

/// A question that the configuration words is replaced in calls of our own.
#[tokio::test]
async fn a_prompt_of_ones_own_does_not_keep_root_away() {
    powers_off(vm(&[("passprompt", "who goes there? ")]), "sudo poweroff").await;
    answers(vm(&[("passprompt", "who goes there? ")]), "sudo").await;
    answers(vm(&[("env", "SUDO_PROMPT=say friend, %p")]), "sudo").await;
}

#[tokio::test]
async fn doas_and_run0_get_their_password() {
    answers(vm(&[("doas", "ask")]), "doas").await;
    answers(vm(&[("doas", "persist")]), "doas").await;
    answers(vm(&[("run0", "yes")]), "run0").await;
    answers(vm(&[("run0", "yes")]).user("alice", "test").user("bob", "builder"), "run0").await;
    answers(vm(&[("run0", "yes")]).user("bob", "builder").user("alice", "test"), "run0").await;
    powers_off(vm(&[("sudo", "none"), ("doas", "ask")]), "doas poweroff").await;
    powers_off(vm(&[("sudo", "none"), ("run0", "yes")]), "run0 poweroff").await;
}

/// Root is not had, and that is said at once, with the reason, and again at once.
async fn tells(vm: FakeVm, words: &[&str]) {
    let fake = Fake::boot(vm.setting("channel", "yes")).await;
    let alice = fake.alice().await;
    for again in [false, true] {
        let before = fake.machine.console().mark();
        let error = fake.machine.succeed("true").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRoot, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?}: {error}");
        }
        assert_eq!(error.to_string().contains("an earlier attempt failed"), again, "{error}");
        let typed = fake.machine.console().text_since(before).text;
        assert_eq!(typed.is_empty(), again, "{typed}");
    }
    assert_eq!(alice.succeed("echo still here").await.unwrap().text(), "still here\n");
}

#[tokio::test]
async fn a_failure_to_become_root_is_told_by_name_and_remembered() {
    tells(vm(&[("user", "alice:test:nowheel")]), &["could not become root", "not in the sudoers file"]).await;
    tells(vm(&[("code", "1234")]), &["sudo asks \"Verification code:\""]).await;
    tells(vm(&[("sudo", "rs"), ("code", "1234")]), &["sudo asks \"Verification code:\""]).await;
    tells(vm(&[("sudo", "none")]), &["could not become root", "sudo"]).await;
    let root_alone = vm(&[("sudo", "none"), ("run0", "yes"), ("user", "alice:test:nowheel")]);
    tells(root_alone, &["run0 asks \"Password:\"", "Authenticating as: root"]).await;
}

/// A new login may bring what was missing.
#[tokio::test]
async fn a_new_login_tries_root_again() {
    let vm = vm(&[("user", "bob:builder:nowheel"), ("user", "alice:test"), ("channel", "yes")]);
    let fake = Fake::boot(vm).await;
    let _bob = fake.machine.login("bob", "builder").await.unwrap();
    fake.machine.succeed("true").await.unwrap_err();
    let alice = fake.alice().await;
    assert_eq!(alice.succeed("sudo echo root").await.unwrap().text(), "root\n");
    let before = fake.machine.console().mark();
    fake.machine.succeed("true").await.unwrap();
    let typed = fake.machine.console().text_since(before).text;
    assert!(typed.contains("# open the control channel"), "{typed}");
}

/// The port of the channel appears later than the first command as root.
#[tokio::test]
async fn a_port_that_is_not_there_yet_is_tried_again() {
    // Not a fake channel, so the loader itself runs, and this host has no such port.
    let fake = Fake::boot(FakeVm::new()).await;
    let _alice = fake.alice().await;
    for _ in 0..2 {
        let before = fake.machine.console().mark();
        let error = fake.machine.succeed("true").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRoot, "{error}");
        assert!(error.to_string().contains("no virtio-serial port"), "{error}");
        assert!(!error.to_string().contains("an earlier attempt failed"), "{error}");
        let typed = fake.machine.console().text_since(before).text;
        assert!(typed.contains("# open the control channel"), "{typed}");
    }
}

/// What a program of our own asked is forgotten when its step is dropped: the next words at the end of an output are the command's.
#[tokio::test]
async fn a_step_that_is_dropped_at_a_question_leaves_nothing_behind() {
    let fake = Fake::boot(vm(&[("code", "1234")])).await;
    let alice = fake.alice().await;
    let mark = fake.machine.console().mark();
    let asked = async {
        while !fake.machine.console().text_since(mark).text.contains("Verification code:") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        () = asked => {}
        ended = fake.machine.power_off() => panic!("{ended:?}"),
    }
    let slow = alice.succeed("printf 'working on it'; sleep 4; echo .").await.unwrap();
    assert_eq!(slow.text(), "working on it.\n");
}

/// A command that waits for a secret is told from one that is slow.
#[tokio::test]
async fn a_question_is_told_and_a_slow_program_is_not_one() {
    tokio::join!(
        is_told("read -r -s -p 'PIN: ' pin", "PIN:"),
        is_told("printf 'Neues Passwort: '; cat", "Neues Passwort:"),
        is_told("printf '[sudo] password for bob: '; cat", "[sudo] password for bob:"),
        runs_on("printf 'Checking password: '; sleep 5; echo done"),
        runs_on("printf 'New root password: '; sleep 5; echo done"),
    );
}

async fn is_told(command: &str, question: &str) {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let started = Instant::now();
    let error = alice.within(Duration::from_secs(600)).execute(command).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandTimeout, "{error}");
    assert!(error.summary().ends_with(&format!("asks a question: {question}")), "{error}");
    assert!(started.elapsed() < Duration::from_secs(500), "it waited for the limit");
    assert_eq!(alice.succeed("echo still here").await.unwrap().text(), "still here\n");
}

async fn runs_on(slow: &str) {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    assert!(alice.succeed(slow).await.unwrap().text().ends_with(": done\n"), "{slow}");
}

/// The lecture says nothing about what went wrong.
#[tokio::test]
async fn the_lecture_is_left_out_of_the_last_lines() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    alice.succeed("sudo true").await.unwrap();
    let shown = fake.machine.console().tail(30);
    assert!(shown.contains("[sudo] password for alice:"), "{shown}");
    assert!(!shown.contains("lecture") && !shown.contains("#1)"), "{shown}");
}

/// `set -e` ends a shell at a command of the scenario that fails, and at none of ours.
#[tokio::test]
async fn a_refusal_of_root_does_not_end_a_shell_that_ends_at_each_failure() {
    for shell in ["bash", "dash", "zsh"] {
        if !nixvm_fake_guest::installed(shell) {
            eprintln!("{shell} is not installed here: not tried");
            continue;
        }
        for user in ["alice:test:nowheel", "root:test"] {
            let vm = vm(&[("shell", shell), ("startup", "set -e"), ("user", user), ("channel", "yes")]);
            let fake = Fake::boot(vm.setting("ignore-poweroff", "yes")).await;
            let name = user.split(':').next().unwrap();
            let session = fake.machine.login(name, "test").await.unwrap();
            if name == "alice" {
                assert_eq!(fake.machine.succeed("true").await.unwrap_err().kind(), ErrorKind::NoRoot);
                let Err(refused) = fake.machine.power_off().await else {
                    panic!("{shell}: {:?}\n{}", fake.stopped(), fake.machine.console().tail(100))
                };
                assert_eq!(refused.kind(), ErrorKind::CommandFailed, "{shell}: {refused}");
            }
            assert_eq!(session.succeed("whoami").await.unwrap().text(), format!("{name}\n"), "{shell}");
            let ended = session.execute("false").await.unwrap_err();
            assert_eq!(ended.kind(), ErrorKind::SessionEnded, "{shell}: {ended}");
        }
    }
}
