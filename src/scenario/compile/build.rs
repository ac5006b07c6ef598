//! Runs cargo on a scenario's package and makes something readable of what it says.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::Command;

use super::manifest::{self, Root};
use super::record::Record;
use super::workshop::Package;
use super::{Compiled, Compiler, complete, lock, source};
use crate::{Error, ErrorKind, Event, Events, Result};

/// Compiles `file`, unless another process just did.
pub(super) async fn run(compiler: &Compiler, file: &Path, events: &Events) -> Result<Compiled> {
    let Compiler { workshop, library, .. } = compiler;
    let text = source::text(file)?;
    let version = rustc_version().await?;
    if !workshop.is_made_for(&version) {
        let _alone = lock::exclusive(&workshop.lock_file(), events).await?;
        workshop.made_for(&version)?;
    }
    let compiling = lock::shared(&workshop.lock_file(), events).await?;
    let package = workshop.package(file);
    std::fs::create_dir_all(package.folder())
        .map_err(|source| Error::io(format_args!("make {}", package.folder().display()), &source))?;
    let _this_one = lock::exclusive(&package.lock_file(), events).await?;
    if let Some(binary) = package.fresh(library) {
        return Ok(Compiled { diagnostics: String::new(), binary: Ok(binary) });
    }

    let what = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if workshop.is_new() {
        events.note("compiling the library for scenarios: once, about a minute");
    }
    let started = Instant::now();
    events.send(Event::BuildStarted { what: what.clone() });
    let root = manifest::write(&package, library, file, &text)?;
    // What is there already first: it works without a network, and is faster.
    let mut cargo = Cargo::run(compiler, &package, &root, true, events).await?;
    if cargo.executable.is_none() && cargo.diagnostics.is_empty() {
        tracing::debug!(said = cargo.said, "not offline");
        cargo = Cargo::run(compiler, &package, &root, false, events).await?;
    }
    workshop.touch();
    let diagnostics = as_given(&cargo.diagnostics, file);
    let binary = match cargo.executable.take() {
        Some(binary) if cargo.status.success() => {
            complete::check(file, &binary, &package.files_read(&binary)).await?;
            package.record(&Record::of(file, &text, &binary, library, &package))?;
            events.send(Event::BuildFinished { what, result: binary.clone(), took: started.elapsed() });
            Ok(binary)
        }
        _ => Err(cargo.failure(&what)),
    };
    drop(compiling);
    if let Some(_alone) = lock::try_exclusive(&workshop.lock_file()) {
        workshop.prune();
    }
    Ok(Compiled { diagnostics, binary })
}

/// What cargo made and said.
struct Cargo {
    executable: Option<PathBuf>,
    /// The compiler's messages.
    diagnostics: String,
    /// cargo's own.
    said: String,
    status: ExitStatus,
}

/// cargo's own process group, ended with all in it when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // cargo itself was not waited for, so the number is still its own.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

/// A line of cargo's `--message-format=json`.
#[derive(Deserialize)]
struct Line {
    reason: String,
    executable: Option<PathBuf>,
    package_id: Option<String>,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
}

impl Cargo {
    async fn run(
        compiler: &Compiler,
        package: &Package,
        root: &Root,
        offline: bool,
        events: &Events,
    ) -> Result<Self> {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        let format = if compiler.colour { "json-diagnostic-rendered-ansi" } else { "json" };
        command
            .args(["rustc", "--message-format", format, "--bin", package.name()])
            .arg("--manifest-path")
            .arg(package.manifest())
            .arg("--target-dir")
            .arg(compiler.workshop.target())
            .args(offline.then_some("--offline"))
            // Here no toolchain file or cargo settings of the user's folder apply, which would make the
            // shared library be compiled again for each.
            .current_dir(package.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some((copied, shown)) = &root.shown_as {
            // The compiler is told of files in the package's own folder by their relative paths.
            let relative = copied.strip_prefix(package.folder()).unwrap_or(copied);
            command.arg("--");
            for copied in [copied, relative] {
                command.arg(format!("--remap-path-prefix={}={}", copied.display(), shown.display()));
            }
        }
        if compiler.own_group {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|source| no_cargo(&source))?;
        let mut group = Group(child.id().filter(|_| compiler.own_group));
        let mut cargo = Self {
            executable: None,
            diagnostics: String::new(),
            said: String::new(),
            status: ExitStatus::default(),
        };
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

    /// A line of JSON from cargo.
    fn take(&mut self, line: &str, package: &Package) {
        let Ok(line) = serde_json::from_str::<Line>(line) else { return };
        let ours = line.package_id.is_some_and(|id| id.contains(package.name()));
        match (line.reason.as_str(), line.message) {
            ("compiler-artifact", _) if ours => self.executable = line.executable,
            ("compiler-message", Some(message)) if ours || message.level.starts_with("error") => {
                self.diagnostics.push_str(&message.rendered.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// A line of cargo for people: progress, or why it can't begin.
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

    fn failure(self, what: &str) -> Error {
        use std::os::unix::process::ExitStatusExt as _;
        if let Some(signal) = self.status.signal() {
            return Error::new(ErrorKind::Build, format!("compiling {what} was ended by signal {signal}"));
        }
        if self.diagnostics.contains("linker `cc` not found") {
            return Error::new(
                ErrorKind::Host,
                format!("{what} can't be linked: the host has no linker (cc)"),
            )
            .next_step("install one: apt-get install gcc");
        }
        let error = Error::new(ErrorKind::Build, format!("{what} does not compile"));
        // The compiler has said why; otherwise cargo has.
        if self.diagnostics.is_empty() { error.section("cargo", self.said) } else { error }
    }
}

/// The compiler's messages with paths as the user has them: without the folder they are in.
fn as_given(diagnostics: &str, file: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if file.starts_with(&here) => diagnostics.replace(&format!("{}/", here.display()), ""),
        _ => diagnostics.to_owned(),
    }
}

async fn rustc_version() -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("-vV").output().await.map_err(|source| no_cargo(&source))?;
    Ok(format!("{}nixvm-test {}\n", String::from_utf8_lossy(&output.stdout), env!("CARGO_PKG_VERSION")))
}

fn no_cargo(source: &std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Host, "no Rust compiler here: `cargo` is not on the PATH")
                .likely_cause("a scenario is Rust, and is compiled before it runs")
                .next_step("install Rust: https://rustup.rs")
        }
        _ => Error::io("run cargo", source),
    }
}

type Stream<T> = Option<Lines<BufReader<T>>>;

fn lines<T: AsyncRead>(pipe: Option<T>) -> Stream<T> {
    pipe.map(|pipe| BufReader::new(pipe).lines())
}

/// The next line, or `None` at the end (or at an error, which is an end too).
async fn next<T: AsyncRead + Unpin>(stream: &mut Stream<T>) -> Option<String> {
    let line = stream.as_mut()?.next_line().await.ok().flatten();
    if line.is_none() {
        *stream = None;
    }
    line
}
