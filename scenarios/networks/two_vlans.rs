//! A client, a router, a server behind it, and a machine without a card: two VLANs.

use nixvm_test::prelude::*;

/// What the firewall opens is reached by name and by address; what it does not open is not.
#[scenario(
    configuration = "host.nix",
    router = "router.nix",
    vlans(client = [1], island = [], router = [1, 2], server = [2, 1]),
    from = logged_in("alice", "test")
)]
async fn a_firewall_opens_one_port(
    client: Machine,
    island: Machine,
    router: Machine,
    server: Machine,
) -> Result {
    server.wait_for_open_port(80).await?;
    // Both are on VLAN 1, so the name stands for the address there.
    for page in ["http://server/", &format!("http://{}/", server.address_on(1)?), "-6 http://server/"] {
        let said = client.succeed(format!("curl --silent --fail {page}")).await?;
        assert!(said.text().starts_with("hello "), "{said:?}");
    }
    for name in ["server", "router", "client"] {
        client.succeed(format!("ping -c 1 -W 5 {name} && ping -6 -c 1 -W 5 {name}")).await?;
    }
    let known = client.succeed("getent ahosts server").await?;
    assert!(known.text().contains("192.168.1.4") && known.text().contains("2001:db8:1::4"), "{known:?}");
    assert_eq!(client.succeed("hostname").await?.text(), "client\n");
    // nginx listens on 8080 of every address, and the firewall drops what comes there.
    server.succeed("curl --silent --fail http://localhost:8080/").await?;
    client.fail("curl --silent --fail --max-time 3 http://server:8080/").await?;

    // The machine without a card has no address, and reaches no other machine.
    assert_eq!(island.address().unwrap_err().kind(), ErrorKind::Usage);
    // QEMU's user network may lead to a real 192.168.1.1, which is another machine.
    island.fail("ip route get 192.168.1.1").await?;
    island.fail("ping -c 1 -W 2 client").await?;
    island.succeed("test ! -e /sys/class/net/eth1").await?;
    drop(router);
    Ok(())
}

/// The server sees the router's address, over IPv4 and IPv6; without the router there is no way.
#[scenario(
    configuration = "host.nix",
    router = "router.nix",
    vlans(client = [1], island = [], router = [1, 2], server = [2, 1]),
    from = logged_in("alice", "test")
)]
async fn a_router_translates_addresses(
    client: Machine,
    island: Machine,
    router: Machine,
    server: Machine,
    network: Network,
) -> Result {
    drop(island);
    // From here on the server is on VLAN 2 alone.
    network.unplug(&server, 1).await?;
    // VLAN 2 is not looked for behind QEMU's user network, where the default route leads at first.
    for address in [server.address_on(2)?.to_string(), server.ipv6_address_on(2)?.to_string()] {
        client.fail(format!("ip route get {address}")).await?;
    }
    let (via, via6) = (router.address_on(1)?, router.ipv6_address_on(1)?);
    client
        .succeed(format!("ip route add default via {via}; ip -6 route add default via {via6} metric 1"))
        .await?;
    server.wait_for_open_port(80).await?;
    let page =
        client.wait_until_succeeds(format!("curl --silent --fail http://{}/", server.address_on(2)?)).await?;
    assert_eq!(page.text(), format!("hello {}", router.address_on(2)?));
    let page6 = format!("curl --silent --fail 'http://[{}]/'", server.ipv6_address_on(2)?);
    let page = client.wait_until_succeeds(page6).await?;
    assert_eq!(page.text(), format!("hello {}", router.ipv6_address_on(2)?));

    router.block().await?;
    client.fail(format!("curl --silent --fail --max-time 3 http://{}/", server.address_on(2)?)).await?;
    router.unblock().await?;
    client.wait_until_succeeds(format!("curl --silent --fail http://{}/", server.address_on(2)?)).await?;

    let counts = network.card_counts(&client, 1).await?;
    assert!(counts.sent > 0 && counts.received > 0, "{counts:?}");
    // The server has no cable on VLAN 1, and does not send traffic for VLAN 1 by another card.
    server.succeed("ip route get 192.168.1.1 | grep -F 'dev eth2'").await?;
    server.fail("ping -c 1 -W 2 client").await?;

    let none = network.unplug(&client, 2).await.unwrap_err();
    assert!(none.to_string().contains("client has no card on VLAN 2"), "{none}");
    Ok(())
}

/// Tagged frames pass, and a DHCP server in a machine answers on the tagged interface.
#[scenario(
    configuration = "host.nix",
    router = "router.nix",
    vlans(client = [1], island = [], router = [1, 2], server = [2, 1]),
    from = logged_in("alice", "test")
)]
async fn a_tagged_interface_gets_an_address(
    client: Machine,
    island: Machine,
    router: Machine,
    server: Machine,
) -> Result {
    drop((island, server));
    router.wait_for_unit("dnsmasq").await?;
    client
        .write_file("/run/systemd/network/10-tag.netdev", "[NetDev]\nName=tag\nKind=vlan\n[VLAN]\nId=42\n")
        .await?;
    client
        .write_file("/run/systemd/network/10-tag.network", "[Match]\nName=tag\n[Network]\nDHCP=ipv4\n")
        .await?;
    client.succeed("mkdir -p /run/systemd/network && ip link add link eth1 name tag type vlan id 42").await?;
    client.succeed("networkctl reload && ip link set tag up").await?;
    client.wait_until_succeeds("ip -4 address show tag | grep -F 10.42.0.1").await?;
    client.succeed("ping -c 1 -W 5 10.42.0.1").await?;
    // Without the tag there is no server.
    client.fail("ip -4 address show eth1 | grep -F 10.42.0.").await.map(drop)
}

nixvm_test::main!();
