use nixvm_test::prelude::*;

/// A person reads the login screen and logs in there, on the keyboard.
#[scenario(configuration = "screen.nix")] // beside this file
async fn login_on_tty1(machine: Machine) -> Result {
    let soon = Duration::from_secs(10);
    machine.wait_for_text("nixos login:", soon).await?;
    machine.send_chars("alice\n").await?;
    machine.wait_for_text("Password:", soon).await?;
    machine.send_chars("test\n").await?;
    machine.wait_for_text("alice@nixos", soon).await?;

    machine.send_chars("echo typed on $(tty) > who\n").await?;
    let alice = machine.login("alice", "test").await?;
    alice.succeed("until [ -s who ]; do sleep 0.1; done").await?;
    assert_eq!(alice.succeed("cat who").await?.text(), "typed on /dev/tty1\n");
    Ok(())
}

/// Without its network the machine has no carrier, and with it again an address.
#[scenario(configuration = "screen.nix")]
async fn network_cut(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    let address = "until ip -4 address show eth0 | grep -q 10.0.2.15; do sleep 0.1; done";
    alice.succeed(address).await?;

    machine.block().await?;
    alice.succeed("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done").await?;
    alice.fail("ping -c 1 -W 1 10.0.2.2").await?;

    machine.unblock().await?;
    alice.succeed(address).await?;
    alice.succeed("ping -c 1 -W 5 10.0.2.2").await?;
    Ok(())
}

nixvm_test::main!();
