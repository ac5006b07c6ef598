//! Powering off, and what it took.

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::ErrorKind;

#[tokio::test]
async fn sudo_poweroff_is_tried_first() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped(), ["powered off by sudo poweroff"]);
    assert_eq!(alice.run("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
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
async fn a_user_who_may_not_use_sudo_leaves_it_to_the_power_button() {
    let fake = Fake::boot(FakeVm::new().setting("user", "alice:test:nowheel")).await;
    let _alice = fake.alice().await;
    fake.machine.power_off().await.unwrap();
    let stopped = fake.stopped();
    assert!(
        stopped[0].starts_with("powered off by the power button (ACPI) (after sudo poweroff"),
        "{stopped:?}"
    );
}

#[tokio::test]
async fn a_guest_that_ignores_everything_is_ended_by_qemus_control_protocol() {
    let fake =
        Fake::boot(FakeVm::new().setting("ignore-acpi", "yes").setting("ignore-poweroff", "yes")).await;
    let _alice = fake.alice().await;
    fake.machine.power_off().await.unwrap();
    let stopped = fake.stopped();
    assert!(stopped[0].starts_with("powered off by QMP quit"), "{stopped:?}");
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
    let error = alice.run("sudo poweroff; sleep 1000").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::QemuGone | ErrorKind::SessionEnded), "{error}");
    fake.machine.power_off().await.unwrap();
}
