//! A machine is started by its own run script: with the real QEMU, on no disk, up to its firmware.

use std::time::{Duration, Instant};

use nixvm_test::internals::Events;
use nixvm_test::internals::qemu::{Launch, Qemu, RunDirectory};
use nixvm_test::{Error, ErrorKind};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::hang::HANG as LIMIT;
use crate::run_script::{RunScript, lives};

/// What the run scripts here end in; each adds its options.
const QEMU: &str = "cd \"$TMPDIR\"; exec qemu-system-x86_64 -name x -m 64 -net none";

async fn launch(script: &RunScript, run: &RunDirectory) -> Result<(Qemu, UnixStream), Error> {
    Qemu::launch(Launch::new(&script.vm(), "server", run, Events::none())).await
}

async fn reads(console: &mut UnixStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            if console.read_buf(&mut seen).await.unwrap() == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LIMIT, reading).await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains(wanted), "{seen}");
    seen
}

#[tokio::test]
async fn the_console_shows_the_firmware_from_its_first_line() {
    let script = RunScript::new(&format!("{QEMU} -nographic $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let (_qemu, mut console) = launch(&script, &run).await.unwrap();
    // Nobody reads for a while: nothing may get lost.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let seen = reads(&mut console, "SeaBIOS (version").await;
    let before = seen.split("SeaBIOS (version").next().unwrap();
    assert!(before.chars().all(|character| character != '\n'), "{seen:?}");
}

#[tokio::test]
async fn the_console_ends_when_qemu_does() {
    let script = RunScript::new(&format!("{QEMU} $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let (qemu, mut console) = launch(&script, &run).await.unwrap();
    let version = qemu.qmp().execute("query-version", None, LIMIT).await.unwrap();
    assert!(version["qemu"]["major"].as_u64().unwrap() >= 7);
    drop(qemu);
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, console.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_script_with_options_for_kvm_and_a_terminal_of_its_own_runs_under_tcg() {
    let script = RunScript::new(&format!("{QEMU} -nographic -enable-kvm -cpu host $QEMU_OPTS \"$@\""));
    let run = RunDirectory::create().unwrap();
    let (qemu, mut console) = launch(&script, &run).await.unwrap();
    reads(&mut console, "SeaBIOS (version").await;
    let kvm = qemu.qmp().execute("query-kvm", None, LIMIT).await.unwrap();
    assert_eq!(kvm["enabled"], false);
    assert_eq!(qemu.stderr_tail(), "", "no monitor on stdio, no complaint");
}

#[tokio::test]
async fn qemus_end_is_seen_with_its_status_and_last_words() {
    let script = RunScript::new(&format!("echo the script speaks; {QEMU} -nographic $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let (qemu, _console) = launch(&script, &run).await.unwrap();
    let mut exit = qemu.exit();
    assert!(exit.borrow().is_none());
    qemu.qmp().execute("quit", None, LIMIT).await.unwrap();
    let exit = tokio::time::timeout(LIMIT, exit.wait_for(Option::is_some)).await.unwrap().unwrap();
    let exit = exit.clone().unwrap();
    assert!(exit.status.success());
    assert_eq!(exit.stderr, "", "QEMU itself said nothing");
    assert_eq!(std::fs::read_to_string(run.stderr()).unwrap(), "the script speaks\n");
    let error = qemu.qmp().execute("query-status", None, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn a_killed_machine_is_gone_when_kill_returns() {
    let script = RunScript::new(&format!("{QEMU} -nographic $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let (qemu, _console) = launch(&script, &run).await.unwrap();
    let pid = qemu.pid();
    assert!(lives(pid));
    qemu.kill().await;
    assert!(!lives(pid));
    assert_eq!(qemu.exit().borrow().as_ref().unwrap().describe(), "killed by signal 9 (SIGKILL)");
}

#[tokio::test]
async fn an_option_that_qemu_does_not_know_is_an_error_with_its_words() {
    let script = RunScript::new(&format!("{QEMU} -no-such-option $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let error = launch(&script, &run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone);
    let text = error.to_string();
    assert!(text.contains("server: the run script ended before QEMU ran: exit status 1"), "{text}");
    assert!(text.contains("-no-such-option: invalid option"), "{text}");
    assert!(text.contains("likely cause: QEMU does not know an option"), "{text}");
}

#[tokio::test]
async fn an_accelerator_chosen_in_a_way_that_cannot_be_overridden_is_named() {
    let script = RunScript::new(&format!("{QEMU} -accel tcg $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let text = launch(&script, &run).await.unwrap_err().to_string();
    assert!(text.contains("write `-machine accel=kvm:tcg`"), "{text}");
}

#[tokio::test]
async fn a_host_without_qemu_is_told_what_to_install() {
    for script in ["exec qemu-system-x86_65 $QEMU_OPTS", "set -e; qemu-imgs create; true"] {
        let script = RunScript::new(script);
        let run = RunDirectory::create().unwrap();
        let error = launch(&script, &run).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host, "{error}");
        assert!(error.to_string().contains("install it (Debian: apt-get install qemu-system-x86"), "{error}");
    }
}

#[tokio::test]
async fn a_launch_that_is_given_up_leaves_no_process() {
    let script =
        RunScript::new("echo $$ > \"$TMPDIR/new\"; mv \"$TMPDIR/new\" \"$TMPDIR/pid\"; sleep 1000; true");
    let run = RunDirectory::create().unwrap();
    let begun = async {
        while !run.tmp().join("pid").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        launched = launch(&script, &run) => panic!("{:?}", launched.map(drop)),
        () = begun => {}
    }
    let pid = std::fs::read_to_string(run.tmp().join("pid")).unwrap().trim().parse().unwrap();
    // Where it was given up while the process was being started, the thread that started it ends it.
    let given_up = Instant::now();
    while lives(pid) {
        assert!(given_up.elapsed() < LIMIT, "{pid} lives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_named_as_the_likely_cause() {
    let script = RunScript::new("cat /dev/zero > /dev/full");
    let run = RunDirectory::create().unwrap();
    let text = launch(&script, &run).await.unwrap_err().to_string();
    assert!(text.contains("likely cause: the host's disk is full"), "{text}");
}

#[tokio::test]
async fn a_script_that_cannot_run_is_named() {
    let run = RunDirectory::create().unwrap();
    let script = RunScript::with_first_line("#!/no/such/interpreter", "");
    let error = launch(&script, &run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.to_string().contains("interpreter in its first line is missing"), "{error}");

    let script = RunScript::new("");
    let vm = script.vm();
    script.remove();
    let error = Qemu::launch(Launch::new(&vm, "server", &run, Events::none())).await.unwrap_err();
    assert!(error.to_string().contains("removed from the Nix store"), "{error}");
}

#[tokio::test]
async fn a_script_that_never_starts_qemu_runs_into_its_limit() {
    let script = RunScript::new("echo making an image; sleep 1000");
    let vm = script.vm();
    let mut limit = Duration::from_millis(300);
    loop {
        let run = RunDirectory::create().unwrap();
        let mut launch = Launch::new(&vm, "server", &run, Events::none());
        launch.limit = limit;
        let error = Qemu::launch(launch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let expected = "server: expected QEMU's control protocol to answer within ";
        assert!(error.summary().starts_with(expected), "{error}");
        if error.to_string().contains("what the run script printed last:\n    | making an image") {
            break;
        }
        // On a busy host the script has not begun by then.
        assert!(limit < LIMIT, "{error}");
        limit *= 4;
    }
}

#[tokio::test]
async fn a_serial_port_of_the_vms_own_is_refused_by_name() {
    let script = RunScript::new(&format!("{QEMU} -serial null $QEMU_OPTS"));
    let run = RunDirectory::create().unwrap();
    let error = launch(&script, &run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("-serial null"), "{error}");
}

#[tokio::test]
async fn the_script_finds_its_variables_and_leaves_the_callers_folder_alone() {
    let script = RunScript::new(
        "env > \"$TMPDIR/env\"; pwd > \"$TMPDIR/pwd\"; touch efi-vars.fd; read line && exit 9; exit 7",
    );
    let run = RunDirectory::create().unwrap();
    let vm = script.vm();
    let mut launch = Launch::new(&vm, "server", &run, Events::none());
    launch.kernel_params = vec!["systemd.log_level=debug".to_owned()];
    let text = Qemu::launch(launch).await.unwrap_err().to_string();
    assert!(text.contains("exit status 7"), "stdin is empty: {text}");
    let environment = std::fs::read_to_string(run.tmp().join("env")).unwrap();
    let value = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} in {environment}")).to_owned()
    };
    assert_eq!(value("NIX_DISK_IMAGE"), run.disk().display().to_string());
    assert_eq!(value("TMPDIR"), run.tmp().display().to_string());
    assert_eq!(value("USE_TMPDIR"), "1");
    assert_eq!(value("QEMU_KERNEL_PARAMS"), "systemd.log_level=debug console=ttyS0,115200n8");
    assert!(value("QEMU_OPTS").starts_with("-machine accel=tcg -cpu max "));
    let folder = std::fs::read_to_string(run.tmp().join("pwd")).unwrap();
    assert_eq!(folder.trim(), run.tmp().display().to_string());
}
