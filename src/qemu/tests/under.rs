//! The accelerator for tests of a real QEMU: TCG, unless `NIXVM_TEST_ACCELERATOR` is `kvm`. `NIXVM_TEST_CPU`
//! is then the guest's processor, as a value of QEMU's `-cpu`.

use std::process::Command;

use crate::environment;
use crate::qemu::Accelerator;

/// The tests that also pass under KVM on a host whose KVM emulates real mode. The others need a processor
/// that is as fast as a real one.
const UNDER_KVM: [&str; 13] = [
    "qemu::halt::tests::a_real_qemu_that_stops_its_guest_at_a_panic_is_seen",
    "qemu::template::tests::a_machine_is_kept_as_it_stands_and_its_folder_may_be_moved",
    "qemu::template::tests::a_machine_that_can_not_be_saved_goes_on",
    "qemu::template::tests::a_template_that_is_damaged_gives_an_error_and_no_machine",
    "qemu::template::tests::clones_go_on_from_the_moment_of_saving_and_know_nothing_of_each_other",
    "qemu::tests::a_disk_is_plugged_in_and_one_that_the_guest_holds_on_to_is_named",
    "qemu::tests::a_forwarded_port_is_chosen_and_taken_at_once",
    "qemu::tests::a_key_that_is_none_and_a_machine_that_stands_still_are_named",
    "qemu::tests::a_machine_that_takes_no_card_says_what_to_do_and_forgets_the_image",
    "qemu::tests::a_usb_stick_comes_and_goes_on_a_machine_with_and_without_usb",
    "qemu::tests::the_memory_is_dumped_as_a_core_file",
    "qemu::tests::the_monitor_answers_and_its_refusals_are_errors",
    "qemu::tests::without_a_network_there_is_nothing_to_cut_or_to_forward",
];

/// Returns the accelerator and processor that the variables select.
pub(crate) fn chosen() -> (Accelerator, Option<&'static str>) {
    match environment::text("NIXVM_TEST_ACCELERATOR").as_deref() {
        None | Some("tcg") => (Accelerator::Tcg, None),
        Some("kvm") => (Accelerator::Kvm, environment::text("NIXVM_TEST_CPU").map(|cpu| &*cpu.leak())),
        Some(other) => panic!("NIXVM_TEST_ACCELERATOR is {other:?}: kvm or tcg"),
    }
}

/// Returns KVM with a processor with which QEMU starts here, or `None` if /dev/kvm does not open.
pub(crate) fn kvm() -> Option<(Accelerator, Option<&'static str>)> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("left out, since /dev/kvm does not open: {error}");
        return None;
    }
    // On the development machines QEMU aborts with all processor features.
    let less = std::path::Path::new("/sys/module/kvm_pvm").exists();
    Some((Accelerator::Kvm, less.then_some("max,arch-capabilities=off")))
}

#[test]
fn the_tests_of_a_real_qemu_pass_under_kvm_as_well() {
    let Some((_, cpu)) = kvm() else { return };
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", "--test-threads=2"]).args(UNDER_KVM).env("NIXVM_TEST_ACCELERATOR", "kvm");
    tests.envs(cpu.map(|cpu| ("NIXVM_TEST_CPU", cpu)));
    let ran = tests.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    println!("{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success());
    assert!(said.contains(&format!(" {} passed", UNDER_KVM.len())), "each of them is there");
}
