//! Scenarios whose machines are on networks: the attribute, and what the machines are told.

use nixvm_fake_guest::FakeVm;

use super::runs::Runs;
use crate::folder::{Folder, Ran};

#[test]
fn a_mistake_in_the_vlans_is_shown_at_its_place() {
    for (attribute, said) in [
        ("vlans(serve = [1])", "no parameter `serve`: did you mean `server`?"),
        ("vlans(server = [0])", "expected the number of a VLAN, from 1 to 255"),
        ("vlans(server = [256])", "expected the number of a VLAN, from 1 to 255"),
        ("vlans(server = [1, 1])", "VLAN 1 is given twice"),
        ("vlans(server = [1], server = [2])", "`server` is given twice"),
        ("vlans(server = 1)", "expected the VLANs of machines"),
        ("vlans()", "expected the VLANs of machines"),
        ("vlans = 1", "expected the VLANs of machines"),
        ("dhcp = 1", "expected `dhcp = false`"),
        ("dhcp", "expected `dhcp = false`"),
        ("dhcp(x = false)", "expected `dhcp = false`"),
        ("dhcp(0 = false)", "expected the number of a VLAN, from 1 to 255"),
    ] {
        let text = format!("#[scenario({attribute})]\nasync fn a(server: Machine) {{ drop(server); }}");
        Folder::with("a.rs", &text).run(&["a.rs"]).ended_with(3).said(said).said("--> a.rs:2:");
    }
    let text = "#[scenario]\nasync fn a(_server: Machine, server: Machine) { drop((_server, server)); }";
    Folder::with("a.rs", text).run(&["a.rs"]).ended_with(3).said("two parameters have the name `server`");
    let text =
        "#[scenario(lan = \"a.nix\")]\nasync fn a(server: Machine, lan: Network) { drop((server, lan)); }";
    Folder::with("a.rs", text).run(&["a.rs"]).ended_with(3).said("`lan` is the network of the machines");
    let text = "#[scenario]\nasync fn a(vlans: Machine) { drop(vlans); }";
    Folder::with("a.rs", text).run(&["a.rs"]).ended_with(3).said("a parameter can't be named `vlans`");
}

/// The machines of built VMs get cards and no names. A scenario with one machine is as before.
#[test]
fn machines_of_one_scenario_are_on_one_network() {
    let text = r#"
fn command(machine: &Machine) -> Vec<String> {
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", machine.qemu().pid())).unwrap();
    command.split('\0').map(str::to_owned).collect()
}
#[scenario]
async fn one(machine: Machine) -> Result {
    assert!(!command(&machine).join(" ").contains("nixvm-vlan"));
    let none = machine.address().unwrap_err();
    assert!(none.to_string().contains("machine has no card on a network of the scenario"), "{none}");
    Ok(())
}
#[scenario(vlans(zebra = [1, 20]))]
async fn two(zebra: Machine, ape: Machine, network: Network) -> Result {
    assert_eq!(ape.address()?.to_string(), "192.168.1.1");
    assert_eq!(zebra.address_on(20)?.to_string(), "192.168.20.2");
    // Built VMs get their addresses by DHCP.
    let none = zebra.ipv6_address_on(20).unwrap_err();
    assert!(none.to_string().contains("DHCP gives it an IPv4 address alone"), "{none}");
    let its = command(&zebra).join(" ");
    for card in ["netdev=nixvm-vlan1,id=nixvm-card1,mac=52:54:00:12:01:02", "mac=52:54:00:12:14:02"] {
        assert!(its.contains(card), "{its}");
    }
    assert!(!its.contains("-fw_cfg"), "{its}");
    let error = network.card_counts(&ape, 20).await.unwrap_err();
    assert!(error.to_string().contains("ape has no card on VLAN 20"), "{error}");
    assert!(error.to_string().contains("eth1 on VLAN 1"), "{error}");
    assert_eq!(network.card_counts(&ape, 0).await.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(network.card_counts(&zebra, 20).await?.sent, 0);
    Ok(())
}
#[scenario(vlans(next = [1]))]
async fn no_machine(machine: Machine, next: System) { drop((machine, next)); }
"#;
    let case = Runs::new(text, FakeVm::new(), &[]);
    Ran::of(&mut case.command(&["one"])).ended_with(0).printed("test one ... ok").said_not("network module");
    let ran = Ran::of(&mut case.command(&["two"]));
    ran.ended_with(0).printed("test two ... ok");
    assert!(format!("{ran:?}").contains("zebra does not know the names of the other machines"), "{ran:?}");
    Ran::of(&mut case.command(&["no_machine"]))
        .ended_with(2)
        .printed("`next` is not a machine of the scenario");
}

/// What is no link, or no value, is an error that changes nothing. What is there when a scenario fails is in its report.
#[test]
fn faults_are_about_links_that_are_there_and_a_failure_names_them() {
    let text = r#"
use std::time::Duration;
#[scenario(vlans(zebra = [1, 20], ape = [1, 30], lion = [30]))]
async fn faults(zebra: Machine, ape: Machine, lion: Machine, network: Network) -> Result {
    let wrong = |result: Result, what: &str| {
        let error = result.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(what), "{error}");
    };
    wrong(network.partition(&zebra, &lion), "zebra and lion share no VLAN: zebra is on VLAN 1, 20, lion is on VLAN 30");
    wrong(network.on(20)?.hold(&zebra, &ape), "ape has no card on VLAN 20");
    wrong(network.partition(&ape, &ape), "ape has no link to itself");
    wrong(network.partition(&[&ape, &zebra], &[&lion, &ape]), "no link to itself");
    wrong(network.partition(&[], &[&lion]), "a group without machines");
    wrong(network.set_loss(&ape, &zebra, 1.5), "1.5 is no probability");
    wrong(network.set_corrupt(&ape, &zebra, f64::NAN), "NaN is no probability");
    wrong(network.set_rate(&ape, &zebra, 0), "a rate of 0 bits a second");
    wrong(network.set_latency(&ape, &zebra, Duration::from_secs(4000)), "a latency of 4000s is longer than an hour");
    wrong(network.set_latency(&ape, &zebra, Duration::from_secs(2)..=Duration::from_secs(1)), "is no range");
    wrong(network.on(0).map(drop), "there is no VLAN 0");
    wrong(network.on(7).map(drop), "no machine of the network has a card on VLAN 7");
    assert_eq!(network.faults(), [""; 0]);

    network.partition(&[&zebra], &[&ape])?;
    network.set_loss(&ape, &lion, 0.25)?;
    network.heal_all()?;
    assert_eq!(network.faults(), [""; 0]);
    network.oneway().set_latency(&ape, &lion, Duration::from_millis(5)..=Duration::from_millis(9))?;
    network.partition_oneway(&zebra, &ape)?;
    network.on(1)?.hold(&zebra, &ape)?;
    assert_eq!(network.faults(), [
        "ape → zebra on VLAN 1: hold",
        "zebra → ape on VLAN 1: partition, hold",
        "ape → lion on VLAN 30: latency 5ms to 9ms",
    ]);
    network.release(&ape, &zebra)?;
    network.repair(&ape, &zebra)?;
    network.on(30)?.set_rate(&ape, &lion, 1_000_000)?;
    assert_eq!(network.counts(&zebra, &ape).await?.dropped, 0);
    Err("as planned".into())
}
"#;
    let case = Runs::new(text, FakeVm::new(), &[]);
    let ran = Ran::of(case.command(&["faults"]).env("NIXVM_SEED", "77"));
    ran.ended_with(1).printed("faults of the network at that time");
    ran.printed("ape → lion on VLAN 30: latency 5ms to 9ms, rate 1000000 bit/s");
    ran.printed("lion → ape on VLAN 30: rate 1000000 bit/s").printed("77 (--seed 77 repeats them)");
    assert!(format!("{ran:?}").contains("faults of the network have the seed 77"), "{ran:?}");
    let record = std::fs::read_dir(case.folder.runs()).unwrap().next().unwrap().unwrap();
    let events = std::fs::read_to_string(record.path().join("events.jsonl")).unwrap();
    for part in [
        r#""event":"network_faults","text":"partition: zebra | ape","line":"#,
        r#""links":[{"vlan":1,"from":"zebra","to":"ape","faults":["partition"]}"#,
        r#""text":"heal all""#,
        r#""text":"set latency 5ms to 9ms: ape → lion""#,
    ] {
        assert!(events.contains(part), "{part} is not in {events}");
    }
}
