use nixvm_test::prelude::*;

/// What is written stays, from session to session of the same machine.
#[scenario]
async fn state_stays_while_a_machine_lives(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.succeed("echo remembered > ~/note").await?;
    alice.log_out().await?;

    let again = machine.login("alice", "test").await?;
    assert_eq!(again.succeed("cat ~/note").await?.text(), "remembered\n");
    Ok(())
}

/// Every scenario starts from fresh state: the note of the other one is not here, whichever ran first.
#[scenario]
async fn every_scenario_starts_fresh(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.fail("cat ~/note").await?;
    alice.succeed("echo remembered > ~/note").await?;
    Ok(())
}

nixvm_test::main!();
