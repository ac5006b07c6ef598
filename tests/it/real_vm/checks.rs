//! Trouble that no command of a green scenario noticed and no console shows, in the real VM of
//! configuration.nix: the scenario fails all the same. `scenarios/checks.rs` shows that it can be allowed.

use super::root;
use crate::folder::Folder;

/// `loglevel=4` keeps the kernel's word of it from the console.
const SCENARIOS: &str = r#"
async fn crashed(machine: &Machine) -> Result {
    crash(machine).await?;
    machine.succeed("dmesg | grep 'perl.*: segfault at 1 '").await?;
    assert!(!machine.get_console_log()?.contains(": segfault at "));
    Ok(())
}

async fn crash(machine: &Machine) -> Result {
    let crashed = machine.execute("perl -e 'print unpack(\"p\", pack(\"Q\", 1))'").await?;
    assert_eq!(crashed.signal(), Some(11));
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn crashes_and_powers_off(machine: Machine) -> Result {
    crashed(&machine).await?;
    machine.power_off().await
}

#[scenario(from = logged_in("alice", "test"))]
async fn crashes_and_reboots(machine: Machine) -> Result {
    crashed(&machine).await?;
    machine.succeed("echo remembered > /root/note; sync").await?;
    // A boot: the channel comes back in it.
    machine.reboot().await?;
    assert_eq!(machine.succeed("cat /root/note").await?.text(), "remembered\n");
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn crashes_before_a_power_cut(machine: Machine) -> Result {
    crashed(&machine).await?;
    machine.crash().await;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn crashes_and_is_brought_back(machine: Machine) -> Result {
    machine.succeed("true").await?;
    let before = machine.snapshot().await?;
    crash(&machine).await?;
    machine.restore(&before).await?;
    machine.fail("dmesg | grep 'perl.*: segfault at 1 '").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn crashes_and_powers_itself_off(machine: Machine) -> Result {
    crashed(&machine).await?;
    machine.succeed("dmesg --clear; systemctl poweroff").await?;
    machine.wait_for_shutdown().await
}

#[scenario(from = logged_in("alice", "test"))]
async fn loses_its_helper(machine: Machine) -> Result {
    let killed = machine.succeed("systemctl kill --signal=KILL nixvm-channel").await;
    assert_eq!(killed.unwrap_err().kind(), ErrorKind::ChannelLost);
    Ok(())
}

async fn crashed_unseen(machine: &Machine) -> Result {
    let alice = machine.session().await.ok_or("alice is not logged in")?;
    let killed = machine.succeed("systemctl kill --signal=KILL nixvm-channel").await;
    assert_eq!(killed.unwrap_err().kind(), ErrorKind::ChannelLost);
    let crashed = alice.execute("perl -e 'print unpack(\"p\", pack(\"Q\", 1))'").await?;
    assert_eq!(crashed.signal(), Some(11));
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn loses_its_helper_before_a_power_cut(machine: Machine) -> Result {
    crashed_unseen(&machine).await?;
    machine.crash().await;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn powers_itself_off(machine: Machine) -> Result {
    machine.succeed("systemctl poweroff").await?;
    machine.wait_for_shutdown().await
}

#[scenario(from = logged_in("alice", "test"))]
async fn overwrites_its_log(machine: Machine) -> Result {
    machine.succeed("echo on >/proc/sys/kernel/printk_devkmsg").await?;
    // The helper is stopped meanwhile, so it can't read them.
    machine
        .succeed(
            "pid=$(systemctl show -P MainPID nixvm-channel); systemd-run --wait --quiet sh -c \"kill -STOP $pid; \
             tr '\\\\0' x </dev/zero | dd of=/dev/kmsg bs=900 count=3000 iflag=fullblock; kill -CONT $pid\"",
        )
        .await
        .map(drop)
}

#[scenario(from = logged_in("alice", "test"))]
async fn has_a_unit_that_fails(machine: Machine) -> Result {
    machine.fail("systemd-run --wait --unit=broken false").await.map(drop)
}

// One of them holds on this host.
#[scenario(budget(boot = "1h", userspace = "10ms", accelerator = "tcg"))]
async fn is_too_slow_under_tcg(alice: Session) -> Result { alice.succeed("true").await.map(drop) }

#[scenario(budget(boot = "1h", userspace = "10ms"))]
async fn is_too_slow_under_kvm(alice: Session) -> Result { alice.succeed("true").await.map(drop) }

#[scenario(budget(boot = "1h"))]
async fn is_in_time(machine: Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.power_off().await
}
"#;

#[test]
fn a_crash_that_only_the_kernels_log_has_and_a_unit_that_fails_silently_fail_a_green_scenario() {
    let folder = Folder::with("checks.rs", SCENARIOS);
    let configuration = root("configuration.nix").display().to_string();
    let ran = folder.run(&[
        "--nixpkgs",
        "standin",
        "--configuration",
        &configuration,
        // Each of them would be written to the disk.
        "--no-keep-failed",
        "checks.rs",
        "--",
        "--test-threads=1",
    ]);
    ran.ended_with(1)
        .printed("the scenario passed, but the kernel of machine logged: a program crashed\n")
        .printed("]: segfault at 1 ip ")
        .printed("`#[scenario(allow(\"segfault\"))]`")
        .printed("the scenario passed, but broken.service failed in machine\n")
        .printed("alice: the userspace took ")
        .printed(" s of calibrated time, its budget is 0.0 s\n")
        .printed("what took longest:")
        .printed("test is_in_time ")
        .printed("`#[scenario(allow(\"failed unit\"))]`")
        .printed(
            "unanswered check: the control channel was lost, and later messages of the kernel were not read\n",
        )
        .printed("incomplete kernel log: ")
        .printed("were overwritten in the kernel's buffer before they were read\n")
        .said("alice: the budget of its boot is not checked: it is for ")
        .printed("3 passed; 10 failed;");
    let told = |line: &str| ran.out.matches(line).count();
    let unread = told("the control channel was lost, and later messages of the kernel were not read");
    assert!(unread >= 2, "{}", ran.out);
    assert_eq!((told("but the kernel of machine logged"), told("segfault: [")), (5, 5), "{}", ran.out);
}
