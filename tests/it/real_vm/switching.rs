//! The stand-in's switch-to-configuration in a machine. Each kind of unit alone is a row of standin/tests/80-switch.sh.

use nixvm_test::internals::template::{self, Moment};
use nixvm_test::machine::{Machine, MachineOptions, Output};

use super::{built, events, root, said_by};

const UNITS: [&str; 9] = [
    "stays.service",
    "changed.service",
    "follows.service",
    "late.service",
    "reloaded.service",
    "skipped.service",
    "dbus.service",
    "systemd-networkd.service",
    "serial-getty@ttyS0.service",
];

/// Switches to a specialisation of the system that was booted.
async fn switch(machine: &Machine, to: &str, action: &str) -> Output {
    let program = format!("/run/booted-system/specialisation/{to}/bin/switch-to-configuration");
    machine.execute(format!("$(readlink -f {program}) {action}")).await.unwrap()
}

/// The invocation of each unit.
async fn invocations(machine: &Machine) -> Vec<String> {
    let said = said_by(machine, &format!("systemctl show -p InvocationID --value {}", UNITS.join(" "))).await;
    said.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_stand_in_switches_as_nixos_does() {
    let events = events();
    let vm = built(root("tests/it/real_vm/switching.nix"), &events).await;
    let options = MachineOptions::new("nixos").events(events.clone());
    let machine = template::machine(&vm, options, &Moment::Booted, &events).await.unwrap();
    let alice = machine.login("alice", "test").await.unwrap();
    alice.succeed("here=still").await.unwrap();
    let before = invocations(&machine).await;
    let booted = said_by(&machine, "readlink /run/booted-system").await;

    let dry = switch(&machine, "tomorrow", "dry-activate").await;
    assert_eq!((dry.status(), dry.text()), (0, "dry-activate\nActivation script snippet 'bad' failed (1)\n"));
    let plan = "\
Checking switch inhibitors... done
would stop the following units: changed.service, gone.service
would NOT stop the following changed units: skipped.service
would activate the configuration...
would reload the following units: dbus.service, reloaded.service
would restart the following units: late.service, systemd-networkd.service
would start the following units: changed.service
";
    assert_eq!(String::from_utf8_lossy(dry.stderr()), plan);
    assert_eq!(invocations(&machine).await, before);

    let done = switch(&machine, "tomorrow", "test").await;
    let said = "\
Checking switch inhibitors... done
stopping the following units: changed.service, gone.service
NOT restarting the following changed units: skipped.service
activating the configuration...
Failed to run activate script
reloading user units for alice...
restarting sysinit-reactivation.target
reloading the following units: dbus.service, reloaded.service
restarting the following units: late.service, systemd-networkd.service
starting the following units: changed.service
the following new units were started: fresh.service, sysinit-reactivation.target, systemd-tmpfiles-resetup.service
";
    assert_eq!(String::from_utf8_lossy(done.stderr()), said);
    assert_eq!(
        (done.status(), done.text()),
        (2, "setting up /etc...\ntest\nActivation script snippet 'bad' failed (1)\n")
    );

    let after = invocations(&machine).await;
    let disturbed: Vec<_> = UNITS
        .into_iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (a, b))| a != b)
        .map(|(unit, _)| unit)
        .collect();
    // `follows` is in no line: systemd restarts it with `changed`.
    assert_eq!(disturbed, ["changed.service", "follows.service", "late.service", "systemd-networkd.service"]);
    machine.fail("systemctl is-active gone.service").await.unwrap();
    assert_eq!(
        alice.succeed("echo $here; of-tomorrow; id -u bob").await.unwrap().text(),
        "still\nhello\n1001\n"
    );
    assert_eq!(said_by(&machine, "readlink /run/booted-system").await, booted);
    machine.succeed("test $(readlink -f /run/booted-system/specialisation/tomorrow) = $(readlink /run/current-system)").await.unwrap();

    refusals(&machine).await;

    let failed = switch(&machine, "fails", "test").await;
    let said = String::from_utf8_lossy(failed.stderr()).into_owned();
    assert!(
        failed.status() == 4 && said.ends_with("warning: the following units failed: broken.service\n"),
        "{said}"
    );
    assert!(said.contains("\nremoving user ‘bob’\n"), "{said}");
    assert!(failed.text().contains("\n× broken.service"), "{}", failed.text());
}

/// What ends a switch before anything is done.
async fn refusals(machine: &Machine) {
    let rows = [
        ("inhibited", "switch", 1, "", "\ndbus-implementation : dbus -> broker\n"),
        ("inhibited", "boot", 0, "", "Not checking switch inhibitors (action = boot)\n"),
        ("loader", "switch", 1, "loader /nix/store/", "\nFailed to install bootloader\n"),
        ("init", "test", 100, "", "\nincompatible with the current configuration.  The new configuration\n"),
    ];
    let before = said_by(machine, "readlink /run/current-system").await;
    for (to, action, status, out, err) in rows {
        let output = switch(machine, to, action).await;
        let said = String::from_utf8_lossy(output.stderr()).into_owned();
        assert_eq!(output.status(), status, "{to}: {said}");
        assert!(output.text().starts_with(out) && said.contains(err), "{to}: {}{said}", output.text());
    }
    assert_eq!(said_by(machine, "readlink /run/current-system").await, before);
}
