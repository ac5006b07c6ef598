//! The switch beside what it can't be faster than: a round trip over it beside one over a bare pair of sockets, and a
//! transfer between two guests over it beside one over QEMU's own connection between the two (`-netdev socket`).
//!
//! ```text
//! cargo bench --bench network                    # about 5 minutes
//! cargo bench --bench network -- --round-trips   # the parts with sockets alone: seconds, no VM
//! cargo bench --bench network -- --vm ./result   # a VM that is built already
//! ```

#[path = "../measuring/mod.rs"]
mod measuring;

use std::time::{Duration, Instant};

use measuring::{given, median};
use nixvm_test::Result;
use nixvm_test::internals::network::{Switch, VlanId};
use nixvm_test::machine::{Machine, MachineOptions};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

mod bulk;
mod round_trips;

/// How much is sent in each round.
const MEBIBYTES: usize = 64;

/// The limit for a command of QEMU's.
const LIMIT: Duration = Duration::from_secs(60);

/// A way between the two guests: its name, the last byte of the two addresses of its cards, and its network.
struct Way {
    name: &'static str,
    card: u8,
    network: &'static str,
}

const WAYS: [Way; 2] = [
    Way { name: "switch", card: 0x10, network: "10.91.1" },
    Way { name: "-netdev socket", card: 0x20, network: "10.91.2" },
];

#[tokio::main]
async fn main() -> Result {
    println!("\n{}\n", measuring::machine_name());
    round_trips::measure()?;
    bulk::measure()?;
    if measuring::has("--round-trips") {
        return Ok(());
    }
    transfers().await
}

/// Sends the same data over both ways, in turn, between the same two guests.
async fn transfers() -> Result {
    let rounds: usize = given("--rounds").and_then(|count| count.parse().ok()).unwrap_or(5);
    let events = measuring::events();
    let vm = measuring::vm("configuration.nix", &events).await?;
    let (switch, vlan) = (Switch::start()?, VlanId::new(1));
    let (mut ports, mut machines) = (Vec::new(), Vec::new());
    for name in ["one", "two"] {
        let (port, theirs) = switch.plug(vlan.ok_or("no VLAN")?, name)?;
        // QEMU inherits it, and is told its number below.
        fcntl_setfd(&theirs, FdFlags::empty()).map_err(std::io::Error::from)?;
        let machine = Machine::boot(&vm, MachineOptions::new(name).events(events.clone())).await?;
        machine.login("alice", "test").await?.succeed("true").await?;
        // The firewall is on by default, and opens no port. systemd-networkd takes foreign addresses away from new cards.
        machine.succeed("systemctl stop firewall systemd-networkd.socket systemd-networkd").await?;
        ports.push((port, theirs));
        machines.push(machine);
    }
    let [one, two] = &machines[..] else { return Err("two machines".into()) };

    let listening = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let descriptor = |at: usize| {
        use std::os::fd::AsRawFd as _;
        json!({ "type": "dgram", "local": { "type": "fd", "str": ports[at].1.as_raw_fd().to_string() } })
    };
    plug(two, &WAYS[0], 2, descriptor(1)).await?;
    plug(one, &WAYS[0], 1, descriptor(0)).await?;
    plug(two, &WAYS[1], 2, json!({ "type": "socket", "listen": listening })).await?;
    plug(one, &WAYS[1], 1, json!({ "type": "socket", "connect": listening })).await?;

    let mut times = [vec![], vec![]];
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for (way, times) in WAYS.iter().zip(&mut times) {
            let time = transfer(one, two, way).await?;
            // The first one warms the guests up.
            if round > 0 {
                times.push(time.as_secs_f64());
            }
        }
    }
    let [switched, direct] = times.map(|times| median(&times));
    println!("\n| {MEBIBYTES} MiB from guest to guest over TCP, median of {rounds} | |\n|---|---:|");
    println!("| `-netdev socket`, point to point | {direct:.2} s |");
    println!("| the switch | {switched:.2} s |");
    println!("| ratio | {:.2} |", switched / direct);
    for (port, _) in &ports {
        eprintln!("{}: {:?}", port.name(), port.counts());
    }
    for machine in machines {
        machine.stop().await;
    }
    Ok(())
}

/// Gives a machine a card on a way, and the card an address.
async fn plug(machine: &Machine, way: &Way, number: u8, netdev: Value) -> Result {
    let qemu = machine.qemu();
    let id = format!("way{}", way.card);
    let mut netdev = netdev;
    netdev["id"] = json!(id);
    qemu.qmp().execute("netdev_add", Some(netdev), LIMIT).await?;
    let mac = format!("52:54:00:91:{:02x}:{number:02x}", way.card);
    let device = json!({ "driver": "virtio-net-pci", "netdev": id, "id": format!("{id}card"), "mac": mac });
    qemu.qmp().execute("device_add", Some(device), LIMIT).await?;
    let address = format!("{}.{number}/24", way.network);
    machine
        .succeed(format!(
            "until card=$(grep -l {mac} /sys/class/net/*/address); do sleep 0.2; done
             card=$(basename $(dirname $card))
             ip link set $card up
             ip addr add {address} dev $card"
        ))
        .await
        .map(drop)
}

/// Sends the data from one guest to the other, and returns how long that took.
async fn transfer(one: &Machine, two: &Machine, way: &Way) -> Result<Duration> {
    let port = 5000 + u16::from(way.card);
    let bytes = MEBIBYTES << 20;
    let receiver = two.command(format!("nc -l -p {port} | wc -c")).output();
    let sender = async {
        // A connection that only tries the port would be the one that the receiver takes.
        two.succeed(format!("until ss -Hltn sport = :{port} | grep -q .; do sleep 0.1; done")).await?;
        let begun = Instant::now();
        one.succeed(format!("head -c {bytes} /dev/zero | nc -N {}.2 {port}", way.network)).await?;
        Ok::<_, nixvm_test::Error>(begun.elapsed())
    };
    let (received, time) = tokio::join!(receiver, sender);
    let (received, time) = (received?, time?);
    assert_eq!(received.text().trim(), bytes.to_string(), "{}", way.name);
    eprintln!("{}: {:.2} s", way.name, time.as_secs_f64());
    Ok(time)
}
