//! Machines that end and come up again.

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::ErrorKind;
use std::time::Duration;

#[tokio::test]
async fn a_crashed_machine_starts_again_under_the_same_handle_and_its_sessions_are_over() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let first = fake.machine.qemu().pid();
    fake.machine.crash().await;
    assert_eq!(fake.stopped(), ["crashed"]);
    let error = alice.execute("true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.to_string().contains("crashed"), "{error}");
    fake.machine.start().await.unwrap();
    assert_ne!(fake.machine.qemu().pid(), first);
    assert_eq!(fake.alice().await.succeed("echo back").await.unwrap().text(), "back\n");
    assert_eq!(alice.execute("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn starting_a_running_machine_changes_nothing() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    fake.machine.start().await.unwrap();
    alice.succeed("true").await.unwrap();
}

#[tokio::test]
async fn a_machine_that_was_powered_off_starts_again() {
    let fake = Fake::boot(FakeVm::new()).await;
    fake.machine.power_off().await.unwrap();
    fake.machine.start().await.unwrap();
    fake.alice().await.succeed("true").await.unwrap();
    fake.machine.power_off().await.unwrap();
    assert_eq!(fake.stopped().len(), 2);
}

#[tokio::test]
async fn the_end_of_a_machine_is_waited_for_and_the_limit_holds() {
    let fake = Fake::boot(FakeVm::new()).await;
    let machine = fake.machine.within(Duration::from_millis(50));
    assert_eq!(machine.wait_for_shutdown().await.unwrap_err().kind(), ErrorKind::Timeout);
    let alice = fake.alice().await;
    let (ended, _) =
        tokio::join!(fake.machine.wait_for_shutdown(), alice.execute("sudo poweroff; sleep 1000"));
    ended.unwrap();
    assert_eq!(fake.machine.reboot().await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

/// Whoever waits for the console and has the channels keeps both from whoever has them in the other order.
#[tokio::test]
async fn a_snapshot_and_the_first_command_beside_the_console_do_not_wait_for_each_other() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let machine = &fake.machine;
    let all = async { tokio::join!(alice.succeed("sleep 0.2"), machine.snapshot(), machine.succeed("true")) };
    let (first, snapshot, _) = tokio::time::timeout(crate::hang::HANG, all).await.expect("all return");
    first.unwrap();
    // The fake machine's disk is none that QEMU could write to.
    assert!(snapshot.is_err());
    alice.succeed("true").await.unwrap();
}
