use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nixvm_test::prelude::*;

/// A web server, from inside, from the host, and with its network cut.
#[scenario(configuration = "services.nix", from = logged_in("alice", "test"))]
async fn web_server(machine: Machine) -> Result {
    machine.wait_for_unit("nginx").await?;
    machine.wait_for_open_port(80).await?;
    let page = machine.succeed("curl --silent --fail http://localhost/").await?;
    assert_eq!(page.text(), "hello from nginx");

    let server = machine.forward_port(0, 80).await?;
    assert!(get(server)?.ends_with("hello from nginx"));

    machine.block().await?;
    let cut = get(server);
    assert!(cut.is_err(), "{cut:?}");
    // What stays in the machine is not cut.
    machine.succeed("curl --silent --fail http://localhost/").await?;
    machine.unblock().await?;
    machine.retry("the page is back", || async { Ok(get(server).ok()) }).await?;

    machine.wait_for_open_unix_socket("/run/dbus/system_bus_socket").await?;

    // What has to hold all the while ends what runs meanwhile when it does not.
    let serves = || async { machine.require_unit_state("nginx", "active").await };
    machine.polling_condition("nginx is up", serves, machine.succeed("sleep 1")).await?;
    let stops = machine.succeed("systemctl stop nginx; sleep 1000");
    let stopped = machine.polling_condition("nginx is up", serves, stops).await.unwrap_err();
    assert!(stopped.to_string().contains("nginx is up"), "{stopped}");

    machine.start_job("nginx").await?;
    // Told to end while it still starts, nginx may not hear it.
    machine.wait_for_open_port(80).await?;
    machine.stop_job("nginx").await?;
    machine.wait_for_closed_port(80).await?;
    machine.require_unit_state("nginx", "inactive").await
}

/// A unit that fails is known at once, with what it said.
#[scenario(configuration = "services.nix", from = logged_in("alice", "test"), allow("failed unit"))]
async fn a_unit_that_fails_is_known_at_once(machine: Machine) -> Result {
    machine.wait_for_unit("greeting").await?;
    machine.write_file("/etc/nginx/nginx.conf.broken", "no such directive;\n").await?;
    let broken =
        "systemd-run --quiet --unit=broken -p RemainAfterExit=no bash -c 'sleep 1; echo it broke; exit 3'";
    machine.succeed(broken).await?;
    let failed = machine.wait_for_unit("broken.service").await;
    // It was active for a second first.
    assert!(failed.is_ok(), "{failed:?}");
    machine.wait_for_log("broken", "it broke").await?;
    machine.wait_until_fails("systemctl is-active broken").await?;
    let failed = machine.wait_for_unit("broken.service").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::UnitFailed, "{failed}");
    assert!(failed.to_string().contains("it broke"), "{failed}");
    let unknown = machine.within(Duration::from_secs(1)).wait_for_unit("no-such-unit").await.unwrap_err();
    assert!(unknown.to_string().contains("no-such-unit.service"), "{unknown}");
    Ok(())
}

/// The page as a browser on the host gets it.
fn get(server: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    match page.is_empty() {
        false => Ok(page),
        true => Err(Error::new(ErrorKind::Other, "nothing came")),
    }
}

nixvm_test::main!();
