//! What passes between two machines is seen from outside of them.

use std::net::IpAddr;

use nixvm_test::prelude::*;

/// A page passes in plain text, and the packets of its connection are there. What the firewall refuses reaches the card,
/// and has no answer.
#[scenario(configuration = "host.nix", from = logged_in("alice", "test"))]
async fn the_packets_of_a_request_are_seen(client: Machine, server: Machine, network: Network) -> Result {
    server.wait_for_open_port(80).await?;
    let (_, syn) = nixvm_test::tokio::join!(
        client.succeed("curl -4 --silent --fail http://server/"),
        network.wait_for_packet(|packet| packet.is_syn() && packet.destination_port() == Some(80)),
    );
    let syn = syn?;
    assert_eq!((syn.from(), syn.to(), syn.vlan()), ("client", Some("server"), 1));
    assert_eq!(syn.protocol(), Protocol::Tcp);
    assert_eq!(syn.destination(), Some(IpAddr::from(server.address()?)));

    let answer = network.wait_for_packet(|packet| packet.contains("hello ")).await?;
    assert_eq!(
        (answer.from(), answer.source_port(), answer.destination_port()),
        ("server", Some(80), syn.source_port())
    );
    assert!(answer.payload().starts_with(b"HTTP/1.1 200"), "{answer}");

    client.fail("curl -4 --silent --fail --max-time 3 http://server:8080/").await?;
    let packets = network.packets()?;
    let refused: Vec<&Packet> = packets
        .iter()
        .filter(|packet| [packet.source_port(), packet.destination_port()].contains(&Some(8080)))
        .collect();
    assert!(!refused.is_empty() && refused.iter().all(|packet| packet.from() == "client"), "{refused:?}");
    // The names come from /etc/hosts: no machine asks another one for them.
    assert!(packets.iter().all(|packet| packet.destination_port() != Some(53)));
    Ok(())
}

nixvm_test::main!();
