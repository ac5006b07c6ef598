//! This test binary, started again: a process whose environment is a test's own, and that can be killed.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The words that run one of the ignored tests of this binary, and nothing else.
pub fn words(test: &str) -> [&str; 4] {
    ["--ignored", "--exact", test, "--nocapture"]
}

/// The command that runs one of the ignored tests of this binary.
pub fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words(test));
    command
}

/// Runs one of the ignored tests of this binary in a process of its own; it passes.
#[track_caller]
pub fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{out}{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// Says a line to the test that started this process.
pub fn say(text: impl std::fmt::Display) {
    println!("\n> {text}");
}

/// A process that says lines to the test.
pub struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn said(&mut self) -> impl Iterator<Item = String> {
        let lines = self.out.by_ref().lines().map(|line| line.unwrap());
        lines
            .filter_map(|line| line.strip_prefix("> ").map(str::to_owned))
            .inspect(|line| eprintln!("{line}"))
    }

    /// Waits until it says something that begins like this; the rest of it.
    #[track_caller]
    pub fn until(&mut self, beginning: &str) -> String {
        let found = self.said().find_map(|line| line.strip_prefix(beginning).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{beginning:?} was not said"))
    }

    /// Waits for its end; what it said since.
    #[track_caller]
    pub fn end(mut self) -> Vec<String> {
        let said: Vec<String> = self.said().collect();
        assert!(self.child.wait().unwrap().success(), "{said:#?}");
        said
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The number of times by which a soak does more: `NIXVM_TEST_SOAK`, which `./just test-long` sets.
fn soak() -> Option<usize> {
    std::env::var("NIXVM_TEST_SOAK").ok().and_then(|text| text.parse().ok())
}

/// How often something is done again and again: as often as given here, and many times that in a soak.
pub fn rounds(few: usize) -> usize {
    few * soak().unwrap_or(1)
}

/// How many lines begin like this.
pub fn count(said: &[String], what: &str) -> usize {
    said.iter().filter(|line| line.starts_with(what)).count()
}
