//! The control channel on the real VM: how long commands, copies and waits take, beside `true` on the serial console
//! and, in turn on the same guest, what the NixOS test driver does for `succeed("true")`.
//!
//! ```text
//! cargo bench --bench control                    # everything, about 2 minutes
//! cargo bench --bench control -- --vm ./result   # a VM that is built already
//! cargo bench --bench control -- --ratio         # only the two drivers in turn
//! ```

mod reference;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::reference::Reference;
use nixvm_test::build::{Builder, Source};
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{Error, ErrorKind, Event, Events, Result};

/// Commands in a row.
const IN_A_ROW: usize = 100;
/// Each kind of wait is measured so often.
const WAITS: usize = 5;

/// Where QEMU's console for the reference is to connect, for the process that measures.
const SOCKET: &str = "NIXVM_BENCH_SOCKET";

/// Starts itself once more, with the console for the reference among QEMU's options.
fn main() -> ExitCode {
    if let Some(socket) = std::env::var_os(SOCKET) {
        return match measure(Path::new(&socket)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let again = || -> std::io::Result<bool> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("reference");
        let options =
            format!("{} {}", std::env::var("QEMU_OPTS").unwrap_or_default(), reference::options(&socket));
        let mut itself = Command::new(std::env::current_exe()?);
        itself.args(std::env::args_os().skip(1)).env("QEMU_OPTS", options).env(SOCKET, &socket);
        Ok(itself.status()?.success())
    };
    match again() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the benchmark can't be started: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure(socket: &Path) -> Result {
    let failed = |error| Error::new(ErrorKind::Other, format!("{}: {error}", socket.display()));
    let listener = tokio::net::UnixListener::bind(socket).map_err(failed)?;
    let arguments: Vec<String> = std::env::args().collect();
    let events = Events::new(|event| {
        if let Event::Note { text } | Event::BuildLine { text } = event {
            eprintln!("{text}");
        }
    });
    let given = arguments.iter().position(|argument| argument == "--vm").and_then(|at| arguments.get(at + 1));
    let source = match given {
        Some(vm) => Source::Built(vm.into()),
        None => Source::Configuration(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/services.nix")),
    };
    let vm = Builder::new().build(&source, &events).await?;
    let machine = Machine::boot(&vm, MachineOptions::new("bench").events(events)).await?;
    let alice = machine.login("alice", "test").await?;
    let opened = Instant::now();
    machine.succeed("true").await?;
    println!("\n| | time | the NixOS driver's |\n|---|---:|---:|");
    row("opening the channel, once a boot", opened.elapsed(), "");
    // What has just booted is still busy.
    machine.wait_for_unit("multi-user.target").await?;
    machine.execute("systemctl is-system-running --wait").await?;

    in_turn(&machine, &listener).await?;
    if arguments.iter().any(|argument| argument == "--ratio") {
        return machine.power_off().await;
    }

    let console = each(IN_A_ROW, async || alice.succeed("true").await.map(drop)).await?;
    let builtin = each(IN_A_ROW, async || machine.succeed("true").await.map(drop)).await?;
    let program = each(IN_A_ROW, async || machine.succeed("/bin/true").await.map(drop)).await?;
    let shell = each(IN_A_ROW, async || machine.succeed("x=1; true $x").await.map(drop)).await?;
    row("`true` on the console, median", median(&console), "");
    row("`succeed(\"true\")`, median of 100 in a row", median(&builtin), "");
    row("the same, slowest", slowest(&builtin), "");
    row("`succeed(\"/bin/true\")`, median of 100 in a row", median(&program), "");
    row("the same, slowest", slowest(&program), "");
    row("`succeed(\"x=1; true $x\")`, median of 100 in a row", median(&shell), "");
    row("the same, slowest", slowest(&shell), "");

    let begun = Instant::now();
    let flood = machine.succeed("head -c 10000000 /dev/zero").await?;
    row("10 MB of output", begun.elapsed(), "3.7 s");
    assert_eq!(flood.bytes().len(), 10_000_000);
    let begun = Instant::now();
    let lines = machine.succeed("seq 1 1300000").await?;
    row(&format!("{:.1} MB of output in lines", lines.bytes().len() as f64 / 1e6), begun.elapsed(), "");

    copies(&machine).await?;

    let up = each(20, async || machine.wait_for_unit("nginx.service").await).await?;
    row("`wait_for_unit` of a unit that is up, median", median(&up), "320 ms");
    row("the same, slowest", slowest(&up), "");
    waits(&machine).await?;

    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let machine = machine.clone();
        tasks.spawn(async move { machine.succeed("sleep 2").await });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Error::new(ErrorKind::Other, error.to_string()))??;
    }
    row("20 times `sleep 2`, in flight at once", begun.elapsed(), "one at a time");
    machine.power_off().await
}

/// `succeed("true")` by both drivers, in turn on this guest: command by command, then ten by ten.
async fn in_turn(machine: &Machine, listener: &tokio::net::UnixListener) -> Result {
    let mut reference = Reference::start(machine, listener).await?;
    // The helper answers this by itself, so it is what a way to the guest and back takes.
    let floor =
        each(IN_A_ROW, async || machine.wait_for_open_unix_socket("/run/systemd/private").await).await?;
    row("an answer of the helper, no process", median(&floor), "");
    for (at_a_time, rounds) in [(1, IN_A_ROW), (10, 10), (IN_A_ROW, 1)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.extend(each(at_a_time, async || machine.succeed("true").await.map(drop)).await?);
            for _ in 0..at_a_time {
                let begun = Instant::now();
                let status = reference.status("true").await?;
                theirs.push(begun.elapsed());
                assert_eq!(status, 0);
            }
        }
        ours.sort();
        let (ours, theirs) = (median(&ours), median(&theirs));
        let part = theirs.as_secs_f64() / ours.as_secs_f64();
        let theirs = format!("{:.1} ms, {part:.1} times ours", theirs.as_secs_f64() * 1000.0);
        let turn = if at_a_time == 1 { "in turn".to_owned() } else { format!("{at_a_time} in turn") };
        row(&format!("`succeed(\"true\")`, {turn}, median of {IN_A_ROW}"), ours, &theirs);
    }
    Ok(())
}

/// 100 MB into the machine and out again.
async fn copies(machine: &Machine) -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    let content: Vec<u8> =
        (0..100_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &content)?;
    let begun = Instant::now();
    machine.copy_to(&file, "/dev/shm/file").await?;
    row("`copy_to` of 100 MB, to memory", begun.elapsed(), "");
    let begun = Instant::now();
    machine.copy_from("/dev/shm/file", folder.path().join("back")).await?;
    row("`copy_from` of 100 MB", begun.elapsed(), "");
    assert!(std::fs::read(folder.path().join("back"))? == content, "what came back is what went");
    machine.succeed("rm /dev/shm/file").await.map(drop)
}

/// From the event to the return of the wait for it. The event is made by a command in the machine which notes
/// when; both ends read the machine's clock, through the channel.
async fn waits(machine: &Machine) -> Result {
    let file =
        late(machine, "touch /run/it", "rm -f /run/it", async |m| m.wait_for_file("/run/it").await).await?;
    row("a file appears: until `wait_for_file` returns, median", file, "up to 1 s");
    let listen = "systemd-run -q --collect --unit=listens --socket-property=ListenStream=4711 --socket-property=Accept=no true";
    let port =
        late(machine, listen, "systemctl stop listens.socket", async |m| m.wait_for_open_port(4711).await)
            .await?;
    row("a port opens: until `wait_for_open_port` returns, median", port, "up to 1 s");
    // systemd calls nginx started before nginx heeds a signal: in its first second one to stop is lost.
    let stop = "timeout 60 bash -c 'until : </dev/tcp/127.0.0.1/80; do sleep 0.2; done' 2>/dev/null; systemctl stop nginx";
    let unit = late(machine, "systemctl start nginx", stop, async |m| m.wait_for_unit("nginx").await).await?;
    row("a unit comes up: until `wait_for_unit` returns, median", unit, "up to 1 s");
    let succeeds = late(machine, "touch /run/it", "rm -f /run/it", async |m| {
        m.wait_until_succeeds("test -e /run/it").await.map(drop)
    })
    .await?;
    row("a command succeeds: until `wait_until_succeeds` returns, median", succeeds, "up to 1 s");
    Ok(())
}

/// The median time from the end of `event` to the return of `wait`, which begins a second before.
async fn late(
    machine: &Machine,
    event: &str,
    undo: &str,
    wait: impl AsyncFn(&Machine) -> Result,
) -> Result<Duration> {
    let mut all = Vec::new();
    for _ in 0..WAITS {
        machine.execute(undo).await?;
        let happens = async {
            let mut ended = None;
            let made = machine.command(&format!("sleep 1.5; {event}; echo done")).output().await?;
            ended.get_or_insert(Instant::now());
            assert!(made.success(), "{}", made.text());
            Ok::<_, Error>(ended)
        };
        let (made, returned) = tokio::join!(happens, async { wait(machine).await.map(|()| Instant::now()) });
        let made = made?.unwrap_or_else(Instant::now);
        all.push(returned?.saturating_duration_since(made));
    }
    machine.execute(undo).await?;
    Ok(median(&all))
}

/// How long each of a row of calls takes.
async fn each(count: usize, call: impl AsyncFn() -> Result) -> Result<Vec<Duration>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        call().await?;
        all.push(begun.elapsed());
    }
    Ok(all)
}

fn median(all: &[Duration]) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn slowest(all: &[Duration]) -> Duration {
    all.iter().max().copied().unwrap_or_default()
}

fn row(what: &str, time: Duration, reference: &str) {
    let time = match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    };
    println!("| {what} | {time} | {reference} |");
}
