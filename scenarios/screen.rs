use nixvm_test::prelude::*;

/// A person reads the login screen and logs in there, on the keyboard.
#[scenario(from = logged_in("alice", "test"))] // on the serial console
async fn login_on_tty1(machine: Machine) -> Result {
    // NixOS loads the driver of QEMU's graphics card by itself, the stand-in when it is asked to.
    machine.succeed("modprobe bochs").await?;
    let soon = Duration::from_secs(10);
    machine.wait_for_text("nixos login:", soon).await?;
    machine.send_chars("alice\n").await?;
    machine.wait_for_text("Password:", soon).await?;
    machine.send_chars("test\n").await?;
    machine.wait_for_text("alice@nixos", soon).await?;

    machine.send_chars("echo typed on $(tty) > who\n").await?;
    machine.wait_for_file("/home/alice/who").await?;
    machine.wait_until_succeeds("grep 'typed on /dev/tty1' /home/alice/who").await?;

    // What stands on a terminal is text for root.
    let screen = machine.wait_until_tty_matches(1, "echo typed on").await?;
    assert!(machine.get_tty_text(1).await?.contains("alice@nixos"), "{screen}");
    let variants = machine.get_screen_text_variants().await?;
    assert!(variants.iter().any(|text| text.contains("alice@nixos")), "{variants:?}");
    let never = machine.within(Duration::from_millis(100)).wait_until_tty_matches(1, "no such words").await;
    assert!(never.unwrap_err().to_string().contains("alice@nixos"), "the error shows what stands there");
    Ok(())
}

/// Without its network the machine has no carrier, and with it again an address.
#[scenario(from = logged_in("alice", "test"))]
async fn network_cut(machine: Machine) -> Result {
    let address = "until ip -4 address show eth0 | grep -q 10.0.2.15; do sleep 0.1; done";
    machine.succeed(address).await?;

    machine.block().await?;
    machine.succeed("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done").await?;
    machine.fail("ping -c 1 -W 1 10.0.2.2").await?;

    machine.unblock().await?;
    machine.succeed(address).await?;
    machine.succeed("ping -c 1 -W 5 10.0.2.2").await?;
    Ok(())
}

nixvm_test::main!();
