use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nixvm_test::prelude::*;

/// Files and folders, in and out, with all that makes them.
#[scenario(from = logged_in("alice", "test"), timeout = "10m")]
async fn files(machine: Machine) -> Result {
    let here = std::env::temp_dir().join(format!("nixvm-files-{}", std::process::id()));
    fs::create_dir_all(&here)?;
    let outcome = copies(&machine, &here).await;
    fs::remove_dir_all(&here)?;
    outcome
}

async fn copies(machine: &Machine, here: &Path) -> Result {
    machine.write_file("/etc/made/on the way", b"\0\xff\n").await?;
    assert_eq!(machine.read_file("/etc/made/on the way").await?, b"\0\xff\n");
    machine.wait_for_file("/etc/made").await?;
    assert_eq!(machine.read_file("/nowhere").await.unwrap_err().kind(), ErrorKind::CommandFailed);

    let folder = here.join("folder");
    fs::create_dir_all(folder.join("empty"))?;
    fs::write(folder.join("odd name\n'\"$(x) é"), "x")?;
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"no \xff utf-8")), "y")?;
    fs::write(folder.join("nothing"), "")?;
    fs::set_permissions(folder.join("nothing"), fs::Permissions::from_mode(0o751))?;
    symlink("nowhere/at all", folder.join("link"))?;
    machine.as_user("alice").copy_to(&folder, "/home/alice/new/copy").await?;
    let listed = machine
        .succeed("cd /home/alice/new/copy && ls -A --quoting-style=c | wc -l && stat -c '%a %U' nothing && readlink link")
        .await?;
    assert_eq!(listed.text(), "5\n751 alice\nnowhere/at all\n");
    machine.copy_from("/home/alice/new/copy", here.join("back")).await?;
    assert_eq!(fs::read(here.join("back/odd name\n'\"$(x) é"))?, b"x");
    assert_eq!(fs::read(here.join("back").join(std::ffi::OsStr::from_bytes(b"no \xff utf-8")))?, b"y");
    assert_eq!(fs::read_link(here.join("back/link"))?, Path::new("nowhere/at all"));
    assert_eq!(fs::metadata(here.join("back/nothing"))?.permissions().mode() & 0o7777, 0o751);
    assert!(here.join("back/empty").is_dir());
    let again = machine.copy_from("/home/alice/new/copy", here.join("back")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Usage, "{again}");
    let missing = machine.copy_from("/nowhere", here.join("missing")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::CommandFailed, "{missing}");
    assert!(!here.join("missing").exists());

    let content: Vec<u8> =
        (0..100_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(here.join("large"), &content)?;
    // The NixOS test driver's names.
    machine.copy_from_host(here.join("large"), "/dev/shm/large").await?;
    assert_eq!(machine.succeed("stat -c %s /dev/shm/large").await?.text(), "100000000\n");
    machine.copy_from_machine("/dev/shm/large", here.join("from the machine")).await?;
    assert!(fs::read(here.join("from the machine/large"))? == content, "what came back is what went");
    Ok(())
}

nixvm_test::main!();
