use nixvm_test::prelude::*;

/// A program crashes and a unit fails, and both are what is wanted here: any other scenario would fail.
#[scenario(from = logged_in("alice", "test"), allow("segfault", "failed unit"))]
async fn a_crash_that_is_expected(machine: Machine) -> Result {
    let crashed = machine.execute("perl -e 'print unpack(\"p\", pack(\"Q\", 1))'").await?;
    assert_eq!(crashed.signal(), Some(11));
    machine.succeed("dmesg | grep 'perl.*: segfault at 1 '").await?;
    machine.fail("systemd-run --wait --unit=broken false").await?;
    machine.require_unit_state("broken", "failed").await
}

nixvm_test::main!();
