//! Runs cargo and parses its output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::Command;

use crate::{Error, ErrorKind, Event, Events, Result, environment};

/// One call of cargo.
#[derive(Debug)]
pub(super) struct Call {
    command: Command,
    own_group: bool,
}

/// The artifacts and messages of cargo.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    /// All artifacts, including those that were up to date.
    pub artifacts: Vec<Artifact>,
    /// The compiler's messages.
    pub diagnostics: String,
    /// cargo's own messages.
    pub said: String,
    pub status: ExitStatus,
}

/// An artifact of a package.
#[derive(Debug)]
pub(super) struct Artifact {
    /// The manifest of its package.
    pub manifest: PathBuf,
    pub package: String,
    pub executable: Option<PathBuf>,
    pub files: Vec<PathBuf>,
}

/// A line of cargo's `--message-format=json`.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    package_id: Option<String>,
    #[serde(default)]
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
}

/// cargo's process group. On drop, all its processes are killed.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // cargo was not waited for yet, so its pid was not reused.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

impl Call {
    /// Creates `cargo SUBCOMMAND` for the package in `manifest`, run in `folder`, whose toolchain and settings apply.
    pub fn new(subcommand: &str, manifest: &Path, folder: &Path) -> Self {
        let program = environment::variable("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command
            .arg(subcommand)
            .arg("--manifest-path")
            .arg(manifest)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self { command, own_group: false }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets the target directory. This overrides the user's settings, which may name a folder that is shared with other
    /// programs.
    pub fn target(mut self, target: &Path) -> Self {
        self.command.arg("--target-dir").arg(target).env("CARGO_BUILD_BUILD_DIR", target);
        self
    }

    /// Sets whether the compiler's messages are coloured.
    pub fn colour(self, colour: bool) -> Self {
        self.args(["--message-format", if colour { "json-diagnostic-rendered-ansi" } else { "json" }])
    }

    /// Ends cargo with all its descendants when the run is dropped.
    pub fn own_group(mut self, own_group: bool) -> Self {
        if own_group {
            self.command.process_group(0);
        }
        self.own_group = own_group;
        self
    }

    /// Runs cargo to its end. Reports to `events` what is compiled and downloaded. Keeps only the warnings of
    /// `package`.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] if there is no cargo, [`ErrorKind::Io`] if it can't be run or waited for.
    pub async fn run(mut self, package: &str, events: &Events) -> Result<Cargo> {
        let mut child = self.command.spawn().map_err(|source| no_cargo(&source))?;
        let mut group = Group(child.id().filter(|_| self.own_group));
        let mut cargo = Cargo::default();
        let (mut out, mut err) = (lines(child.stdout.take()), lines(child.stderr.take()));
        loop {
            tokio::select! {
                Some(line) = next(&mut out) => cargo.take(&line, package),
                Some(line) = next(&mut err) => cargo.hear(&line, events),
                else => break,
            }
        }
        cargo.status = child.wait().await.map_err(|source| Error::io("wait for cargo", &source))?;
        group.0 = None;
        Ok(cargo)
    }
}

impl Cargo {
    /// Returns the program that `package` was compiled to.
    pub fn executable(&self, package: &str) -> Option<&Path> {
        let mut made = self.artifacts.iter().filter(|artifact| artifact.package.contains(package));
        made.find_map(|artifact| artifact.executable.as_deref())
    }

    /// Parses a line of cargo's JSON output.
    fn take(&mut self, line: &str, package: &str) {
        let Ok(line) = serde_json::from_str::<CargoMessage>(line) else { return };
        let of = line.package_id.unwrap_or_default();
        match (line.reason.as_str(), line.message) {
            ("compiler-artifact", _) => {
                self.artifacts.push(Artifact {
                    manifest: line.manifest_path,
                    package: of,
                    executable: line.executable,
                    files: line.filenames,
                });
            }
            ("compiler-message", Some(message))
                if of.contains(package) || message.level.starts_with("error") =>
            {
                self.diagnostics.push_str(&message.rendered.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Parses a line of cargo's text output: progress, or the reason why it can't begin.
    fn hear(&mut self, line: &str, events: &Events) {
        if let Some(name) = line.trim_start().strip_prefix("Compiling ") {
            let name = name.split(" (").next().unwrap_or(name);
            events.send(Event::BuildLine { text: format!("compiling {name}") });
        } else if line.contains("Downloading") || line.contains("Updating") || line.contains("Blocking") {
            events.send(Event::BuildLine { text: line.trim().to_owned() });
        }
        self.said.push_str(line);
        self.said.push('\n');
    }

    /// Returns the error for a missing binary of `what`.
    pub fn failure(self, what: &str) -> Error {
        use std::os::unix::process::ExitStatusExt as _;
        if let Some(signal) = self.status.signal() {
            return Error::new(ErrorKind::Build, format!("compiling {what} was ended by signal {signal}"))
                .because_of_words(&self.said);
        }
        if self.diagnostics.contains("linker `cc` not found") {
            return Error::new(
                ErrorKind::Host,
                format!("{what} can't be linked: the host has no linker (cc)"),
            )
            .next_step("install one: apt-get install gcc");
        }
        let error = Error::new(ErrorKind::Build, format!("{what} does not compile"));
        // The compiler's messages give the reason; otherwise cargo's do.
        let error = error.because_of_words(&format!("{}\n{}", self.diagnostics, self.said));
        if self.diagnostics.is_empty() { error.section("cargo", self.said) } else { error }
    }
}

/// Returns the compiler's version text and this program's version, which together decide whether compiled crates can be
/// used. The compiler is called in `folder`, where cargo runs, since a toolchain file there selects the compiler.
///
/// # Errors
/// Those of [`Call::run`], and [`ErrorKind::Host`] when the compiler does not print its version.
pub(super) async fn compiler_version(folder: &Path) -> Result<String> {
    let program = environment::variable("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&program).arg("-vV").current_dir(folder).stdin(Stdio::null()).output().await;
    let output = output.map_err(|source| no_cargo(&source))?;
    let says = output.stdout.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"release: "));
    if !output.status.success() || !says {
        let summary = format!("`{} -vV` does not say which compiler it is", program.to_string_lossy());
        let said = [output.stdout, output.stderr].concat();
        return Err(Error::new(ErrorKind::Host, summary)
            .section("it ended with", output.status.to_string())
            .section("what it said", String::from_utf8_lossy(&said))
            .next_step("look at the toolchain of Rust: `rustup show`, `rustc -vV`")
            .because_of_words(&String::from_utf8_lossy(&said)));
    }
    Ok(format!("{}nixvm-test {}\n", String::from_utf8_lossy(&output.stdout), env!("CARGO_PKG_VERSION")))
}

fn no_cargo(source: &std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Host, "no Rust compiler here: `cargo` is not on the PATH")
                .likely_cause("a scenario is Rust, and is compiled before it runs")
                .next_step("install Rust: https://rustup.rs")
        }
        _ => Error::io("run cargo", source).because_of_a_limit(source),
    }
}

type Stream<T> = Option<Lines<BufReader<T>>>;

fn lines<T: AsyncRead>(pipe: Option<T>) -> Stream<T> {
    pipe.map(|pipe| BufReader::new(pipe).lines())
}

/// Returns the next line, or `None` at the end or after an error.
async fn next<T: AsyncRead + Unpin>(stream: &mut Stream<T>) -> Option<String> {
    let line = stream.as_mut()?.next_line().await.ok().flatten();
    if line.is_none() {
        *stream = None;
    }
    line
}
