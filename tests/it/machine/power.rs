//! Powering off: what a person does, and what comes of it.

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::{Error, ErrorKind};
use std::time::Duration;

/// The machine runs on, and `stop` ends it.
async fn runs_on(fake: &Fake) {
    assert!(fake.machine.qemu().exit().borrow().is_none(), "{:?}", fake.stopped());
    assert_eq!(fake.stopped(), Vec::<String>::new());
    fake.machine.stop().await;
    assert!(fake.machine.qemu().exit().borrow().is_some());
    assert_eq!(fake.stopped(), ["stopped"]);
}

fn has(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[tokio::test]
async fn sudo_poweroff_powers_off() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped(), ["powered off by sudo poweroff"]);
    assert_eq!(alice.execute("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
    // Once more is no error, and nothing more happens.
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped().len(), 1);
}

#[tokio::test]
async fn without_a_session_the_power_button_is_pressed() {
    let fake = Fake::boot(FakeVm::new()).await;
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped(), ["powered off by the power button (ACPI)"]);
}

#[tokio::test]
async fn a_user_who_may_not_use_sudo_can_not_power_off() {
    let fake = Fake::boot(FakeVm::new().setting("user", "alice:test:nowheel")).await;
    let alice = fake.alice().await;
    let error = fake.machine.power_off().await.unwrap_err();
    has(&error, ErrorKind::CommandFailed, &["`sudo poweroff`", "alice is not in the sudoers file"]);
    // The session goes on.
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");
    runs_on(&fake).await;
}

#[tokio::test]
async fn a_password_that_sudo_does_not_take_is_named() {
    // bob logs in without a password, and sudo wants one all the same.
    let vm = FakeVm::new().setting("user", "bob:secret:unasked");
    let fake = Fake::boot(vm).await;
    let _bob = fake.machine.login("bob", "").await.unwrap();
    let error = fake.machine.power_off().await.unwrap_err();
    has(&error, ErrorKind::CommandFailed, &["`sudo poweroff`", "Sorry, try again"]);
    runs_on(&fake).await;
}

#[tokio::test]
async fn a_poweroff_without_effect_is_an_error() {
    for (user, words) in [("alice", "sudo poweroff"), ("root", "poweroff")] {
        let vm = FakeVm::new().user("alice", "test").user("root", "test").setting("ignore-poweroff", "yes");
        let fake = Fake::boot(vm).await;
        let _session = fake.machine.login(user, "test").await.unwrap();
        let error = fake.machine.within(Duration::from_millis(500)).power_off().await.unwrap_err();
        has(&error, ErrorKind::Timeout, &["still runs after", words]);
        runs_on(&fake).await;
    }
}

#[tokio::test]
async fn a_dead_power_button_is_an_error() {
    let fake = Fake::boot(FakeVm::new().setting("ignore-acpi", "yes")).await;
    let impatient = fake.machine.within(Duration::from_millis(500));
    let error = impatient.power_off().await.unwrap_err();
    has(&error, ErrorKind::Timeout, &["still runs after the power button", "ignores the power button"]);
    let error = impatient.shutdown().await.unwrap_err();
    has(&error, ErrorKind::Timeout, &["still runs after the power button"]);
    runs_on(&fake).await;
}

#[tokio::test]
async fn a_shutdown_that_hangs_is_an_error() {
    let fake = Fake::boot(FakeVm::new().setting("hang-at-shutdown", "yes")).await;
    let _alice = fake.alice().await;
    let error = fake.machine.within(Duration::from_secs(5)).power_off().await.unwrap_err();
    has(&error, ErrorKind::Timeout, &["still runs after sudo poweroff", "A stop job is running"]);
    runs_on(&fake).await;
}

#[tokio::test]
async fn shutdown_needs_no_rights_of_whoever_is_logged_in() {
    let fake = Fake::boot(FakeVm::new().setting("user", "alice:test:nowheel")).await;
    let alice = fake.alice().await;
    fake.machine.shutdown().await.unwrap();
    assert_eq!(fake.stopped(), ["powered off by the power button (ACPI)"]);
    assert_eq!(alice.execute("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn root_powers_off_without_sudo() {
    let fake = Fake::boot(FakeVm::new().user("root", "secret")).await;
    let _root = fake.machine.login("root", "secret").await.unwrap();
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped(), ["powered off by poweroff"]);
}

#[tokio::test]
async fn a_command_that_powers_the_machine_off_ends_the_session_and_power_off_is_content() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let error = alice.execute("sudo poweroff; sleep 1000").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::QemuGone | ErrorKind::SessionEnded), "{error}");
    fake.machine.power_off().await.unwrap();
}

#[tokio::test]
async fn a_reboot_that_is_refused_is_an_error_and_the_session_goes_on() {
    let fake = Fake::boot(FakeVm::new().setting("user", "alice:test:nowheel")).await;
    let alice = fake.alice().await;
    let error = fake.machine.reboot().await.unwrap_err();
    has(&error, ErrorKind::CommandFailed, &["`sudo reboot`", "alice is not in the sudoers file"]);
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");
}

#[tokio::test]
async fn a_reboot_without_effect_is_an_error() {
    let fake = Fake::boot(FakeVm::new().setting("ignore-poweroff", "yes")).await;
    let _alice = fake.alice().await;
    let error = fake.machine.within(Duration::from_millis(500)).reboot().await.unwrap_err();
    has(&error, ErrorKind::Timeout, &["did not go down for a reboot"]);
}

/// A question that is not answered is an error by itself, and nothing is waited for after it.
#[tokio::test]
async fn a_question_of_sudo_that_is_not_answered_is_an_error() {
    let fake = Fake::boot(FakeVm::new().setting("code", "1234")).await;
    let alice = fake.alice().await;
    let error = fake.machine.power_off().await.unwrap_err();
    has(&error, ErrorKind::CommandFailed, &["`sudo poweroff`", "asks \"Verification code:\""]);
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");
    let error = fake.machine.reboot().await.unwrap_err();
    has(&error, ErrorKind::CommandFailed, &["`sudo reboot`", "asks \"Verification code:\""]);
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");
    runs_on(&fake).await;
}
