//! A console that logs somebody in by itself, on the real thing: agetty, login, su, PAM and sudo.

use std::time::Instant;

use nixvm_test::ErrorKind;
use nixvm_test::machine::{Machine, MachineOptions};

use super::{built, events};

const CONFIGURATION: &str = r#"
{
  services.getty.autologinUser = "root";
  users.users = {
    root.initialPassword = "toor";
    alice = { isNormalUser = true; extraGroups = [ "wheel" ]; initialPassword = "test"; };
    emma = { isNormalUser = true; initialPassword = "sesame"; };
    bob = { isNormalUser = true; initialHashedPassword = ""; };
  };
  system.stateVersion = "23.11";
}
"#;

/// The console logs emma in from the next time on.
const AS_EMMA: &str = r#"
d=/run/systemd/system/serial-getty@ttyS0.service.d
mkdir -p $d
line=$(systemctl cat serial-getty@ttyS0.service | grep '^ExecStart=.*autologin' | tail -n 1)
printf '[Service]\nExecStart=\n%s\n' "${line/autologin root/autologin emma}" >$d/zz-emma.conf
systemctl daemon-reload
"#;

/// A login by which the user comes who was asked for.
async fn in_as(machine: &Machine, user: &str, password: &str) {
    let begun = Instant::now();
    let session = machine.login(user, password).await.unwrap_or_else(|error| panic!("{user}: {error}"));
    eprintln!("{:6.2} s  {user} is logged in", begun.elapsed().as_secs_f64());
    assert_eq!(session.succeed("id -un").await.unwrap().text(), format!("{user}\n"));
    assert_eq!(session.succeed("tty").await.unwrap().text(), "/dev/ttyS0\n");
}

async fn refused(machine: &Machine, user: &str, password: &str) {
    let begun = Instant::now();
    let error = machine.login(user, password).await.expect_err("the login is refused");
    eprintln!("{:6.2} s  {user} is refused: {}", begun.elapsed().as_secs_f64(), error.summary());
    assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
}

async fn not_powered_off(machine: &Machine, why: &str) {
    let error = machine.power_off().await.expect_err("the machine runs on");
    eprintln!("{error}");
    assert_eq!(error.kind(), ErrorKind::CommandFailed, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn a_real_console_that_logs_in_by_itself_gives_whoever_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("configuration.nix");
    std::fs::write(&configuration, CONFIGURATION).unwrap();
    // Booted: nobody else has a machine whose console logs in by itself.
    let vm = built(configuration, &events()).await;
    let machine = Machine::boot(&vm, MachineOptions::new("nixos").events(events())).await.unwrap();

    // root is there.
    refused(&machine, "alice", "wrong").await;
    in_as(&machine, "alice", "test").await;
    refused(&machine, "root", "wrong").await;
    in_as(&machine, "root", "toor").await;
    in_as(&machine, "root", "").await;
    in_as(&machine, "bob", "not asked for").await;

    // emma is there.
    in_as(&machine, "root", "").await;
    machine.session().await.unwrap().succeed(AS_EMMA).await.unwrap();
    in_as(&machine, "emma", "").await;
    refused(&machine, "emma", "wrong").await;
    in_as(&machine, "alice", "test").await;
    let alice = machine.session().await.unwrap();
    assert_eq!(alice.execute("exit").await.unwrap_err().kind(), ErrorKind::SessionEnded);

    // Powering off takes somebody who may.
    in_as(&machine, "emma", "sesame").await;
    not_powered_off(&machine, "emma is not in the sudoers file").await;
    in_as(&machine, "alice", "test").await;
    machine.succeed("echo alice:another | chpasswd").await.unwrap();
    machine.session().await.unwrap().succeed("sudo -k").await.unwrap();
    not_powered_off(&machine, "Sorry, try again").await;
    machine.shutdown().await.unwrap();
}
