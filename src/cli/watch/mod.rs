//! `nixvm-test --watch FILE.rs…`: runs the scenarios again whenever they or their configuration are saved.

mod configuration;
mod folders;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::qemu::accelerator;
use crate::scenario::compile::Compiler;
use crate::scenario::{Exit, TELL_SOURCES};
use crate::{Error, ErrorKind, Result, report};
use rustix::process::Signal;

use super::child::{Child, Signals, exit_of};
use super::options::Options;
use super::run;
use folders::Folders;

/// Time limit for a run to end after it was told to. It usually takes milliseconds.
const ENDING: Duration = Duration::from_secs(10);

/// Runs the scenarios of `paths` now and after every save, until a signal ends it.
pub async fn watch(paths: &[PathBuf], harness: &[OsString], options: &Options) -> Result<ExitCode> {
    accelerator::check_environment()?;
    let folders = Folders::new().map_err(|source| failed(&source))?;
    let signals = Signals::listen()?;
    let compiler = run::compiler()?.ended_with_us();
    let mut watch = Watch { paths, harness, options, compiler, folders, signals, suites: BTreeMap::new() };
    // A wrong name on the command line is an error at once; waiting would not help.
    let mut due: BTreeSet<PathBuf> = run::files(paths)?.into_iter().collect();
    let mut saved = Instant::now();
    let mut next = watch.round(&due).await?;
    loop {
        next = match next {
            Next::Over(outcome) => {
                due.clear();
                let (took, watched) = (saved.elapsed().as_secs_f64(), watch.folders.count());
                report::separator(&format!(
                    "{outcome} after {took:.1} s; watching {watched} files (ctrl-C ends)"
                ));
                watch.change().await?
            }
            Next::Changed(changed) => {
                saved = Instant::now();
                // Interrupted suites must still run.
                due.extend(watch.due(&changed));
                if due.is_empty() {
                    watch.change().await?
                } else {
                    report::separator(&format!("{} changed", listed(&changed)));
                    watch.round(&due).await?
                }
            }
            Next::Signal(signal) => return Ok(code(signal)),
        };
    }
}

/// The files that a suite depends on.
#[derive(Default)]
struct Suite {
    inputs: BTreeSet<PathBuf>,
    /// It did not compile, so the cause may be in any file beside it.
    broken: bool,
}

struct Watch<'a> {
    paths: &'a [PathBuf],
    harness: &'a [OsString],
    options: &'a Options,
    compiler: Compiler,
    folders: Folders,
    signals: Signals,
    suites: BTreeMap<PathBuf, Suite>,
}

/// The next event.
enum Next {
    /// A round has ended, with its result in words.
    Over(String),
    /// These files were saved.
    Changed(BTreeSet<PathBuf>),
    /// This process received a signal, and nothing runs any more.
    Signal(Signal),
}

impl Watch<'_> {
    /// Compiles and runs these files.
    async fn round(&mut self, files: &BTreeSet<PathBuf>) -> Result<Next> {
        let begun = SystemTime::now();
        for file in files {
            self.suites.entry(file.clone()).or_default().inputs.insert(file.clone());
        }
        self.want(begun)?;
        let files: Vec<PathBuf> = files.iter().cloned().collect();
        // A save waits until the compiler is done, which takes a second.
        let compiled = tokio::select! {
            compiled = run::compile(&files, &self.compiler, self.options) => compiled,
            signal = self.signals.next() => return Ok(Next::Signal(signal)),
        };
        let binaries = match compiled {
            Ok(binaries) => binaries,
            Err(error) => {
                report::error(&error);
                for file in &files {
                    self.suites.entry(file.clone()).or_default().broken = true;
                }
                return Ok(Next::Over("nothing was run".to_owned()));
            }
        };
        for (file, binary) in files.iter().zip(&binaries) {
            let inputs = self.inputs(file, binary).await;
            self.suites.insert(file.clone(), Suite { inputs, broken: false });
        }
        self.want(begun)?;
        let commands = files
            .iter()
            .zip(&binaries)
            .map(|(file, binary)| run::command(file, binary, self.harness, self.options));
        let mut commands: Vec<_> = match commands.collect::<Result<_>>() {
            Ok(commands) => commands,
            Err(error) => {
                report::error(&error);
                return Ok(Next::Over("nothing was run".to_owned()));
            }
        };
        // All suites that run after one save are one run, as without --watch.
        let settings = self.options.settings().unwrap_or_default();
        let _record = run::in_one_record(&mut commands, &settings);
        let mut exits = Vec::new();
        for command in commands {
            let mut child = Child::start(command)?;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    signal = self.signals.next() => {
                        child.pass_on(signal);
                        self.ended(&mut child).await;
                        return Ok(Next::Signal(signal));
                    }
                    changed = self.folders.changed() => {
                        let changed = changed.map_err(|source| failed(&source))?;
                        if self.due(&changed).is_empty() {
                            continue;
                        }
                        child.tell(Signal::TERM);
                        self.ended(&mut child).await;
                        return Ok(Next::Changed(changed));
                    }
                }
            };
            match exit_of(status) {
                Ok(exit) => exits.push(exit),
                Err(_) => return Ok(Next::Over(format!("ended by a signal ({status})"))),
            }
        }
        Ok(Next::Over(match Exit::of_all(exits) {
            Exit::Passed => "passed".to_owned(),
            failed => format!("failed (exit code {})", failed.code()),
        }))
    }

    /// Waits for a run that was told to end.
    async fn ended(&mut self, child: &mut Child) {
        tokio::select! {
            _ = child.wait() => {}
            // Its machines end with it, even after SIGKILL.
            _ = self.signals.next() => child.tell(Signal::KILL),
            () = tokio::time::sleep(ENDING) => child.tell(Signal::KILL),
        }
        let _ = child.wait().await;
    }

    /// Waits for a save.
    async fn change(&mut self) -> Result<Next> {
        tokio::select! {
            changed = self.folders.changed() => changed.map(Next::Changed).map_err(|source| failed(&source)),
            signal = self.signals.next() => Ok(Next::Signal(signal)),
        }
    }

    /// Returns all files that a suite depends on: its sources, and the configurations of its machines.
    async fn inputs(&self, file: &Path, binary: &Path) -> BTreeSet<PathBuf> {
        let mut inputs: BTreeSet<PathBuf> = self.compiler.inputs(file).into_iter().collect();
        inputs.insert(file.to_owned());
        inputs.extend(self.options.file_for(file.parent()));
        let mut told = Vec::new();
        // Invalid settings are reported when the run starts.
        if let Ok(command) = run::command(file, binary, &[], self.options) {
            let mut command = tokio::process::Command::from(command);
            command.env(TELL_SOURCES, "1").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            told = command.output().await.map(|output| output.stdout).unwrap_or_default();
        }
        for source in String::from_utf8_lossy(&told).lines() {
            inputs.extend(configuration::files(Path::new(source)));
        }
        // A link may change, and so may its target.
        let behind: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
        inputs.extend(behind);
        inputs
    }

    /// Watches all dependencies of all files, and the folders of scenarios.
    fn want(&mut self, since: SystemTime) -> Result {
        let mut all: BTreeSet<PathBuf> = BTreeSet::new();
        for (file, suite) in &self.suites {
            all.extend(suite.inputs.iter().cloned());
            all.extend(file.parent().filter(|_| suite.broken).map(Path::to_owned));
        }
        let given = self.paths.iter().filter_map(|path| std::path::absolute(path).ok());
        all.extend(given.filter(|path| path.is_dir()));
        self.folders.want(all, since).map_err(|source| failed(&source))
    }

    /// Returns the files whose scenarios must run after this change.
    fn due(&mut self, changed: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        // While a file is missing, the old list stays valid.
        if let Ok(files) = run::files(self.paths) {
            self.suites.retain(|file, _| files.contains(file));
            for file in files {
                self.suites.entry(file).or_default();
            }
        }
        let code = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "rs");
        let is_due = |file: &Path, suite: &Suite| {
            let touches = |input: &PathBuf| changed.iter().any(|path| input.starts_with(path));
            let inside =
                changed.iter().any(|path| path.parent().is_some_and(|in_it| suite.inputs.contains(in_it)));
            let beside = || changed.iter().filter(code).any(|path| path.parent() == file.parent());
            suite.inputs.is_empty()
                || suite.inputs.iter().any(touches)
                || inside
                || (suite.broken && beside())
        };
        let due = self.suites.iter().filter(|(file, suite)| is_due(file, suite));
        due.map(|(file, _)| file.clone()).collect()
    }
}

/// Returns the exit code of a run that a signal ended.
fn code(signal: Signal) -> ExitCode {
    ExitCode::from(128 + u8::try_from(signal.as_raw()).unwrap_or_default())
}

/// Formats paths as the user would write them.
fn listed(paths: &BTreeSet<PathBuf>) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| run::from_here(path)).collect();
    let mut text = shown.join(", ");
    if paths.len() > SHOWN {
        text.push_str(&format!(" and {} more", paths.len() - SHOWN));
    }
    text
}

fn failed(source: &std::io::Error) -> Error {
    use rustix::io::Errno;
    // inotify(7) explains these errors. They are about other limits than those of open files and of disks.
    let (errno, cause, next) = match Errno::from_io_error(source) {
        Some(errno @ Errno::NOSPC) => (
            errno,
            "this user has reached the limit of watched files, fs.inotify.max_user_watches",
            "sysctl fs.inotify.max_user_watches=524288",
        ),
        Some(errno @ Errno::MFILE) => (
            errno,
            "this user has reached the limit of programs that watch files, fs.inotify.max_user_instances",
            "sysctl fs.inotify.max_user_instances=512",
        ),
        _ => return Error::io("watch files", source),
    };
    Error::new(ErrorKind::Host, format!("could not watch files: {source}"))
        .caused_by(std::io::Error::from(errno))
        .likely_cause(cause)
        .next_step(format!("end a program that watches files, or raise the limit: {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_watches_no_more_is_no_full_disk() {
        let text = failed(&std::io::Error::from(rustix::io::Errno::NOSPC)).to_string();
        assert!(text.contains("next: ") && text.contains("max_user_watches"), "{text}");
        let text = failed(&std::io::Error::from(rustix::io::Errno::MFILE)).to_string();
        assert!(text.contains("next: ") && text.contains("max_user_instances"), "{text}");
    }
}
