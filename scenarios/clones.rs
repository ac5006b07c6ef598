use nixvm_test::prelude::*;

/// alice begins logged in, on a machine of her own.
#[scenario]
async fn cow(alice: Session) -> Result {
    let cow = alice.succeed("cowsay hello | lolcat").await?;
    assert!(cow.text().contains("< hello >"));
    Ok(())
}

/// A scenario that wrecks its machine wrecks no other machine.
#[scenario(from = logged_in("alice", "test"))]
async fn wrecked(machine: Machine) -> Result {
    machine.as_user("alice").succeed("test -d ~").await?;
    machine.succeed("rm -rf /home/alice; sync").await?;
    machine.power_off().await
}

/// What is in every machine that begins here.
#[checkpoint(from = logged_in("alice", "test"))]
async fn seeded(machine: &mut Machine) -> Result {
    machine.write_file("/srv/seed", "sown").await?;
    machine.as_user("alice").succeed("test -d ~; echo sprout > ~/plant").await.map(drop)
}

/// It begins after the checkpoint, with its session.
#[scenario(from = seeded)]
async fn grows(alice: Session) -> Result {
    assert_eq!(alice.succeed("cat /srv/seed plant; echo bloom > plant").await?.text(), "sownsprout\n");
    Ok(())
}

/// What another scenario did after the checkpoint did not happen here.
#[scenario(from = seeded)]
async fn grows_apart(machine: Machine) -> Result {
    assert_eq!(machine.read_file("/home/alice/plant").await?, b"sprout\n");
    let before = machine.snapshot().await?;
    machine.succeed("rm /home/alice/plant").await?;
    machine.restore(&before).await?;
    machine.succeed("test -e /home/alice/plant").await.map(drop)
}

nixvm_test::main!();
