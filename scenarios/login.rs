use nixvm_test::prelude::*;

/// alice can log in, and her packages are on her path.
#[scenario] // boots configuration.nix beside or above this file
async fn login(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    let cow = alice.succeed("cowsay hello | lolcat").await?;
    assert!(cow.text().contains("< hello >")); // text() has no escape codes: lolcat colours every letter
    machine.power_off().await
}

nixvm_test::main!();
