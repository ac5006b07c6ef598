//! Suites of small scenarios on the real VM, from nothing but a built VM and compiled scenarios: the whole run beside
//! one cold boot and what the scenarios' own commands take, and what such a run holds while it goes on.
//!
//! ```text
//! cargo bench --bench suite                 # suites of 20 and 200; removes the templates that are there
//! cargo bench --bench suite -- --sizes 20
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nixvm_test::internals::Events;
use nixvm_test::internals::nix::{Builder, Source};
use nixvm_test::machine::{Machine, MachineOptions};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What each scenario does.
const COMMAND: &str = "cowsay hello | lolcat";
/// Between two looks at what a run holds.
const LOOK: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--sizes");
    let sizes = given.and_then(|at| arguments.get(at + 1)).map_or("20,200", String::as_str);
    let sizes: Vec<usize> = sizes.split(',').filter_map(|size| size.parse().ok()).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);

    let Cold { boot, command, at_once } = cold(cores).await?;
    println!(
        "a cold boot with a login {boot:.2?}, the command of a scenario in it {command:.2?}, in each of {cores} machines \
         at once {at_once:.2?}\n"
    );
    println!(
        "| scenarios | whole run | one cold boot + the commands ÷ cores | ratio | the same, the commands as slow as when all cores are busy | ratio | per scenario | memory, descriptors, threads of the run: first half, second half | left behind |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---|---|");
    for size in sizes {
        let folder = tempfile::tempdir()?;
        let file = written(folder.path(), size)?;
        // Compiled and built, and nothing run.
        finished(nixvm_test(&file).env("NIXVM_SKIP", "1"))?;
        finished(Command::new(env!("CARGO_BIN_EXE_nixvm-test")).args(["cache", "prune"]))?;
        let left = left_behind();
        let begun = Instant::now();
        let halves = watched(&mut nixvm_test(&file))?;
        let took = begun.elapsed();
        let share =
            |command: Duration| boot + command * u32::try_from(size).unwrap_or(u32::MAX) / cores as u32;
        let (floor, real) = (share(command), share(at_once));
        println!(
            "| {size} | {took:.1?} | {floor:.1?} | {:.2} | {real:.1?} | {:.2} | {:.2?} | {}; {} | {} |",
            took.as_secs_f64() / floor.as_secs_f64(),
            took.as_secs_f64() / real.as_secs_f64(),
            took.saturating_sub(boot) / u32::try_from(size).unwrap_or(u32::MAX),
            halves[0],
            halves[1],
            left_behind().saturating_sub(left),
        );
    }
    Ok(())
}

/// What there is to compare with.
struct Cold {
    boot: Duration,
    /// In a machine alone.
    command: Duration,
    /// In as many machines as there are processors.
    at_once: Duration,
}

/// How long a boot with a login takes, and a scenario's command after it.
async fn cold(cores: usize) -> Result<Cold> {
    let vm = Builder::new().build(&Source::Configuration(configuration()), &Events::none()).await?;
    let begun = Instant::now();
    let machine = Machine::boot(&vm, MachineOptions::new("cold")).await?;
    let alice = machine.login("alice", "test").await?;
    let boot = begun.elapsed();
    alice.succeed(COMMAND).await?;
    let command = begun.elapsed() - boot;
    machine.stop().await;
    // Processors that share a core, or a host with others, do less at once than each alone.
    let mut users = Vec::new();
    for number in 0..cores {
        let machine = Machine::boot(&vm, MachineOptions::new(format!("cold{number}"))).await?;
        users.push((machine.login("alice", "test").await?, machine));
    }
    let mut running = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for (alice, machine) in users {
        running.spawn(async move { alice.succeed(COMMAND).await.map(|_| machine) });
    }
    let machines: nixvm_test::Result<Vec<Machine>> = running.join_all().await.into_iter().collect();
    let at_once = begun.elapsed();
    for machine in machines? {
        machine.stop().await;
    }
    Ok(Cold { boot, command, at_once })
}

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration.nix")
}

fn written(folder: &Path, size: usize) -> Result<PathBuf> {
    let mut text = "use nixvm_test::prelude::*;\n".to_owned();
    for number in 0..size {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "#[scenario]\nasync fn number_{number:03}(alice: Session) -> Result {{\n    \
             alice.succeed({COMMAND:?}).await.map(drop)\n}}"
        );
    }
    text.push_str("nixvm_test::main!();\n");
    let file = folder.join("suite.rs");
    std::fs::write(&file, text)?;
    Ok(file)
}

fn nixvm_test(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
    command.arg("--configuration").arg(configuration()).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn finished(command: &mut Command) -> Result {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(failed(status)) }
}

fn failed(status: std::process::ExitStatus) -> Box<dyn std::error::Error> {
    format!("nixvm-test failed: {status}").into()
}

/// Runs a suite to its end; what it holds at most in the first half of its time and in the second.
fn watched(command: &mut Command) -> Result<[Held; 2]> {
    let mut child = command.spawn()?;
    let mut seen = Vec::new();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => seen.push(Held::by(child.id())),
        }
        std::thread::sleep(LOOK);
    };
    if !status.success() {
        return Err(failed(status));
    }
    let (first, second) = seen.split_at(seen.len() / 2);
    Ok([first, second].map(|half| half.iter().fold(Held::default(), |most, one| most.or(*one))))
}

/// What the process of a run holds.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn by(process: u32) -> Self {
        let count =
            |folder: &str| std::fs::read_dir(format!("/proc/{process}/{folder}")).map_or(0, Iterator::count);
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib = rss.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self { kib, descriptors: count("fd"), threads: count("task") }
    }

    fn or(self, other: Self) -> Self {
        Self {
            kib: self.kib.max(other.kib),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MB, {}, {}", self.kib / 1000, self.descriptors, self.threads)
    }
}

/// How many processes called qemu there are, and files in folders of runs.
fn left_behind() -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let machines = processes.filter(|entry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("qemu-system"))
    });
    let user = rustix::process::getuid().as_raw();
    let files = std::fs::read_dir(format!("/var/tmp/nixvm-{user}")).map_or(0, Iterator::count);
    machines.count() + files
}
