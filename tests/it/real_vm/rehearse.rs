//! A machine is switched to another system, and back. One clone goes the whole way, because each switch takes a while.

use nixvm_test::ErrorKind;
use nixvm_test::internals::system;
use nixvm_test::internals::template::{self, Moment};
use nixvm_test::machine::{Action, MachineOptions};

use super::{built, events, root};

fn configuration(name: &str) -> std::path::PathBuf {
    root(&format!("tests/it/real_vm/rehearse/{name}"))
}

#[tokio::test]
async fn a_machine_goes_to_the_next_system_and_back_and_every_unit_is_accounted_for() {
    let events = events();
    let today = built(configuration("today.nix"), &events).await;
    let next = system(built(configuration("next.nix"), &events).await, "next", "next.nix");
    let options = MachineOptions::new("nixos").events(events.clone());
    let moment = Moment::LoggedIn { user: "alice".to_owned(), password: "test".to_owned() };
    let machine = template::machine(&today, options, &moment, &events).await.unwrap();
    let first = machine.current_system().await.unwrap();

    let plan = machine.plan(&next).await.unwrap();
    assert!(plan.disturbs("changes.service") && !plan.disturbs("stays.service"), "{plan}");
    assert!(plan.skipped().contains(&"skipped.service".to_owned()), "{plan}");
    assert!(plan.why("changes.service").contains("WHICH"), "{}", plan.why("changes.service"));
    assert!(plan.disturbs("stais.service"), "a unit that does not exist counts as disturbed");
    assert_eq!(machine.current_system().await.unwrap(), first, "a plan changes nothing");

    let refused = machine.switch(&next).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SwitchFailed, "{refused}");
    assert!(refused.summary().contains("dies.service failed"), "{refused}");
    assert!(refused.to_string().contains("status=3"), "the journal of the unit is quoted: {refused}");
    let there = next.path().unwrap().display().to_string();
    assert_eq!(machine.current_system().await.unwrap(), there, "units failed, and the system is switched");
    let alice = machine.session().await.expect("the session lives through a switch");
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");

    let back = machine.try_rollback().await.unwrap();
    assert!(back.switched() && back.failed().is_empty(), "{back}");
    assert!(back.disturbed("changes.service") && back.disturbed("follows.service"), "{back}");
    assert!(!back.disturbed("stays.service") && !back.disturbed("skipped.service"), "{back}");
    assert!(back.disturbed("stais.service"), "a unit that does not exist counts as disturbed");
    assert!(back.started("goes.service"), "{back}");
    // It was never restarted, so it runs the program of its file again.
    assert!(back.stale().is_empty(), "{back}");
    let accounts = back.accounts();
    assert_eq!(accounts.gone, ["bob"]);
    assert_eq!(accounts.new.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["carol"]);
    assert_eq!(machine.current_system().await.unwrap(), first);
    let generations = machine.generations().await.unwrap();
    assert_eq!(generations.iter().map(|(_, path)| path).collect::<Vec<_>>(), [&first, &there]);

    let none = machine.try_rollback().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Usage, "{none}");

    machine.try_switch(&next).action(Action::Boot).await.unwrap();
    assert_eq!(machine.current_system().await.unwrap(), first);
    machine.succeed("echo row >/var/lib/kept && sync").await.unwrap();
    machine.reboot().await.unwrap();
    let bob = machine.login("bob", "bob").await.unwrap();
    assert_eq!(bob.succeed("cat /var/lib/kept").await.unwrap().text(), "row\n");
    assert_eq!(bob.succeed("readlink -f /run/booted-system").await.unwrap().text().trim(), there);
    machine.stop().await;
}
