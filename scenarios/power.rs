use nixvm_test::machine::start_all;
use nixvm_test::prelude::*;

/// Off and on again; a machine that is paused is known by name, and goes on.
#[scenario]
async fn off_and_on_again(machine: Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.write_file("/home/alice/note", "remembered").await?;
    let extra = machine.hot_plug_disk("extra", 8 << 20).await?;
    machine.wait_for_file(extra.guest_path()).await?;
    let before = machine.snapshot().await?;

    let running = machine.within(Duration::from_millis(100)).wait_for_shutdown().await.unwrap_err();
    assert_eq!(running.kind(), ErrorKind::Timeout, "{running}");
    machine.systemctl("poweroff --no-block").await?;
    machine.wait_for_shutdown().await?;
    assert!(machine.succeed("true").await.is_err(), "a machine that is off runs no command");

    // Back to when it was on takes less time than a boot.
    machine.restore(&before).await?;
    machine.qmp("stop", None).await?;
    let hangs = machine.within(Duration::from_millis(100)).succeed("true").await.unwrap_err();
    assert_eq!(hangs.kind(), ErrorKind::CommandTimeout, "{hangs}");
    assert!(hangs.to_string().contains("the machine is paused"), "{hangs}");
    machine.qmp("cont", None).await?;
    machine.succeed("true").await?;

    machine.shutdown().await?;
    start_all([&machine]).await?;
    machine.login("alice", "test").await?;
    assert_eq!(machine.read_file("/home/alice/note").await?, b"remembered");

    // A boot since is undone like everything else.
    machine.succeed("rm /home/alice/note; sync").await?;
    machine.restore(&before).await?;
    assert_eq!(machine.read_file("/home/alice/note").await?, b"remembered");
    machine.wait_for_file(extra.guest_path()).await
}

nixvm_test::main!();
