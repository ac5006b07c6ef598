//! Boots that fail, each by its name and not by a limit.

use super::Fake;
use crate::again;
use nixvm_fake_guest::FakeVm;
use nixvm_test::ErrorKind;

async fn fails(vm: FakeVm, kind: ErrorKind, words: &[&str]) {
    let error = Fake::try_boot(vm).await.err().expect("the boot fails");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn a_panic_is_named() {
    fails(
        FakeVm::new().setting("panic", "kernel"),
        ErrorKind::KernelPanic,
        &["kernel panicked", "not syncing"],
    )
    .await;
}

#[tokio::test]
async fn emergency_mode_is_named() {
    fails(FakeVm::new().setting("boot", "emergency"), ErrorKind::EmergencyMode, &["emergency mode"]).await;
    fails(
        FakeVm::new().setting("boot", "root-locked"),
        ErrorKind::EmergencyMode,
        &["root account is locked"],
    )
    .await;
}

#[tokio::test]
async fn a_qemu_that_dies_is_named_with_its_last_words() {
    let vm = FakeVm::new().setting("die", "services").setting("die-text", "qemu: could not do it");
    fails(vm, ErrorKind::QemuGone, &["QEMU", "could not do it"]).await;
}

#[test]
fn a_boot_that_stops_talking_is_named() {
    // Where KVM is not proven yet, the machine would boot once more under TCG, whose limits are longer.
    again::passes(again::command("machine::booting::silence").env("NIXVM_ACCELERATOR", "kvm"));
}

/// They are silent for as long as a boot may be, so they go side by side.
#[tokio::test]
#[ignore = "is started by the test above"]
async fn silence() {
    let doubt = "NIXVM_ACCELERATOR=tcg the same boot shows which";
    let fails = async |setting: (&str, &str), kind, words: &str| {
        fails(FakeVm::new().setting(setting.0, setting.1), kind, &[words, "console=ttyS0", doubt]).await;
    };
    tokio::join!(
        fails(("boot", "no-getty"), ErrorKind::NoLoginPrompt, "getty"),
        fails(("stall", "kernel"), ErrorKind::BootStalled, "fell silent"),
    );
}

#[tokio::test]
async fn a_panic_while_a_command_runs_is_named_at_once() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let error = alice.execute("fake panic; sleep 1000").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KernelPanic, "{error}");
}

#[tokio::test]
async fn a_qemu_that_dies_while_a_command_runs_is_named_at_once() {
    let fake = Fake::boot(FakeVm::new().setting("die-text", "qemu: killed by a test")).await;
    let alice = fake.alice().await;
    let error = alice.execute("fake die 3; sleep 1000").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone, "{error}");
    assert!(error.to_string().contains("3"), "{error}");
}

#[tokio::test]
async fn a_command_that_prints_the_words_of_a_panic_is_no_panic() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let output = alice
        .execute("echo 'the log said: Kernel panic - not syncing: test'; echo 'You are in emergency mode'")
        .await;
    assert!(output.unwrap().text().contains("not syncing"));
}
