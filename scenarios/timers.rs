use std::time::Instant;

use nixvm_test::prelude::*;

/// A timer starts its service, again and again; the journal says so as it happens.
#[scenario(configuration = "services.nix", from = logged_in("alice", "test"))]
async fn a_timer_ticks(machine: Machine) -> Result {
    machine.start_job("tick.timer").await?;
    machine.wait_for_unit("tick.timer").await?;
    machine.wait_for_log("tick", "tick").await?;
    let ticks = async || -> Result<usize> {
        Ok(machine.journal("tick").await?.lines().filter(|line| *line == "tick").count())
    };
    let before = ticks().await?;
    machine.retry("it ticks again", async || Ok((ticks().await? > before).then_some(()))).await?;

    machine.systemctl("stop tick.timer").await?;
    machine.require_unit_state("tick.timer", "inactive").await?;
    let begun = Instant::now();
    machine.sleep(Duration::from_secs(1)).await?;
    assert!(begun.elapsed() >= Duration::from_secs(1));

    // The clock goes on from where it is put.
    let tomorrow = std::time::SystemTime::now() + Duration::from_secs(24 * 3600);
    let before: u64 = machine.succeed("date +%s").await?.text().trim().parse().expect("a number");
    machine.set_time(tomorrow).await?;
    let after: u64 = machine.succeed("date +%s").await?.text().trim().parse().expect("a number");
    assert!(after > before + 23 * 3600, "{before} {after}");
    Ok(())
}

/// A user's own service runs in their own manager.
#[scenario(configuration = "services.nix", from = logged_in("alice", "test"))]
async fn alices_own_service(machine: Machine) -> Result {
    let alice = machine.as_user("alice");
    alice.wait_for_unit("tea").await?;
    alice.wait_for_log("tea", "tea for alice").await?;
    assert_eq!(alice.get_unit_property("tea", "SubState").await?, "running");
    assert_eq!(alice.get_unit_info("tea").await?["ActiveState"], "active");
    alice.stop_job("tea").await?;
    alice.require_unit_state("tea", "inactive").await?;
    alice.start_job("tea").await?;
    // root's manager knows nothing of it.
    machine.fail("systemctl is-active tea").await?;
    Ok(())
}

nixvm_test::main!();
