//! Three machines at one moment: connections between them go on.

use nixvm_test::prelude::*;

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

/// A connection goes on from a snapshot, again and again, and what was said since then is forgotten on both sides.
#[scenario(configuration = "member.nix", from = logged_in("alice", "test"), timeout = "2m")]
async fn a_connection_goes_on_from_a_snapshot(one: Machine, two: Machine, network: Network) -> Result {
    two.wait_for_open_port(7000).await?;
    connect(&one, "two").await?;
    let before = network.snapshot().await?;
    say(&one, "first", "2 first").await?;
    for other in ["second", "third"] {
        network.restore(&before).await?;
        one.fail("grep first /run/said").await?;
        say(&one, other, &format!("2 {other}")).await?;
        say(&one, "more", "3 more").await?;
    }
    // A machine that is off comes back, too.
    two.crash().await;
    network.restore(&before).await?;
    say(&one, "last", "2 last").await
}

nixvm_test::main!();
