//! The control channel on the real VM: how long commands, copies and waits take. `benches/reference` compares it with the
//! NixOS test driver.
//!
//! ```text
//! cargo bench --bench control                    # about 2 minutes
//! cargo bench --bench control -- --vm ./result   # a VM that is built already
//! ```

#[path = "../measuring/mod.rs"]
mod measuring;

use std::time::{Duration, Instant};

use measuring::median;
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{Error, ErrorKind, Result};

/// Commands in a row.
const IN_A_ROW: usize = 100;
/// Each kind of wait is measured so often.
const WAITS: usize = 5;

#[tokio::main]
async fn main() -> Result {
    let events = measuring::events();
    let vm = measuring::vm("scenarios/services.nix", &events).await?;
    let machine = Machine::boot(&vm, MachineOptions::new("bench").events(events)).await?;
    let alice = machine.login("alice", "test").await?;
    let opened = Instant::now();
    machine.succeed("true").await?;
    println!("\n{}\n\n| | time |\n|---|---:|", measuring::machine_name());
    row("opening the channel, once a boot", opened.elapsed());
    // What has just booted is still busy.
    machine.wait_for_unit("multi-user.target").await?;
    machine.execute("systemctl is-system-running --wait").await?;

    // The helper answers this by itself, so it is what a way to the guest and back takes.
    let floor =
        each(IN_A_ROW, async || machine.wait_for_open_unix_socket("/run/systemd/private").await).await?;
    row("an answer of the helper, no process", median(&floor));
    let console = each(IN_A_ROW, async || alice.succeed("true").await.map(drop)).await?;
    let builtin = each(IN_A_ROW, async || machine.succeed("true").await.map(drop)).await?;
    let program = each(IN_A_ROW, async || machine.succeed("/bin/true").await.map(drop)).await?;
    let shell = each(IN_A_ROW, async || machine.succeed("x=1; true $x").await.map(drop)).await?;
    row("`true` on the console, median", median(&console));
    row("`succeed(\"true\")`, median of 100 in a row", median(&builtin));
    row("the same, slowest", slowest(&builtin));
    row("`succeed(\"/bin/true\")`, median of 100 in a row", median(&program));
    row("the same, slowest", slowest(&program));
    row("`succeed(\"x=1; true $x\")`, median of 100 in a row", median(&shell));
    row("the same, slowest", slowest(&shell));

    let begun = Instant::now();
    let flood = machine.succeed("head -c 10000000 /dev/zero").await?;
    row("10 MB of output", begun.elapsed());
    assert_eq!(flood.bytes().len(), 10_000_000);
    let begun = Instant::now();
    let lines = machine.succeed("seq 1 1300000").await?;
    row(&format!("{:.1} MB of output in lines", lines.bytes().len() as f64 / 1e6), begun.elapsed());

    copies(&machine).await?;

    let up = each(20, async || machine.wait_for_unit("nginx.service").await).await?;
    row("`wait_for_unit` of a unit that is up, median", median(&up));
    row("the same, slowest", slowest(&up));
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
    row("20 times `sleep 2`, in flight at once", begun.elapsed());
    machine.power_off().await
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
    row("`copy_to` of 100 MB, to memory", begun.elapsed());
    let begun = Instant::now();
    machine.copy_from("/dev/shm/file", folder.path().join("back")).await?;
    row("`copy_from` of 100 MB", begun.elapsed());
    assert!(std::fs::read(folder.path().join("back"))? == content, "what came back is what went");
    machine.succeed("rm /dev/shm/file").await.map(drop)
}

/// From the event to the return of the wait for it. The event is made by a command in the machine which notes
/// when; both ends read the machine's clock, through the channel.
async fn waits(machine: &Machine) -> Result {
    let file =
        late(machine, "touch /run/it", "rm -f /run/it", async |m| m.wait_for_file("/run/it").await).await?;
    row("a file appears: until `wait_for_file` returns, median", file);
    let listen = "systemd-run -q --collect --unit=listens --socket-property=ListenStream=4711 --socket-property=Accept=no true";
    let port =
        late(machine, listen, "systemctl stop listens.socket", async |m| m.wait_for_open_port(4711).await)
            .await?;
    row("a port opens: until `wait_for_open_port` returns, median", port);
    // systemd calls nginx started before nginx heeds a signal: in its first second one to stop is lost.
    let stop = "timeout 60 bash -c 'until : </dev/tcp/127.0.0.1/80; do sleep 0.2; done' 2>/dev/null; systemctl stop nginx";
    let unit = late(machine, "systemctl start nginx", stop, async |m| m.wait_for_unit("nginx").await).await?;
    row("a unit comes up: until `wait_for_unit` returns, median", unit);
    let succeeds = late(machine, "touch /run/it", "rm -f /run/it", async |m| {
        m.wait_until_succeeds("test -e /run/it").await.map(drop)
    })
    .await?;
    row("a command succeeds: until `wait_until_succeeds` returns, median", succeeds);
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
            let made = machine.command(format!("sleep 1.5; {event}; echo done")).output().await?;
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

fn slowest(all: &[Duration]) -> Duration {
    all.iter().max().copied().unwrap_or_default()
}

fn row(what: &str, time: Duration) {
    let time = match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    };
    println!("| {what} | {time} |");
}
