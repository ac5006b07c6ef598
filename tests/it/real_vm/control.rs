//! The control channel on the real VM where the helper can't run there: a shell script serves it.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::internals::template::{self, Moment};
use nixvm_test::machine::{Machine, MachineOptions};

use super::{built, events, root};

async fn commands(machine: &Machine) {
    let output = machine.execute("printf 'a\\0b\\377'; printf err >&2; exit 3").await.unwrap();
    assert_eq!((output.status(), output.bytes(), output.stderr()), (3, &b"a\0b\xff"[..], &b"err"[..]));
    machine.succeed(["cd /tmp", "export LEAKS=yes", "true"]).await.unwrap();
    assert_eq!(machine.succeed("id -un; echo ${LEAKS:-no}").await.unwrap().text(), "root\nno\n");
    machine.fail(["false | true", "echo $nobody_set_this"]).await.unwrap();
    let sorted = machine.command("sort").stdin("b\na\n").output().await.unwrap();
    assert_eq!(sorted.text(), "a\nb\n");
    let hurry = machine.within(Duration::from_millis(300));
    let error = hurry.succeed("echo begun; sleep 1000 & sleep 1000").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandTimeout, "{error}");
    machine.fail("pgrep -xf 'sleep 1000'").await.unwrap();
    let (one, other) = tokio::join!(machine.succeed("sleep 1; echo 1"), machine.succeed("sleep 1; echo 2"));
    assert_eq!((one.unwrap().text(), other.unwrap().text()), ("1\n", "2\n"));
}

async fn files(machine: &Machine) {
    machine.write_file("/root/a b/file", b"x\0y").await.unwrap();
    assert_eq!(machine.read_file("/root/a b/file").await.unwrap(), b"x\0y");
    let folder = tempfile::tempdir().unwrap();
    machine.copy_from("/root/a b", folder.path().join("back")).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("back/file")).unwrap(), b"x\0y");
    std::fs::write(folder.path().join("back/more"), vec![7; 1_000_000]).unwrap();
    machine.copy_to(folder.path().join("back"), "/root/there").await.unwrap();
    assert_eq!(machine.read_file("/root/there/more").await.unwrap(), vec![7; 1_000_000]);
    // No bit that lends root's rights arrives, and what is no file is an error that names it.
    machine
        .succeed("mkdir /root/kinds && echo x > /root/kinds/file && chmod 6755 /root/kinds/file /root/kinds")
        .await
        .unwrap();
    machine.copy_from("/root/kinds", folder.path().join("kinds")).await.unwrap();
    for name in ["kinds", "kinds/file"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
    machine.succeed("mkfifo /root/kinds/pipe").await.unwrap();
    let error = machine.copy_from("/root/kinds", folder.path().join("again")).await.unwrap_err().to_string();
    assert!(error.contains("kinds/pipe") && error.contains("FIFO"), "{error}");
    assert!(!folder.path().join("again").exists());
}

async fn waits(machine: &Machine) {
    machine.wait_for_unit("nginx.service").await.unwrap();
    machine.wait_for_open_port(80).await.unwrap();
    let later = machine.execute("sleep 1; touch /run/it");
    let (_, waited, again) =
        tokio::join!(later, machine.wait_for_file("/run/it"), machine.wait_until_succeeds("test -e /run/it"));
    waited.unwrap();
    again.unwrap();
    let vain = machine.within(Duration::from_millis(300)).wait_for_file("/run/never").await.unwrap_err();
    assert_eq!(vain.kind(), ErrorKind::Timeout, "{vain}");
}

#[tokio::test]
async fn a_machine_that_cannot_run_the_helper_is_served_by_a_shell() {
    let events = events();
    let vm = built(root("scenarios/services.nix"), &events).await;
    let options = MachineOptions::new("nixos").events(events.clone()).shell_channel();
    // Before anybody has opened the channel.
    let machine = template::machine(&vm, options, &Moment::Booted, &events).await.unwrap();
    machine.login("alice", "test").await.unwrap();
    assert_eq!(machine.succeed("echo here").await.unwrap().text(), "here\n");
    commands(&machine).await;
    files(&machine).await;
    waits(&machine).await;
    let alice = machine.as_user("alice");
    assert_eq!(alice.succeed("id -un; pwd").await.unwrap().text(), "alice\n/home/alice\n");
    assert_eq!(alice.execute("echo out; echo err >&2; exit 5").await.unwrap().status(), 5);
    alice.succeed("systemctl --user show-environment").await.unwrap();
    machine.stop().await;
}
