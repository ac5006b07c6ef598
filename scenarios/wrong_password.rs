use nixvm_test::prelude::*;

/// A wrong password is refused, at once and by name; the right one still works afterwards.
#[scenario]
async fn wrong_password(machine: Machine) -> Result {
    let Err(error) = machine.login("alice", "not her password").await else {
        panic!("a wrong password was let in");
    };
    assert_eq!(error.kind(), ErrorKind::LoginRefused);

    let alice = machine.login("alice", "test").await?;
    assert_eq!(alice.succeed("whoami").await?.text(), "alice\n");
    Ok(()) // no power_off: a machine ends with its scenario
}

/// What needs a password asks for it: sudo without one fails, and root's own account is locked.
#[scenario]
async fn root_is_locked(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.fail("sudo --non-interactive true").await?;
    alice.log_out().await?;

    let refused = machine.login("root", "").await;
    assert!(refused.is_err(), "root has no password, and yet logged in");
    Ok(())
}

nixvm_test::main!();
