//! Deploys that end badly: killed in the middle, refused, half of it failed, hanging. Each system is a specialisation of
//! one machine's own, so that one clone has them all.

use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::internals::system;
use nixvm_test::internals::template;
use nixvm_test::machine::{Action, Machine, MachineOptions, Switch, System};

use super::rehearse::{add_a_row, configuration, rows, says};
use super::{alice, built, events};

fn to(machine: &Machine, today: &System, name: &str) -> Switch {
    machine.try_switch(today).specialisation(name).action(Action::Test)
}

#[tokio::test]
async fn a_deploy_that_ends_badly_says_what_became_of_it() {
    let events = events();
    let vm = built(configuration("today.nix"), &events).await;
    let today = system(vm.clone(), "today", "today.nix");
    let options = MachineOptions::new("nixos").events(events.clone());
    let machine = template::machine(&vm, options, &alice(), &events).await.unwrap();
    let first = machine.current_system().await.unwrap();
    add_a_row(&machine).await;

    // It dies between the stops and the starts. What it does not touch goes on.
    let died = to(&machine, &today, "dies").await.unwrap();
    assert!(died.half_switched() && !died.switched() && !died.is_clean(), "{died}");
    says(&died, "half switched: 2 units were stopped and not started: changes.service, follows.service");
    says(&died, "left in /run/nixos: start-list: ");
    assert!(!died.disturbed("postgresql.service"), "{died}");
    assert_eq!(machine.current_system().await.unwrap(), first);

    let other = to(&machine, &today, "init").await.unwrap();
    assert_eq!((other.status(), other.switched()), (100, false), "{other}");
    says(&other, "not activated, it takes effect at the next boot");
    assert_eq!(machine.current_system().await.unwrap(), first);

    half_of_it_fails(&machine, &today).await;

    // The server does not read files of another version.
    machine.succeed("mkdir -m 700 /var/lib/postgresql/14; echo 14 >/var/lib/postgresql/14/PG_VERSION; chown -R postgres: /var/lib/postgresql/14").await.unwrap();
    let strict = machine.switch(&today).specialisation("older").action(Action::Test).await.unwrap_err();
    assert_eq!(strict.kind(), ErrorKind::SwitchFailed, "{strict}");
    let text = strict.to_string();
    assert!(strict.summary().contains("is not clean: switched; postgresql.service failed"), "{text}");
    assert!(
        text.contains(
            "was initialized by PostgreSQL version 14, which is not compatible with this version 15"
        ),
        "{text}"
    );

    hangs(&machine, &today).await;
    machine.stop().await;
}

/// A switch that takes up what the one before it left, restarts PostgreSQL, and fails in several ways.
async fn half_of_it_fails(machine: &Machine, today: &System) {
    machine.execute("systemctl start fails.service").await.unwrap();
    machine.succeed("mkdir -p /etc/ssh && touch /etc/ssh/ssh_host_test_key").await.unwrap();
    machine.succeed("cd /var/lib/data && setsid sleep 7777 >/dev/null 2>&1 </dev/null &").await.unwrap();
    let outcome = to(machine, today, "broken").await.unwrap();
    assert!(outcome.switched() && outcome.status() == 4, "{outcome}");
    assert_eq!(
        (outcome.failed(), outcome.failed_before()),
        (vec!["broken.service".to_owned()], vec!["fails.service".to_owned()])
    );
    assert!(outcome.left_before().iter().any(|list| list.contains("changes.service")), "{outcome}");
    says(&outcome, "left by an interrupted switch: start-list: ");
    assert!(
        outcome.started("changes.service") && outcome.started("follows.service"),
        "what was stopped runs again: {outcome}"
    );

    // The status hides that a part of the activation failed.
    assert_eq!(outcome.failed_snippets(), [("setupSecrets", "1")]);
    assert!(outcome.output().contains("no key decrypts /run/secrets\n"), "{}", outcome.output());
    assert_eq!(outcome.lost_files(), ["/etc/ssh/ssh_host_test_key"]);
    says(&outcome, "gone from /etc: /etc/ssh/ssh_host_test_key");
    says(&outcome, "could not be unmounted: /var/lib/data (used by ");
    says(&outcome, " sleep 7777)");

    assert!(outcome.disturbed("postgresql.service"), "its settings changed: {outcome}");
    assert_eq!(rows(machine).await, "1", "the rows are there after a restart");
}

/// A switch that never ends, and a second one that meets it.
async fn hangs(machine: &Machine, today: &System) {
    machine.succeed("touch /run/sticks; systemctl start --no-block slow.service").await.unwrap();
    let error = to(machine, today, "hangs").within(Duration::from_secs(4)).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{text}");
    assert!(text.contains("the last line it printed") && text.contains("JOB UNIT"), "{text}");
    for words in [
        "slow.service ",
        "Active: activating (start) since",
        "waits for nothing",
        "the lock is held by process ",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    let second = machine.try_switch(today).action(Action::Test).await.unwrap();
    let [reason] = second.refused_by() else { panic!("{second}") };
    assert!(
        reason.starts_with("another switch is under way (process ") && reason.contains(", since "),
        "{reason}"
    );
    says(&second, "refused before anything was done: another switch is under way (process ");
    assert!(second.left_before().is_empty() && !second.half_switched(), "{second}");
}
