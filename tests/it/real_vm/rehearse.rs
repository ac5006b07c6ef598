//! A machine is switched to another system, and back. One clone goes the whole way, because each switch takes a while.
//! The systems have many changes at once, each of a kind that broke somebody's deploy.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::internals::system;
use nixvm_test::internals::template;
use nixvm_test::machine::{Action, Machine, MachineOptions, Outcome, System};

use super::{alice, built, events, root};

pub(super) fn configuration(name: &str) -> std::path::PathBuf {
    root(&format!("tests/it/real_vm/rehearse/{name}"))
}

/// Returns how many rows the database has.
pub(super) async fn rows(machine: &Machine) -> String {
    let counted =
        machine.as_user("alice").execute("psql -At -c 'SELECT count(*) FROM notes' 2>&1").await.unwrap();
    counted.text().trim().to_owned()
}

pub(super) async fn add_a_row(machine: &Machine) {
    let alice = machine.as_user("alice");
    alice
        .succeed(
            "psql -c 'CREATE TABLE IF NOT EXISTS notes (text text)' -c \"INSERT INTO notes VALUES ('x')\"",
        )
        .await
        .unwrap();
}

/// Returns what the web server says to a new connection from the host.
async fn web_says(address: SocketAddr) -> String {
    let ask = move || {
        let mut said = String::new();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        connection.read_to_string(&mut said).unwrap();
        said
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn a_machine_goes_to_the_next_system_and_back_and_every_unit_is_accounted_for() {
    let events = events();
    let today = built(configuration("today.nix"), &events).await;
    let next = system(built(configuration("next.nix"), &events).await, "next", "next.nix");
    let options = MachineOptions::new("nixos").events(events.clone());
    let machine = template::machine(&today, options, &alice(), &events).await.unwrap();
    let first = machine.current_system().await.unwrap();
    let web = machine.forward_port(0, 8080).await.unwrap();
    assert_eq!(web_says(web).await, "hello\n");
    add_a_row(&machine).await;

    let plan = machine.plan(&next).await.unwrap();
    assert!(plan.disturbs("changes.service") && !plan.disturbs("stays.service"), "{plan}");
    assert!(plan.disturbs("postgresql.service") && !plan.disturbs("containers.service"), "{plan}");
    assert_eq!(plan.refused_by(), ["dbus-implementation: dbus -> broker"]);
    assert!(plan.to_string().contains("would be refused: dbus-implementation: dbus -> broker\n"), "{plan}");
    assert!(plan.skipped().contains(&"skipped.service".to_owned()), "{plan}");
    assert!(
        plan.to_string().contains("units that systemd stops or starts with these are not named"),
        "{plan}"
    );
    assert!(plan.why("changes.service").contains("WHICH"), "{}", plan.why("changes.service"));
    assert!(plan.disturbs("stais.service"), "a unit that does not exist counts as disturbed");
    assert_eq!(machine.current_system().await.unwrap(), first, "a plan changes nothing");

    let refused = machine.try_switch(&next).await.unwrap();
    assert_eq!(refused.refused_by(), ["dbus-implementation: dbus -> broker"], "{refused}");
    assert!(refused.status() == 1 && !refused.switched() && refused.all_disturbed().is_empty(), "{refused}");
    let words = "not switched; refused before anything was done: dbus-implementation: dbus -> broker";
    assert!(refused.to_string().contains(words), "{refused}");

    let there = forwards(&machine, &next).await;
    back(&machine, &first).await;
    assert_eq!(web_says(web).await, "hello\n", "the old address is there again");
    assert_eq!(rows(&machine).await, "1", "the old folder has the rows");
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
    assert!(bob.succeed("cat /proc/cmdline").await.unwrap().text().contains("panic=7"));
    machine.stop().await;
}

/// Switches to the next system. Its status is 0, and much is different: what that is, the outcome says.
async fn forwards(machine: &Machine, next: &System) -> String {
    let outcome = machine.switch(next).no_check().await.expect("nothing fails");
    let there = next.path().unwrap().display().to_string();
    assert_eq!((outcome.status(), machine.current_system().await.unwrap()), (0, there.clone()));
    let alice = machine.session().await.expect("the session lives through a switch");
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");

    // The folder of the database moves, and the new one is empty.
    let moved = (
        "postgresql.service".to_owned(),
        "/var/lib/postgresql/15".to_owned(),
        "/var/lib/postgresql/17".to_owned(),
    );
    assert_eq!(outcome.moved_state(), [moved]);
    says(
        &outcome,
        "postgresql.service: /var/lib/postgresql/15 to /var/lib/postgresql/17, which was not there before",
    );
    let rows = rows(machine).await;
    assert!(rows.contains("\"notes\" does not exist"), "{rows}");

    // Units that follow others.
    assert!(outcome.disturbed("containers.service") && !outcome.disturbed("stays.service"), "{outcome}");
    let why = outcome.why("containers.service");
    assert!(why.contains("containers.service has Requires=driver.service, which changed"), "{why}");
    let why = outcome.why("follows.service");
    assert!(why.contains("follows.service has PartOf=changes.service, which changed"), "{why}");
    assert!(outcome.started("backup.service"), "{outcome}");
    says(&outcome, "backup.service (multi-user.target wants it, and it was not active)");
    assert_eq!(outcome.stale(), ["skipped.service"], "{outcome}");
    says(&outcome, "still runs its old command: skipped.service (runs /nix/store/");

    // The network.
    assert!(outcome.closed_ports().contains(&"tcp 8081".to_owned()), "{outcome}");
    assert_eq!(outcome.lost_addresses(), ["10.0.2.15"], "{outcome}");
    assert_eq!(outcome.new_addresses(), ["10.0.2.99"], "{outcome}");
    assert!(outcome.disturbed("systemd-networkd.service"), "{outcome}");

    says(&outcome, "unmounted: /var/lib/data (its line is gone from /etc/fstab)");
    let accounts = outcome.accounts();
    assert_eq!(accounts.gone, ["carol"]);
    assert!(accounts.kept.iter().any(|line| line.contains("‘dora’ (1500 -> 1600)")), "{accounts:?}");
    assert_eq!(outcome.needs_reboot(), ["kernel-params"]);
    says(&outcome, "only a reboot shows: kernel-params (+panic=7)");
    there
}

/// Rolls back. The files that the next system has written stay.
async fn back(machine: &Machine, first: &str) {
    // The check of the older system refuses the way back, too.
    let back = machine.try_rollback().no_check().await.unwrap();
    assert!(back.switched() && back.failed() == ["cloud.service"], "{back}");
    says(&back, "rolled back; cloud.service failed");
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
}

pub(super) fn says(outcome: &Outcome, words: &str) {
    assert!(outcome.to_string().contains(words), "{words:?} is not in:\n{outcome}");
}
