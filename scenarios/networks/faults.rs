//! Two machines, and what goes wrong between them on purpose.

use std::time::Duration;

use nixvm_test::prelude::*;

/// Latency, loss, duplicates and wrong bits show in the statistics of ping.
#[scenario(configuration = "host.nix", from = logged_in("alice", "test"))]
async fn ping_tells_what_happens_to_frames(client: Machine, server: Machine, network: Network) -> Result {
    // ARP and the first frames.
    client.succeed("ping -c 1 -W 5 server").await?;

    network.set_latency(&client, &server, Duration::from_millis(100))?;
    let (_, times) = ping(&client, 5).await?;
    assert!(times.iter().all(|time| *time >= 200.0), "each direction takes 100 ms: {times:?}");
    network.oneway().set_latency(&client, &server, Duration::ZERO)?;
    let (_, times) = ping(&client, 5).await?;
    assert!(times.iter().all(|time| *time >= 100.0), "one direction takes 100 ms: {times:?}");
    network.heal_all()?;

    // Requests alone are lost, so each one that is lost is an answer that is missing.
    let before = network.counts(&client, &server).await?;
    network.oneway().set_loss(&client, &server, 0.4)?;
    let (received, _) = ping(&client, 50).await?;
    network.heal_all()?;
    let lost = network.counts(&client, &server).await?.dropped - before.dropped;
    assert!((5..=45).contains(&received), "{received} of 50 answers at 40 % loss");
    // The kernel may ask for an address meanwhile, and that frame may be lost as well.
    assert!(lost >= 50 - received, "{received} of 50 answers, {lost} frames lost");

    network.set_duplicate(&client, &server, 1.0)?;
    let twice = client.succeed("ping -c 3 -i 0.3 -W 5 server").await?;
    assert!(twice.text().contains("DUP!"), "{twice:?}");
    network.heal_all()?;

    // The checksum of each packet is wrong.
    network.oneway().set_corrupt(&client, &server, 1.0)?;
    client.fail("ping -c 3 -i 0.3 -W 1 server").await?;
    network.heal_all()?;
    client.wait_until_succeeds("ping -c 1 -W 2 server").await.map(drop)
}

/// A connection stands still in a partition and in a hold, and goes on after it.
#[scenario(configuration = "host.nix", from = logged_in("alice", "test"))]
async fn a_download_survives_a_partition(client: Machine, server: Machine, network: Network) -> Result {
    server.succeed("mkdir -p /srv && head -c 3000000 /dev/urandom > /srv/large").await?;
    let expected = server.succeed("sha256sum < /srv/large").await?;
    // It takes two minutes like this.
    network.set_rate(&client, &server, 200_000)?;
    client.succeed("systemd-run --unit=download curl --silent --fail -o /tmp/large http://server/large").await?;
    client.wait_until_succeeds("test -s /tmp/large").await?;
    network.partition(&client, &server)?;
    client.fail("ping -c 2 -i 0.5 -W 1 server").await?;
    client.succeed("systemctl is-active download").await?;
    network.repair(&client, &server)?;
    client.wait_until_succeeds("ping -c 1 -W 2 server").await?;

    network.hold(&client, &server)?;
    client.succeed("systemd-run --unit=late ping -c 1 -W 60 server").await?;
    client.fail("ping -c 2 -i 0.5 -W 1 server").await?;
    network.release(&client, &server)?;
    client.wait_until_succeeds("! systemctl is-active late && ! systemctl is-failed late").await?;
    assert!(network.counts(&client, &server).await?.held > 0);

    network.set_rate(&client, &server, None)?;
    client.wait_until_succeeds("! systemctl is-active download").await?;
    let got = client.succeed("sha256sum < /tmp/large").await?;
    assert_eq!(got.text(), expected.text());

    // One direction is enough for a connection to fail.
    network.partition_oneway(&server, &client)?;
    client.fail("curl --silent --fail --max-time 3 http://server/").await?;
    network.heal_all()?;
    client.wait_until_succeeds("curl --silent --fail --max-time 5 http://server/").await.map(drop)
}

/// Sends packets, and returns how many were answered, and after how many milliseconds each.
async fn ping(client: &Machine, count: u64) -> Result<(u64, Vec<f64>)> {
    let said = client.succeed(format!("ping -c {count} -i 0.1 -W 5 server || [ $? = 1 ]")).await?;
    let times = said.text().lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
    let times: Vec<f64> = times.collect();
    Ok((times.len() as u64, times))
}

nixvm_test::main!();
