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

/// How a QEMU ends of which the guest knows nothing: killed, told to end (its status is 0 then), crashed.
const ENDS: [(&str, &str); 3] =
    [("-9", "killed by signal 9 (SIGKILL)"), ("-15", "ended QEMU with a signal"), ("1", "exit status 1")];

#[tokio::test]
async fn a_qemu_that_ends_before_the_power_off_is_no_power_off() {
    for (status, words) in ENDS {
        let fake = Fake::boot(FakeVm::new()).await;
        let alice = fake.alice().await;
        let gone = alice.execute(&format!("fake die {status}; sleep 1000")).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::QemuGone, "{gone}");
        for _ in 0..2 {
            has(&fake.machine.power_off().await.unwrap_err(), ErrorKind::QemuGone, &["ended before", words]);
            has(&fake.machine.shutdown().await.unwrap_err(), ErrorKind::QemuGone, &["ended before", words]);
        }
        has(&fake.machine.wait_for_shutdown().await.unwrap_err(), ErrorKind::QemuGone, &[words]);
    }
}

#[tokio::test]
async fn a_qemu_that_ends_during_the_power_off_is_no_power_off() {
    for (status, words) in ENDS {
        for session in [true, false] {
            let vm = || FakeVm::new().setting("die", "shutdown").setting("die-status", status);
            let fake = Fake::boot(vm()).await;
            if session {
                fake.alice().await;
            }
            has(
                &fake.machine.power_off().await.unwrap_err(),
                ErrorKind::QemuGone,
                &["before the guest", words],
            );
            assert_eq!(fake.stopped(), Vec::<String>::new());
            let fake = Fake::boot(vm()).await;
            has(
                &fake.machine.shutdown().await.unwrap_err(),
                ErrorKind::QemuGone,
                &["before the guest", words],
            );
        }
    }
}

#[tokio::test]
async fn a_qemu_that_ends_at_any_moment_of_a_power_off_without_effect_is_no_power_off() {
    for (status, words) in &ENDS[..2] {
        for milliseconds in [0, 60, 300] {
            let vm = FakeVm::new().setting("ignore-poweroff", "yes").setting("ignore-acpi", "yes");
            let fake = Fake::boot(vm).await;
            let alice = fake.alice().await;
            let after =
                format!("(sleep {}; fake die {status}) >/dev/null 2>&1 &", f64::from(milliseconds) / 1e3);
            // It may end before this has answered.
            let _ = alice.execute(&after).await;
            let (powered_off, waited) =
                tokio::join!(fake.machine.power_off(), fake.machine.wait_for_shutdown());
            has(&powered_off.unwrap_err(), ErrorKind::QemuGone, &[words]);
            has(&waited.unwrap_err(), ErrorKind::QemuGone, &[words]);
        }
    }
}

#[tokio::test]
async fn a_qemu_that_is_told_to_quit_is_no_power_off() {
    let fake = Fake::boot(FakeVm::new()).await;
    let _ = fake.machine.qemu().qmp().execute("quit", None, crate::hang::HANG).await;
    fake.machine.qemu().exit().wait_for(Option::is_some).await.unwrap();
    for _ in 0..2 {
        let error = fake.machine.power_off().await.unwrap_err();
        has(&error, ErrorKind::QemuGone, &["host-qmp-quit", "its command `quit`"]);
    }
    has(&fake.machine.wait_for_shutdown().await.unwrap_err(), ErrorKind::QemuGone, &["host-qmp-quit"]);
    assert_eq!(fake.machine.reboot().await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

/// The scenario itself has ended it.
#[tokio::test]
async fn a_machine_that_was_stopped_is_off_and_was_not_powered_off() {
    let fake = Fake::boot(FakeVm::new()).await;
    fake.machine.crash().await;
    fake.machine.wait_for_shutdown().await.unwrap();
    has(&fake.machine.power_off().await.unwrap_err(), ErrorKind::QemuGone, &["`crash()`"]);
}

#[tokio::test]
async fn a_qemu_that_ends_during_a_reboot_is_named() {
    for (status, words) in ENDS {
        let fake = Fake::boot(FakeVm::new().setting("die", "shutdown").setting("die-status", status)).await;
        fake.alice().await;
        let error = fake.machine.reboot().await.unwrap_err();
        has(&error, ErrorKind::QemuGone, &[words]);
        assert!(!error.to_string().contains("-no-reboot"), "{error}");
    }
}
