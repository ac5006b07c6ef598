//! `nixvm-test rehearse` with scenarios, as far as no machine is needed.

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;

/// Returns a folder with a scenario and two built VMs, `today` and `next`.
fn folder(scenario: &str) -> Folder {
    let folder = Folder::with("a.rs", scenario);
    for vm in ["today", "next"] {
        let place = folder.path().join(vm);
        std::fs::create_dir(&place).unwrap();
        FakeVm::new().write_to(&place);
    }
    folder
}

const SOURCES: [&str; 5] = ["rehearse", "--from", "vm:today/result", "--to", "vm:next/result"];

#[test]
fn a_scenario_whose_machines_all_have_sources_passes_at_the_first_stage_alone() {
    let folder = folder(
        r#"#[scenario(machine = "vm:next/result")]
           async fn not_switched(machine: Machine) -> Result { machine.power_off().await }"#,
    );
    let ran = folder.run(&[&SOURCES[..], &["--no-template", "a.rs"]].concat());
    ran.ended_with(2)
        .printed("leave out the source of `machine`")
        .printed("before the switch    passed")
        .printed("after the switch     failed in 1 of 1 files")
        .printed("after the rollback   failed in 1 of 1 files");
}

#[test]
fn a_scenario_that_fails_at_one_stage_fails_in_the_reports_too() {
    let folder = folder(
        r#"#[scenario] async fn at_each_stage() {
            assert!(std::env::var("NIXVM_REHEARSED").unwrap() != "switched", "fails after the switch");
        }"#,
    );
    let ran = folder.run(&[&SOURCES[..], &["--report", "junit=j.xml", "a.rs"]].concat());
    ran.ended_with(1).printed("after the switch     failed in 1 of 1 files");
    let junit = std::fs::read_to_string(folder.path().join("j.xml")).unwrap();
    assert!(junit.contains(r#"tests="4" skipped="0" failures="1""#), "{junit}");
    for stage in ["before the switch", "after the switch", "after the reboot", "after the rollback"] {
        assert!(junit.contains(&format!(r#"name="at_each_stage ({stage})""#)), "{stage}: {junit}");
    }
}
