//! A guest that its QEMU has stopped of its own accord, or that boots again and again: whoever waits for it is told at once.

use std::time::Duration;

use super::Fake;
use crate::again;
use nixvm_fake_guest::FakeVm;
use nixvm_test::internals::Event;
use nixvm_test::{Error, ErrorKind};

/// What KVM said, and what to do.
fn is_kvms(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::GuestStopped, "{error}");
    let text = error.to_string();
    assert!(text.contains("KVM internal error. Suberror: 1"), "{text}");
    assert!(text.contains("NIXVM_ACCELERATOR=tcg"), "{text}");
}

#[test]
fn what_takes_its_time_or_ends_under_kvm_is_told_for_what_it_is() {
    again::passes(again::command("machine::halted::under_kvm").env("NIXVM_ACCELERATOR", "kvm"));
}

#[tokio::test]
#[ignore = "is started by the test above"]
async fn under_kvm() {
    let broken = FakeVm::new().setting("kvm", "internal-error");
    let error = Fake::try_boot(broken).await.err().expect("the boot fails");
    assert_eq!(error.kind(), ErrorKind::GuestStopped, "{error}");
    assert!(error.summary().contains("KVM internal error. Suberror: 1"), "{error}");
    // Some kernels can't enter a guest at the first try.
    let first_entry = FakeVm::new()
        .setting("halt", "firmware")
        .setting("halt-text", "error: kvm run failed Cannot allocate memory");
    let fake = Fake::boot(first_entry.clone().setting("halt-once", "yes")).await;
    assert!(fake.notes().iter().any(|note| note.contains("started again")), "{:?}", fake.notes());
    let error = Fake::try_boot(first_entry).await.err().expect("once, and not for ever");
    assert_eq!(error.kind(), ErrorKind::GuestStopped, "{error}");
    // PAM delays its answer, and what is typed meanwhile would be taken for a name.
    let fake = Fake::boot(FakeVm::new().setting("login-delay", "3s")).await;
    let refused = fake.machine.login("alice", "wrong").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LoginRefused, "{refused}");
    fake.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn a_guest_that_is_stopped_fails_what_waits_for_it_on_the_console() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    is_kvms(&alice.execute("fake halt; sleep 1000").await.unwrap_err());
    let machine = &fake.machine;
    is_kvms(&alice.execute("true").await.unwrap_err());
    is_kvms(&machine.login("alice", "test").await.unwrap_err());
    is_kvms(&machine.succeed("true").await.unwrap_err());
    is_kvms(&machine.console().expect("more", crate::hang::HANG).await.unwrap_err());
    is_kvms(&machine.wait_for_console_text("never said", crate::hang::HANG).await.unwrap_err());
    is_kvms(&machine.power_off().await.unwrap_err());
    is_kvms(&machine.wait_for_shutdown().await.unwrap_err());
    is_kvms(&machine.wait_for_qmp_event("RESET", crate::hang::HANG).await.unwrap_err());
    // QEMU itself answers, and what asks it alone.
    assert_eq!(machine.qmp("query-status", None).await.unwrap()["status"], "internal-error");
    let notes = fake.notes();
    assert!(
        notes.iter().any(|note| note.contains("QEMU stopped the guest: KVM internal error")),
        "{notes:?}"
    );
    machine.crash().await;
    machine.start().await.unwrap();
    fake.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn a_guest_that_is_stopped_at_its_login_prompt_fails_the_login() {
    // The boot is over once the prompt is followed by silence, and the getty answers too late for the login to be done
    // before.
    let fake = Fake::boot(FakeVm::new().setting("halt", "prompt+2s").setting("prompt-delay", "5s")).await;
    is_kvms(&fake.machine.login("alice", "test").await.unwrap_err());
}

#[tokio::test]
async fn a_guest_that_goes_on_after_a_stop_is_waited_for_again() {
    let vm = FakeVm::new().setting("halt-status", "io-error").setting("halt-text", "none");
    let fake = Fake::boot(vm).await;
    let alice = fake.alice().await;
    let error = alice.execute("fake halt & wait").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskError, "{error}");
    fake.machine.qmp("cont", None).await.unwrap();
    assert_eq!(alice.succeed("echo on").await.unwrap().text(), "on\n");
    fake.machine.power_off().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_panicked_and_a_pause_that_was_asked_for_are_told_apart() {
    let vm = FakeVm::new().setting("halt-status", "guest-panicked").setting("halt-text", "none");
    let fake = Fake::boot(vm).await;
    let alice = fake.alice().await;
    fake.machine.qmp("stop", None).await.unwrap();
    let error = fake.machine.console().expect("more", Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    fake.machine.qmp("cont", None).await.unwrap();
    assert_eq!(alice.execute("fake halt").await.unwrap_err().kind(), ErrorKind::KernelPanic);
}

#[tokio::test]
async fn a_boot_that_never_ends_is_a_boot_loop_and_one_reset_is_none() {
    for moment in ["firmware", "kernel", "services"] {
        let error =
            Fake::try_boot(FakeVm::new().setting("reset", moment)).await.err().expect("the boot fails");
        assert_eq!(error.kind(), ErrorKind::BootLoop, "{moment}: {error}");
    }
    let once = FakeVm::new().setting("reset", "kernel").setting("reset-limit", "1");
    Fake::boot(once).await.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn reboots_that_the_scenario_wants_are_no_loop_however_many() {
    let fake = Fake::boot(FakeVm::new().user("root", "secret")).await;
    let machine = &fake.machine;
    for _ in 0..3 {
        // The login prompt that comes then ends the session.
        let root = machine.login("root", "secret").await.unwrap();
        let error = root.execute("reboot; sleep 1000").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SessionEnded, "{error}");
    }
    // Nobody logs in: the console alone shows that the machine came up.
    let vm = FakeVm::new().setting("reset", "prompt+500ms").setting("reset-limit", "4");
    let fake = Fake::boot(vm).await;
    for _ in 0..4 {
        fake.machine.wait_for_qmp_event("RESET", crate::hang::HANG).await.unwrap();
    }
    let error = fake.machine.console().expect("never said", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_machine_that_comes_into_a_boot_loop_later_is_told_to_whoever_waits() {
    let vm = FakeVm::new().user("root", "secret").setting("reset", "kernel").setting("reset-after", "1");
    let fake = Fake::boot(vm).await;
    let root = fake.machine.login("root", "secret").await.unwrap();
    let waits = fake.machine.wait_for_qmp_event("GUEST_CRASHLOADED", crate::hang::HANG);
    let (rebooted, waited) = tokio::join!(root.execute("reboot; sleep 1000"), waits);
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::BootLoop);
    assert!(rebooted.is_err());
    assert_eq!(fake.machine.login("root", "secret").await.unwrap_err().kind(), ErrorKind::BootLoop);
}

impl Fake {
    /// The notes up to now.
    fn notes(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let note = |event: &Event| match event {
            Event::Note { text, .. } => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(note).collect()
    }
}
