//! The login scenario on the real VM beside `bare-login.pl`, which does the same with nothing but
//! reads and writes: what the framework costs. Both run in turn, so that a busy host is busy for both.
//!
//! ```text
//! cargo bench --bench login                    # 5 rounds
//! cargo bench --bench login -- --quick         # 1 round, to see that it works
//! cargo bench --bench login -- --vm ./result   # a VM that is built already
//! ```

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nixvm_test::build::{Builder, BuiltVm, Source};
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::qemu::accelerator;
use nixvm_test::{Error, ErrorKind, Event, Events, Result};
use serde::Deserialize;

/// `true` is typed so often in each round.
const TRUES: usize = 100;

/// One run through the scenario, in seconds, and the median of `true` in milliseconds.
#[derive(Debug, Clone, Deserialize)]
struct Run {
    login_prompt: f64,
    shell: f64,
    cowsay: f64,
    power_off: f64,
    all: f64,
    true_ms: f64,
}

/// A row of the table: its name and unit, and its figure in a run.
type Row = (&'static str, &'static str, fn(&Run) -> f64);

const ROWS: [Row; 6] = [
    ("start to login prompt", "s", |run| run.login_prompt),
    ("start to shell", "s", |run| run.shell),
    ("cowsay hello \\| lolcat", "s", |run| run.cowsay),
    ("sudo poweroff", "s", |run| run.power_off),
    ("the whole scenario", "s", |run| run.all - run.true_ms * TRUES as f64 / 1000.0),
    ("true", "ms", |run| run.true_ms),
];

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = if arguments.iter().any(|argument| argument == "--quick") { 1 } else { 5 };
    let events = Events::new(|event| {
        if let Event::Note { text } | Event::BuildLine { text } = event {
            eprintln!("{text}");
        }
    });
    let given = arguments.iter().position(|argument| argument == "--vm").and_then(|at| arguments.get(at + 1));
    let source = match given {
        Some(vm) => Source::Built(vm.into()),
        None => Source::Configuration(Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration.nix")),
    };
    let vm = Builder::new().build(&source, &events).await?;
    let accelerator = accelerator::choose(&vm, &events).await?.accelerator.name();

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        bare.push(bare_script(&vm, accelerator)?);
        ours.push(scenario(&vm).await?);
    }
    table(&bare, &ours, accelerator);
    Ok(())
}

fn bare_script(vm: &BuiltVm, accelerator: &str) -> Result<Run> {
    let result = vm.script().ancestors().nth(2).unwrap_or(Path::new("/"));
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/bare-login.pl"))
        .arg(result)
        .env("BARE_ACCELERATOR", accelerator)
        .env("TRUES", TRUES.to_string())
        .output()?;
    if !output.status.success() {
        return Err(Error::new(ErrorKind::Other, format!("bare-login.pl: {}", output.status)).section(
            "it said",
            String::from_utf8_lossy(&output.stderr).lines().take(20).collect::<Vec<_>>().join("\n"),
        ));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn scenario(vm: &BuiltVm) -> Result<Run> {
    let start = Instant::now();
    let machine = Machine::boot(vm, MachineOptions::new("nixos")).await?;
    let login_prompt = start.elapsed();
    let alice = machine.login("alice", "test").await?;
    let shell = start.elapsed();
    let mut trues = Vec::new();
    for _ in 0..TRUES {
        let then = Instant::now();
        alice.succeed("true").await?;
        trues.push(then.elapsed().as_secs_f64() * 1000.0);
    }
    let then = Instant::now();
    let cow = alice.succeed("cowsay hello | lolcat").await?;
    let cowsay = then.elapsed();
    assert!(cow.text().contains("< hello >"), "{}", cow.text());
    let then = Instant::now();
    machine.power_off().await?;
    let seconds = Duration::as_secs_f64;
    Ok(Run {
        login_prompt: seconds(&login_prompt),
        shell: seconds(&shell),
        cowsay: seconds(&cowsay),
        power_off: seconds(&then.elapsed()),
        all: seconds(&start.elapsed()),
        true_ms: median(trues),
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(bare: &[Run], ours: &[Run], accelerator: &str) {
    println!("\nmedians of {} rounds, {accelerator}, {}\n", bare.len(), machine_name());
    println!("| | bare script | nixvm-test | ratio |\n|---|---:|---:|---:|");
    for (name, unit, figure) in ROWS {
        let of = |runs: &[Run]| median(runs.iter().map(figure).collect());
        let (bare, ours) = (of(bare), of(ours));
        println!("| {name} | {bare:.2} {unit} | {ours:.2} {unit} | {:.2} |", ours / bare);
    }
}

/// Processor, cores and kernel of this host, and its QEMU.
fn machine_name() -> String {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    let qemu = qemu.map(|output| first_line(String::from_utf8_lossy(&output.stdout).into_owned()));
    format!("{model}, {cores} cores, Linux {}, {}", kernel.trim(), qemu.unwrap_or_default())
}
