//! Tests of this host's KVM, as far as firmware shows it.

use std::path::Path;

use super::*;
use crate::qemu::accelerator::Trial;

/// The firmware runs on one of the processors, or QEMU gives a reason. Some hosts that are virtual machines
/// themselves abort with all processor features, and run firmware with fewer of them.
#[tokio::test]
async fn kvm_runs_firmware_with_the_first_processor_that_this_host_has_or_qemu_says_why_not() {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return eprintln!("there is no KVM here");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run-nixos-vm");
    let text = "#!/bin/sh\nexec qemu-system-x86_64 -cpu max -m 64 -net none -nographic $QEMU_OPTS\n";
    nixvm_fake_guest::write_executable(&script, text).unwrap();
    let vm = BuiltVm::open(&script).unwrap();
    let mut trial = Trial::on_a_host(&vm, folder.path(), false, &Events::none());
    while trial.choice().accelerator == Accelerator::Kvm {
        let choice = trial.choice().clone();
        match speaks(&vm, &choice).await {
            Ok(cpu) => {
                assert_eq!(cpu, choice.cpu, "QEMU runs with it");
                // On the development machines 0x10a can't be set.
                assert_eq!(choice.cpu.is_some(), Path::new("/sys/module/kvm_pvm").exists(), "{choice:?}");
                return;
            }
            Err(error) => trial.failed(error).expect("QEMU says what is wrong with KVM"),
        }
    }
    assert!(!trial.choice().reason.is_empty());
}

/// Waits until the firmware prints something, and returns the processor that it runs on.
async fn speaks(vm: &BuiltVm, choice: &accelerator::Choice) -> Result<Option<&'static str>> {
    let run = RunDirectory::create()?;
    let mut launch = Launch::new(vm, "test", &run, Events::none());
    (launch.accelerator, launch.cpu) = (choice.accelerator, choice.cpu);
    let (qemu, mut console) = Qemu::launch(launch).await?;
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains("SeaBIOS") {
            if console.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                continue;
            }
            let mut exit = qemu.exit();
            let exit = exit.wait_for(Option::is_some).await.expect("QEMU ended").clone();
            return Err(exit.expect("it is some").error("QEMU ended"));
        }
        Ok(qemu.cpu())
    };
    tokio::time::timeout(LIMIT, reading).await.expect("firmware or an end in time")
}
