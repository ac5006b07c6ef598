//! The NixOS test driver itself in turn with nixvm-test: each boots the same VM, does the same, and shuts it down.
//!
//! ```text
//! export NIXVM_BENCH_REFERENCE=…                    # the driver's sources; without them the bench says how to get them
//! cargo bench --bench reference                     # three rounds, about 5 minutes
//! cargo bench --bench reference -- --rounds 1
//! cargo bench --bench reference -- --vm ./result    # a VM of benches/reference/guest.nix that is built already
//! cargo bench --bench reference -- --opening        # only nixvm-test: what opening the control channel takes
//! ```
//!
//! `--opening` needs no sources. To compare two commits, run it in turn with the bench of the other one.

#![allow(clippy::disallowed_methods, reason = "another crate, to which `crate::environment` is private")]

#[path = "../measuring/mod.rs"]
mod measuring;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::Events;
use nixvm_test::internals::qemu::{Accelerator, accelerator};
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{Error, ErrorKind, Result};
use serde::Deserialize;

/// Where the sources of the NixOS test driver are.
const SOURCES: &str = "NIXVM_BENCH_REFERENCE";

/// In the process that measures: what QEMU_OPTS was before.
const OPTIONS: &str = "NIXVM_BENCH_QEMU_OPTS";

/// The console of the guest's backdoor, for a driver that does not use it.
const CONSOLE: &str =
    "-chardev null,id=reference -device virtio-serial -device virtconsole,chardev=reference";

/// `true` is run so often in each round.
const TRUES: usize = 50;

/// What a driver took for each thing, in seconds.
#[derive(Debug, Clone, Default, Deserialize)]
struct Figures {
    /// From the start of the machine to the answer of root's first command.
    cold: f64,
    /// Of that, from a login to the answer.
    #[serde(default)]
    opening: f64,
    builtin: f64,
    program: f64,
    unit: f64,
    output: f64,
    shutdown: f64,
}

/// A row of the table: its name and its figure.
type Row = (&'static str, fn(&Figures) -> f64);

const ROWS: [Row; 6] = [
    ("cold, to the answer of root's first command", |figures| figures.cold),
    ("`succeed(\"true\")`, median of 50", |figures| figures.builtin),
    ("`succeed(\"/bin/true\")`, median of 50", |figures| figures.program),
    ("`wait_for_unit` of a unit that is up, median of 10", |figures| figures.unit),
    ("7.5 MB of output", |figures| figures.output),
    ("`shutdown()`", |figures| figures.shutdown),
];

/// Starts itself once more, with the backdoor's console among QEMU's options.
fn main() -> ExitCode {
    let ended = match std::env::var(OPTIONS) {
        Ok(before) => measure(&before).map(|()| true),
        Err(_) => once_more().map_err(Error::from),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn once_more() -> std::io::Result<bool> {
    let before = std::env::var("QEMU_OPTS").unwrap_or_default();
    let mut itself = Command::new(std::env::current_exe()?);
    itself.args(std::env::args_os().skip(1));
    itself.env("QEMU_OPTS", format!("{before} {CONSOLE}")).env(OPTIONS, before);
    Ok(itself.status()?.success())
}

#[tokio::main]
async fn measure(options: &str) -> Result {
    let only_opening = measuring::has("--opening");
    let Some(sources) = sources().or_else(|| only_opening.then(PathBuf::new)) else {
        println!(
            "skipped: {SOURCES} names no folder with the sources of the NixOS test driver. They are had by"
        );
        println!(
            "    git clone --depth 1 --branch nixos-24.11 --filter=blob:none --sparse https://github.com/NixOS/nixpkgs reference"
        );
        println!("    git -C reference sparse-checkout set nixos/lib/test-driver");
        println!("    export {SOURCES}=$PWD/reference");
        return Ok(());
    };
    let events = measuring::events();
    let vm = measuring::vm("benches/reference/guest.nix", &events).await?;
    let processor = Processor::found(&vm, &events).await?;
    let accelerator = processor.accelerator;
    let rounds = measuring::given("--rounds").and_then(|count| count.parse().ok()).unwrap_or(3);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        ours.push(by_nixvm_test(&vm, only_opening).await?);
        if !only_opening {
            theirs.push(by_reference(&vm, &sources, &processor, options)?);
        }
    }
    println!("\n{rounds} rounds, {accelerator}, {}\n", measuring::machine_name());
    let opening: Vec<f64> = ours.iter().map(|figures| figures.opening).collect();
    if only_opening {
        println!("opening the control channel: {} s", listed(&opening));
        return Ok(());
    }
    println!(
        "| medians | nixvm-test | NixOS test driver | ratio | of each round |\n|---|---:|---:|---:|---|"
    );
    for (name, figure) in ROWS {
        let of = |all: &[Figures]| all.iter().map(figure).collect::<Vec<_>>();
        let (ours, theirs) = (of(&ours), of(&theirs));
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        let (a, b) = (measuring::median(&ours), measuring::median(&theirs));
        println!("| {name} | {} | {} | {:.3} | {} |", shown(a), shown(b), a / b, listed(&ratios));
    }
    println!(
        "| of the cold start: opening the control channel | {} | | | |",
        shown(measuring::median(&opening))
    );
    Ok(())
}

/// What both drivers' guests run on.
struct Processor {
    accelerator: &'static str,
    /// The value of QEMU's `-cpu`, where it is not that of the run script.
    cpu: Option<&'static str>,
}

impl Processor {
    /// By a boot that is not measured: the first one on a host shows whether KVM works, and may be two.
    async fn found(vm: &BuiltVm, events: &Events) -> Result<Self> {
        let machine = Machine::boot(vm, MachineOptions::new("machine").events(events.clone())).await?;
        let accelerator = machine.qemu().accelerator();
        machine.stop().await;
        let cpu = match accelerator {
            Accelerator::Tcg => Some("max"),
            Accelerator::Kvm => accelerator::choose(vm, events)?.cpu,
        };
        Ok(Self { accelerator: accelerator.name(), cpu })
    }
}

/// The folder with the driver's package, wherever in a checkout it is.
fn sources() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(SOURCES)?);
    let places = ["", "src", "nixos/lib/test-driver", "nixos/lib/test-driver/src"];
    let package = |place: &&str| folder.join(place).join("test_driver/machine.py").is_file();
    // Python is started in another folder.
    std::path::absolute(folder.join(places.iter().find(|place| package(place))?)).ok()
}

async fn by_nixvm_test(vm: &BuiltVm, only_opening: bool) -> Result<Figures> {
    let start = Instant::now();
    let machine = Machine::boot(vm, MachineOptions::new("machine")).await?;
    machine.login("alice", "test").await?;
    let logged_in = Instant::now();
    machine.succeed("true").await?;
    let seconds = |since: Instant| since.elapsed().as_secs_f64();
    let mut figures = Figures { cold: seconds(start), opening: seconds(logged_in), ..Figures::default() };
    if only_opening {
        machine.stop().await;
        return Ok(figures);
    }
    // What has just booted is still busy.
    machine.execute("systemctl is-system-running --wait").await?;
    figures.builtin = each(TRUES, async || machine.succeed("true").await.map(drop)).await?;
    figures.program = each(TRUES, async || machine.succeed("/bin/true").await.map(drop)).await?;
    figures.unit = each(10, async || machine.wait_for_unit("multi-user.target").await).await?;
    let begun = Instant::now();
    let output = machine.succeed("seq 1000000 1937499").await?;
    figures.output = seconds(begun);
    assert_eq!(output.bytes().len(), 7_500_000);
    let begun = Instant::now();
    machine.shutdown().await?;
    figures.shutdown = seconds(begun);
    Ok(figures)
}

/// The median time of a row of calls, in seconds.
async fn each(count: usize, call: impl AsyncFn() -> Result) -> Result<f64> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        call().await?;
        all.push(begun.elapsed().as_secs_f64());
    }
    Ok(measuring::median(&all))
}

fn by_reference(vm: &BuiltVm, sources: &Path, processor: &Processor, options: &str) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let Processor { accelerator, cpu } = processor;
    let cpu = cpu.map(|cpu| format!(" -cpu {cpu}")).unwrap_or_default();
    let log = folder.path().join("log");
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference/driver.py"))
        .args([sources, vm.script()])
        .arg(TRUES.to_string())
        .current_dir(folder.path())
        .env("NIX_DISK_IMAGE", folder.path().join("disk.qcow2"))
        .env("QEMU_OPTS", format!("{options} -machine accel={accelerator}{cpu}"))
        .env("QEMU_KERNEL_PARAMS", "console=ttyS0")
        // Where there is a display, the driver shows the VM on it.
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .stderr(Stdio::from(std::fs::File::create(&log)?))
        .output()?;
    // The driver says on its output as well what it does.
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        return Err(Error::new(ErrorKind::Other, format!("the NixOS test driver: {}", output.status))
            .section("it said last", last.into_iter().rev().collect::<Vec<_>>().join("\n")));
    }
    Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
}

fn shown(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

fn listed(figures: &[f64]) -> String {
    figures.iter().map(|figure| format!("{figure:.3}")).collect::<Vec<_>>().join(", ")
}
