use nixvm_test::prelude::*;

/// What was committed is there after a power cut.
#[scenario(configuration = "database.nix", timeout = "10m")]
async fn data_survives_a_power_cut(machine: Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.wait_for_unit("postgresql").await?;
    let alice = machine.as_user("alice");
    alice.wait_until_succeeds("psql -c 'SELECT 1'").await?;
    alice.succeed("psql -c 'CREATE TABLE notes (text text)'").await?;
    alice.succeed("psql -c \"INSERT INTO notes VALUES ('remembered')\"").await?;

    machine.crash().await;
    machine.start().await?;

    machine.login("alice", "test").await?;
    machine.wait_for_unit("postgresql").await?;
    let notes = alice.wait_until_succeeds("psql -At -c 'SELECT text FROM notes'").await?;
    assert_eq!(notes.text(), "remembered\n");
    Ok(())
}

nixvm_test::main!();
