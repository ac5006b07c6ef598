//! Three machines at one moment: connections between them go on.

use nixvm_test::prelude::*;

/// Each machine is connected to the next one, and has said a line there.
#[checkpoint(from = logged_in("alice", "test"))]
async fn cluster(one: &mut Machine, two: &mut Machine, three: &mut Machine) -> Result {
    for machine in [&*one, two, three] {
        machine.wait_for_open_port(7000).await?;
    }
    connect(one, "two").await?;
    connect(two, "three").await?;
    connect(three, "one").await
}

/// The connections go on, with the addresses of before.
#[scenario(configuration = "member.nix", from = cluster, timeout = "2m")]
async fn a_connection_goes_on(one: Machine, two: Machine, three: Machine) -> Result {
    for machine in [&one, &two, &three] {
        say(machine, "left", "2 left").await?;
    }
    let address = one.succeed("ip -4 -brief address show eth1").await?;
    assert!(address.text().contains("192.168.1.1/24"), "{address:?}");
    three.succeed("ping -c 1 -W 5 one && ping -6 -c 1 -W 5 two").await.map(drop)
}

/// Other clones of the same moment have heard nothing of it. A snapshot of theirs keeps the connections, too.
#[scenario(configuration = "member.nix", from = cluster, timeout = "3m")]
async fn a_snapshot_keeps_the_connections(
    three: Machine,
    two: Machine,
    one: Machine,
    network: Network,
) -> Result {
    for machine in [&one, &two, &three] {
        say(machine, "right", "2 right").await?;
        machine.fail("grep left /run/said").await?;
    }
    let before = network.snapshot().await?;
    say(&one, "first", "3 first").await?;
    for other in ["second", "third"] {
        network.restore(&before).await?;
        one.fail("grep first /run/said").await?;
        say(&one, other, &format!("3 {other}")).await?;
        say(&one, "more", "4 more").await?;
    }
    // A machine that is off comes back, too.
    two.crash().await;
    network.restore(&before).await?;
    for machine in [&one, &two, &three] {
        say(machine, "last", "3 last").await?;
    }
    Ok(())
}

/// Opens a connection to the counter on `to`, which stays open. What is written to `/run/say` is sent, a line at a time,
/// and the answers are in `/run/said`.
async fn connect(machine: &Machine, to: &str) -> Result {
    let keep = format!(
        "exec 4<>/run/say 3<>/dev/tcp/{to}/7000; \
         while read -r line <&4; do echo \"$line\" >&3; read -r answer <&3; echo \"$answer\" >>/run/said; done"
    );
    machine.succeed("mkfifo /run/say").await?;
    machine.succeed(format!("systemd-run --unit talk bash -c '{keep}'")).await?;
    say(machine, "hello", "1 hello").await
}

/// Says a line on the open connection, and waits for this answer. The number shows that it is the same connection.
async fn say(machine: &Machine, line: &str, answer: &str) -> Result {
    machine.succeed(format!("echo '{line}' >/run/say")).await?;
    machine.wait_until_succeeds(format!("grep -x '{answer}' /run/said")).await.map(drop)
}

nixvm_test::main!();
