//! Boots that fail, each by its name and not by a limit.

use super::Fake;
use crate::again;
use nixvm_fake_guest::FakeVm;
use nixvm_test::ErrorKind;
use nixvm_test::internals::BuiltVm;
use nixvm_test::machine::{Machine, MachineOptions};

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
async fn a_dialog_of_a_failed_boot_is_named_at_once_and_no_key_is_pressed() {
    let stage_1 = FakeVm::new().setting("boot", "stage-1");
    let words = [
        "stage 1 of the guest's boot failed",
        "An error occurred in stage 1",
        "/mnt-root/ failed: No such file or directory",
        "*) to ignore the error and continue",
    ];
    fails(stage_1, ErrorKind::EmergencyMode, &words).await;
    let rescue = FakeVm::new().setting("boot", "rescue");
    fails(rescue, ErrorKind::EmergencyMode, &["rescue mode", "Give root password for maintenance"]).await;
}

#[tokio::test]
async fn a_passphrase_that_was_not_given_is_named_at_once() {
    for systemd in ["no", "yes"] {
        let vm = FakeVm::new().setting("passphrase", "Open-Sesame7").setting("systemd-initrd", systemd);
        let words = ["asks for a secret, and the scenario has none", "#[scenario(passphrase = "];
        fails(vm, ErrorKind::BootQuestion, &words).await;
    }
}

#[tokio::test]
async fn a_passphrase_opens_the_disk_at_each_boot_and_is_masked() {
    for systemd in ["no", "yes"] {
        let vm = FakeVm::new().setting("passphrase", "Open-Sesame7").setting("systemd-initrd", systemd);
        let fake = Fake::boot_with(vm, |options| options.passphrase("Open-Sesame7")).await;
        fake.alice().await;
        fake.machine.reboot().await.unwrap();
        fake.alice().await;
        let log = fake.machine.console().log().unwrap();
        assert!(log.matches("assphrase for ").count() >= 2, "{log}");
        assert!(!log.contains("Open-Sesame7"), "{log}");
    }
}

#[tokio::test]
async fn a_passphrase_that_is_refused_is_named_at_once_and_shown_nowhere() {
    for systemd in ["no", "yes"] {
        let vm = FakeVm::new().setting("passphrase", "Open-Sesame7").setting("systemd-initrd", systemd);
        let booted = Fake::try_boot_with(vm, |options| options.passphrase("Wr0ng-Sesame")).await;
        let error = booted.err().expect("the boot fails");
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::BootQuestion, "{text}");
        assert!(text.contains("refused the passphrase") && text.contains("assphrase for "), "{text}");
        assert!(!text.contains("Wr0ng-Sesame"), "{text}");
    }
}

#[tokio::test]
async fn a_boot_that_repairs_a_disk_and_boots_again_is_given_the_passphrase_again() {
    let vm = FakeVm::new().setting("passphrase", "Open-Sesame7").setting("boot", "fsck-once");
    let fake = Fake::boot_with(vm, |options| options.passphrase("Open-Sesame7")).await;
    let log = fake.machine.console().log().unwrap();
    assert!(log.matches("Passphrase for ").count() >= 2 && log.contains("fsck finished"), "{log}");
}

#[tokio::test]
async fn a_service_that_prints_a_secret_asks_for_none() {
    let vm =
        || FakeVm::new().setting("service", "Generated admin password: ").setting("service-time", "1500");
    for given in [false, true] {
        let fake =
            Fake::boot_with(vm(), |options| if given { options.passphrase("Open-Sesame7") } else { options })
                .await;
        let log = fake.machine.console().log().unwrap();
        assert!(log.contains("Generated admin password: ") && !log.contains("a key came"), "{log}");
    }
}

#[tokio::test]
async fn a_progress_that_ends_in_a_sign_of_a_shell_is_no_login_prompt() {
    let vm = FakeVm::new().setting("service", "Loading: 47%").setting("service-then", "\rLoading: 48%");
    let fake = Fake::boot(vm.setting("service-time", "4s")).await;
    let log = fake.machine.console().log().unwrap();
    assert!(log.contains("nixos login: "), "{log}");
}

#[tokio::test]
async fn the_phases_of_a_systemd_initrd_are_not_those_of_the_system() {
    let fake = Fake::boot(FakeVm::new().setting("systemd-initrd", "yes")).await;
    assert_eq!(fake.phases(), ["firmware", "kernel", "initrd", "services", "login prompt"]);
    let fake = Fake::boot(FakeVm::new()).await;
    assert_eq!(fake.phases(), ["firmware", "kernel", "initrd", "services", "login prompt"]);
}

#[tokio::test]
async fn a_boot_loop_is_explained_by_the_console() {
    let words = ["boot loop", "the console says: fsck finished, rebooting..."];
    fails(FakeVm::new().setting("boot", "fsck"), ErrorKind::BootLoop, &words).await;
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
    let set = |key: &str, value: &str| FakeVm::new().setting(key, value);
    let at_ttys0 = "console=ttyS0,115200n8: the first serial port, which nixvm-test reads";
    let late = "[DEPEND] Dependency failed for Serial Getty on ttyS0.";
    let question = ["that nixvm-test does not know: Wipe the disk? [y/N]", "nothing was typed"];
    // The kernel unpacks a large initial ramdisk, and then the boot goes on.
    let (no_getty, fell) = (["getty", at_ttys0, doubt], ["fell silent", at_ttys0, doubt]);
    let no_tty = ["the console says: [ TIME ] Timed out", late];
    let unpacks = async {
        Fake::boot(set("unpack", "34s")).await;
    };
    let busy = async {
        let vm = set("service", "Wipe the disk? [y/N] ").setting("service-time", "36s");
        let fake = Fake::boot(vm.setting("busy", "yes")).await;
        let log = fake.machine.console().log().unwrap();
        assert!(log.contains("Wipe the disk?") && !log.contains("a key came"), "{log}");
    };
    let secret = ["asks for a secret, and the scenario has none", "Vault key of alice:"];
    // Each ends with the silence of a guest at rest.
    tokio::join!(
        fails(set("boot", "no-getty"), ErrorKind::NoLoginPrompt, &no_getty),
        fails(set("boot", "no-tty"), ErrorKind::NoLoginPrompt, &no_tty),
        fails(set("stall", "kernel"), ErrorKind::BootStalled, &fell),
        fails(set("ask", "Wipe the disk? [y/N] "), ErrorKind::BootQuestion, &question),
        fails(set("ask", "Vault key of alice: "), ErrorKind::BootQuestion, &secret),
        unpacks,
        busy,
    );
}

#[tokio::test]
async fn what_the_run_script_printed_is_kept_apart_from_qemus_end() {
    let folder = tempfile::tempdir().unwrap();
    let vm = FakeVm::new().setting("die", "services").setting("die-text", "qemu: could not do it");
    let vm = BuiltVm::open(vm.write_to(folder.path())).unwrap();
    let script = vm.script().canonicalize().unwrap();
    let text = std::fs::read_to_string(&script).unwrap();
    let prints = "for i in 1 2 3; do echo \"Processing store path $i\"; done\nexec ";
    nixvm_fake_guest::write_executable(&script, text.replacen("exec ", prints, 1)).unwrap();
    let vm = BuiltVm::open(script).unwrap();
    let error = Machine::boot(&vm, MachineOptions::new("nixos")).await.unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::QemuGone && text.contains("qemu: could not do it"), "{text}");
    assert!(!text.contains("Processing"), "{text}");
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

/// Words of a login prompt in a greeting, or in the output of a service, are none.
#[tokio::test]
async fn a_boot_is_over_at_the_login_prompt_and_not_at_words_like_it() {
    for words in ["User login: is prepared\n", "Please wait for login: ", "Preparing login: 50%"] {
        let vm = FakeVm::new().setting("service", words).setting("service-time", "1500");
        let fake = Fake::boot(vm.setting("issue", "Demo machine. login: alice\nPassword: test\n")).await;
        let shown = fake.machine.console().tail(4);
        assert!(shown.trim_end().ends_with("nixos login:"), "{words:?}: {shown}");
        fake.alice().await.succeed("true").await.unwrap();
        assert!(!fake.machine.console().tail(100).contains("a key came"), "{words:?}");
    }
}
