//! The login scenario on the real VM beside `bare-login.pl`, which does the same with nothing but
//! reads and writes: what the framework costs. Both run in turn, so that a busy host is busy for both.
//!
//! ```text
//! cargo bench --bench login                    # 5 rounds
//! cargo bench --bench login -- --quick         # 1 round, to see that it works
//! cargo bench --bench login -- --vm ./result   # a VM that is built already
//! ```

mod measuring;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use measuring::{machine_name, median};
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::qemu::accelerator;
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{Error, ErrorKind, Result};
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
    let rounds = if measuring::has("--quick") { 1 } else { 5 };
    let events = measuring::events();
    let vm = measuring::vm("configuration.nix", &events).await?;
    let accelerator = accelerator::choose(&vm, &events)?.accelerator.name();

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
        true_ms: median(&trues),
    })
}

fn table(bare: &[Run], ours: &[Run], accelerator: &str) {
    println!("\nmedians of {} rounds, {accelerator}, {}\n", bare.len(), machine_name());
    println!("| | bare script | nixvm-test | ratio |\n|---|---:|---:|---:|");
    for (name, unit, figure) in ROWS {
        let of = |runs: &[Run]| median(&runs.iter().map(figure).collect::<Vec<_>>());
        let (bare, ours) = (of(bare), of(ours));
        println!("| {name} | {bare:.2} {unit} | {ours:.2} {unit} | {:.2} |", ours / bare);
    }
}
