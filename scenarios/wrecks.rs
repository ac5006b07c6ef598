use nixvm_test::prelude::*;

/// What every scenario finds, whatever others did to their machines, and leaves changed.
async fn intact(machine: &Machine) -> Result {
    let alice = machine.as_user("alice");
    alice.succeed("cd /home/alice && test ! -e touched && echo > touched").await?;
    machine.succeed("test ! -e /etc/touched && echo > /etc/touched && sync").await?;
    assert_eq!(machine.succeed("cat /proc/sys/kernel/panic").await?.text(), "0\n");
    Ok(())
}

/// A scenario in which alice loses all she has.
#[scenario(from = logged_in("alice", "test"))]
async fn home_is_removed(machine: Machine) -> Result {
    intact(&machine).await?;
    machine.succeed("rm -rf /home/alice; sync").await.map(drop)
}

/// A machine that is switched off from the inside.
#[scenario(from = logged_in("alice", "test"))]
async fn powered_off(machine: Machine) -> Result {
    intact(&machine).await?;
    machine.power_off().await
}

/// A machine whose kernel panics.
#[scenario(from = logged_in("alice", "test"), allow("kernel panic", "kernel oops", "kernel warning"))]
async fn panicked(machine: Machine) -> Result {
    intact(&machine).await?;
    machine.succeed("echo 0 > /proc/sys/kernel/panic_on_oops; echo 10 > /proc/sys/kernel/panic").await?;
    // Nothing is left to answer.
    let never = async {
        let _ = machine.execute("echo c > /proc/sysrq-trigger").await;
        std::future::pending::<()>().await;
    };
    nixvm_test::tokio::select! {
        () = never => {}
        seen = machine.wait_for_console_text("sysrq triggered crash", Duration::from_secs(20)) => drop(seen?),
    }
    machine.crash().await;
    Ok(())
}

/// A scenario that does no harm.
#[scenario(from = logged_in("alice", "test"))]
async fn at_peace(machine: Machine) -> Result {
    intact(&machine).await
}

/// One that begins with a session.
#[scenario]
async fn with_a_session(alice: Session) -> Result {
    alice.succeed("cd /home/alice && test ! -e touched && test ! -e /etc/touched").await.map(drop)
}

nixvm_test::main!();
