//! Boots of the fake guest that end in silence or before they begin, each named for what it is.

use nixvm_fake_guest::FakeVm;
use nixvm_test::internals::BuiltVm;
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{Error, ErrorKind};

use crate::again;

async fn boot(vm: &FakeVm) -> Result<Machine, Error> {
    let folder = tempfile::tempdir().unwrap();
    let vm = BuiltVm::open(vm.write_to(folder.path())).unwrap();
    Machine::boot(&vm, MachineOptions::new("nixos")).await
}

#[tokio::test]
async fn an_option_that_qemu_refuses_is_named_at_once() {
    let error = boot(&FakeVm::new().qemu_options("-frobnicate")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone, "{error}");
    assert!(error.to_string().contains("-frobnicate: invalid option"), "{error}");
}

#[test]
fn a_boot_without_any_kernel_line_says_how_far_it_came() {
    // Where KVM is not proven yet, the machine would boot once more under TCG, whose limits are longer.
    again::passes(again::command("fake_boots::silence").env("NIXVM_ACCELERATOR", "kvm"));
}

/// They are silent for as long as a boot may be, so they go side by side.
#[tokio::test]
#[ignore = "is started by the test above"]
async fn silence() {
    let silent = async |vm: FakeVm, words: &str| {
        let error = boot(&vm).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BootStalled, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        for words in ["console=ttyS0", "likely cause: KVM of this host", "nixvm-test doctor --kvm"] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    };
    tokio::join!(
        silent(FakeVm::new().setting("stall", "start"), "printed nothing at all"),
        silent(FakeVm::new().setting("stall", "firmware"), "before the kernel's first line"),
    );
}

#[tokio::test]
async fn a_terminal_without_escapes_serves_as_well() {
    let vm = FakeVm::new().setting("term", "dumb").kernel_params("TERM=dumb");
    let machine = boot(&vm).await.unwrap();
    let alice = machine.login("alice", "test").await.unwrap();
    assert_eq!(alice.succeed("echo hi").await.unwrap().bytes(), b"hi\n");
    machine.power_off().await.unwrap();
}
