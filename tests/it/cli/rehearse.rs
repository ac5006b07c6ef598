//! `nixvm-test rehearse` with scenarios, as far as no machine is needed.

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};

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

/// Machines that the scenario gives no source are the two built systems, so these need the module for networks.
#[test]
fn systems_of_machines_on_a_network_have_the_module_for_it() {
    for (parameters, is_networked) in [("one: Machine", false), ("one: Machine, other: Machine", true)] {
        let folder = folder(&format!("#[scenario(ignore)]\n#[allow(unused)]\nasync fn a({parameters}) {{}}"));
        folder.put("nixpkgs/nixos/default.nix", "{ }");
        let here = folder.path().display().to_string();
        for name in ["today", "next"] {
            folder.put(&format!("{name}.nix"), "{ }");
        }
        folder.program(
            "bin/nix-build",
            format!(
                "#!/bin/sh\nwith=without; case $* in *opt/org.nixvm-test/network*) with=with;; esac\n\
                 for word; do case $word in nixos-config=*) name=${{word##*/}};; esac; done\n\
                 echo ${{name%.nix}} $with >>{here}/built\necho {here}/${{name%.nix}}/result\n"
            ),
        );
        let arguments = ["--nixpkgs", "./nixpkgs", "--from", "today.nix", "--to", "next.nix", "a.rs"];
        let mut command = folder.command(&[&["rehearse"], &arguments[..]].concat());
        command.env("PATH", format!("{here}/bin:{}", std::env::var("PATH").unwrap()));
        Ran::of(&mut command).ended_with(0).printed("after the rollback   passed");
        let with = if is_networked { "with" } else { "without" };
        let built = std::fs::read_to_string(folder.path().join("built")).unwrap();
        assert_eq!(built, format!("next {with}\ntoday {with}\n"), "{parameters}");
    }
}
