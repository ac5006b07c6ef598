//! The loop of one who writes a scenario, on the real VM with a warm template: how soon a machine starts after the
//! command, unchanged and after an edit, and how soon the result is there after a save under `--watch`.
//!
//! ```text
//! cargo bench --bench iterate                   # about a minute, and what compiling the library takes
//! cargo bench --bench iterate -- --rounds 20
//! ```

use std::io::{BufRead as _, BufReader, Result};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A scenario as small as one can be that does something.
const SCENARIO: &str = r#"use nixvm_test::prelude::*;

/// alice's shell answers.
#[scenario]
async fn answers(alice: Session) -> Result {
    let said = alice.succeed("echo round 0").await?;
    assert_eq!(said.text(), "round 0\n");
    Ok(())
}

nixvm_test::main!();
"#;

/// What is said when QEMU was started.
const STARTED: &str = "(QEMU is process ";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--rounds");
    let rounds: usize =
        given.and_then(|at| arguments.get(at + 1)).and_then(|count| count.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("answers.rs");
    let save = |round: usize| std::fs::write(&file, SCENARIO.replace("round 0", &format!("round {round}")));

    save(0)?;
    eprintln!("compiling the library for scenarios, and making the template, if they are not there");
    run(&file)?;

    let (mut same, mut edited, mut watched) = (Times::default(), Times::default(), Vec::new());
    for _ in 0..rounds {
        same.add(run(&file)?);
    }
    for round in 1..=rounds {
        save(round)?;
        edited.add(run(&file)?);
    }
    let mut watching = command(&file).arg("--watch").spawn()?;
    let mut said = Said::of(&mut watching);
    said.until("watching")?;
    for round in 1..=rounds {
        let saved = Instant::now();
        save(rounds + round)?;
        said.until("──── passed")?;
        watched.push(saved.elapsed());
    }
    watching.kill()?;
    watching.wait()?;

    println!("\n| median of {rounds} (slowest) | to the machine's start | to the result |\n|---|---:|---:|");
    println!("| unchanged | {} | {} |", shown(&same.started), shown(&same.ended));
    println!("| one line edited | {} | {} |", shown(&edited.started), shown(&edited.ended));
    println!("| saved, under --watch | | {} |", shown(&watched));
    Ok(())
}

#[derive(Default)]
struct Times {
    started: Vec<Duration>,
    ended: Vec<Duration>,
}

impl Times {
    fn add(&mut self, (started, ended): (Duration, Duration)) {
        self.started.push(started);
        self.ended.push(ended);
    }
}

fn command(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration.nix");
    command.arg("--configuration").arg(configuration).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the file; how long it took until the machine was started, and in all.
fn run(file: &Path) -> Result<(Duration, Duration)> {
    let begun = Instant::now();
    let mut process = command(file).spawn()?;
    let mut said = Said::of(&mut process);
    said.until(STARTED)?;
    let started = begun.elapsed();
    said.rest()?;
    let passed = process.wait()?.success();
    if passed { Ok((started, begun.elapsed())) } else { Err(std::io::Error::other("the scenario failed")) }
}

/// What a process says, line by line.
struct Said(Box<dyn Iterator<Item = Result<String>>>);

impl Said {
    fn of(process: &mut Child) -> Self {
        match process.stderr.take() {
            Some(pipe) => Self(Box::new(BufReader::new(pipe).lines())),
            None => Self(Box::new(std::iter::empty())),
        }
    }

    /// Reads up to the first line with `text` in it.
    fn until(&mut self, text: &str) -> Result<()> {
        for line in &mut self.0 {
            if line?.contains(text) {
                return Ok(());
            }
        }
        Err(std::io::Error::other(format!("it ended without a word of {text:?}")))
    }

    fn rest(&mut self) -> Result<()> {
        self.0.try_for_each(|line| line.map(drop))
    }
}

/// The median, and the most.
fn shown(all: &[Duration]) -> String {
    let mut sorted = all.to_vec();
    sorted.sort();
    let of = |at: usize| sorted.get(at).copied().unwrap_or_default().as_secs_f64();
    let (median, most) = (of(sorted.len() / 2), of(sorted.len().saturating_sub(1)));
    if most < 1.0 {
        format!("{:.0} ms ({:.0})", median * 1000.0, most * 1000.0)
    } else {
        format!("{median:.2} s ({most:.2})")
    }
}
