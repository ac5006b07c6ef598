//! Checkpoints of several machines, as a user of the program meets them.

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;

/// The function runs on the machines that are booted, in the order of its own parameters.
#[test]
fn machines_of_a_checkpoint_reach_it_together() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[checkpoint(from = logged_in("alice", "test"))]
async fn cluster(one: &mut Machine, two: &mut Machine) -> Result {
    assert_eq!((one.name(), two.name()), ("one", "two"));
    for machine in [one, two] {
        let session = machine.session().await.ok_or("nobody is logged in")?;
        session.succeed("export WHO=cluster").await?;
    }
    Ok(())
}
#[checkpoint(from = cluster)]
async fn later(two: &mut Machine, one: &mut Machine) -> Result {
    assert_eq!((one.name(), two.name()), ("one", "two"));
    for machine in [one, two] {
        machine.session().await.ok_or("nobody is logged in")?.succeed("export WHO=$WHO-later").await?;
    }
    Ok(())
}
#[scenario(from = later)]
async fn both(two: Machine, one: Machine) -> Result {
    assert_eq!((one.name(), two.name()), ("one", "two"));
    for machine in [one, two] {
        let session = machine.session().await.ok_or("nobody is logged in")?;
        assert_eq!(session.succeed("echo $WHO").await?.text(), "cluster-later\n");
    }
    Ok(())
}
"#,
    );
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "--no-template", "a.rs"]).ended_with(0).printed("test both ... ok");
}

/// Nothing is booted for a scenario with other machines, and both lists are named.
#[test]
fn a_scenario_takes_exactly_the_machines_of_its_checkpoint() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[checkpoint]
async fn cluster(one: &mut Machine, two: &mut Machine) -> Result { drop((one, two)); Ok(()) }
#[checkpoint(from = cluster)]
async fn fewer(one: &mut Machine) -> Result { drop(one); Ok(()) }
#[checkpoint(from = cluster)]
async fn others(one: &mut Machine, three: &mut Machine) -> Result { drop((one, three)); Ok(()) }
#[scenario(from = cluster)] async fn lacks(one: Machine) { drop(one) }
#[scenario(from = cluster)] async fn has_more(one: Machine, two: Machine, three: Machine) { drop((one, two, three)) }
#[scenario(from = cluster)] async fn has_a_session(one: Machine, two: Session) { drop((one, two)) }
#[scenario(from = fewer)] async fn by_itself(one: Machine) { drop(one) }
#[scenario(from = others)] async fn between(one: Machine, three: Machine) { drop((one, three)) }
"#,
    );
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "a.rs"]);
    ran.ended_with(2).said_not("QEMU is process");
    ran.printed("`lacks` takes the machines one, and its checkpoint `cluster` is one of one, two");
    ran.printed(
        "`has_more` takes the machines one, two, three, and its checkpoint `cluster` is one of one, two",
    );
    ran.printed(
        "`two` is a session, and the checkpoint `cluster` is one of several machines: take `two: Machine`",
    );
    ran.printed(
        "the checkpoint `cluster` is one of several machines (one, two): a checkpoint of one machine can't",
    );
    ran.printed("`others` takes the machines one, three, and its checkpoint `cluster` is one of one, two");
}

#[test]
fn checkpoints_that_begin_at_each_other_are_an_error_that_names_them() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[checkpoint(from = hen)] async fn egg(machine: &mut Machine) -> Result { drop(machine); Ok(()) }
#[checkpoint(from = egg)] async fn hen(machine: &mut Machine) -> Result { drop(machine); Ok(()) }
#[checkpoint(from = pair)] async fn pair(one: &mut Machine, two: &mut Machine) -> Result { drop((one, two)); Ok(()) }
#[scenario(from = egg)] async fn single(machine: Machine) { drop(machine) }
#[scenario(from = pair)] async fn several(one: Machine, two: Machine) { drop((one, two)) }
"#,
    );
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "a.rs"]);
    ran.ended_with(2).said_not("QEMU is process").printed("no beginning: `egg` from `hen` from `egg`");
    ran.printed("these checkpoints have no beginning: `pair` from `pair`");
}
