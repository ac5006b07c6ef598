//! `nixvm-test rehearse` with scenarios, as far as no machine is needed.

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;

#[test]
fn a_scenario_that_fails_at_one_stage_fails_in_the_reports_too() {
    let folder = Folder::with(
        "a.rs",
        r#"#[scenario] async fn at_each_stage() {
            assert!(std::env::var("NIXVM_REHEARSED").unwrap() != "switched", "fails after the switch");
        }"#,
    );
    for vm in ["today", "next"] {
        let place = folder.path().join(vm);
        std::fs::create_dir(&place).unwrap();
        FakeVm::new().write_to(&place);
    }
    let sources = ["--from", "vm:today/result", "--to", "vm:next/result"];
    let ran = folder.run(&[&["rehearse"], &sources[..], &["--report", "junit=j.xml", "a.rs"]].concat());
    ran.ended_with(1).printed("after the switch     failed in 1 of 1 files");
    let junit = std::fs::read_to_string(folder.path().join("j.xml")).unwrap();
    assert!(junit.contains(r#"tests="4" skipped="0" failures="1""#), "{junit}");
    for stage in ["before the switch", "after the switch", "after the reboot", "after the rollback"] {
        assert!(junit.contains(&format!(r#"name="at_each_stage ({stage})""#)), "{stage}: {junit}");
    }
}
