//! `nixvm-test FILE.rs… | DIR`: compiles the files and runs the scenarios in them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::presence::is_known_absent;
use crate::qemu::accelerator;
use crate::record::{Folder, RUN};
use crate::scenario::Exit;
use crate::scenario::compile::{self, Compiler};
use crate::settings::Settings;
use crate::{Error, ErrorKind, Result, nearest, report};
use clap::{CommandFactory as _, Parser as _};
use libtest_mimic::Arguments;

use super::child::{Child, Signals, exit_of, not_started};
use super::described;
use super::options::Options;

/// Compiles all files first, so that compiler errors come before anything boots, then runs them one after the other.
pub async fn run(paths: &[PathBuf], harness: &[OsString], options: &Options) -> Result<ExitCode> {
    let files = files(paths)?;
    // Report an invalid setting before compiling, which takes time.
    let settings = options.layers_of(files.first().and_then(|file| file.parent()))?.settings();
    let lists = harness.iter().any(|argument| argument == "--list");
    if settings.against.is_none() && !lists {
        accelerator::check_environment()?;
    }
    let named = |folder: &PathBuf| {
        paths.iter().any(|path| std::path::absolute(path).is_ok_and(|path| path == *folder))
    };
    let below = paths.iter().filter_map(|path| std::path::absolute(path).ok()).filter(|path| path.is_dir());
    for folder in below.flat_map(|path| compile::left_out_below(&path)).filter(|folder| !named(folder)) {
        let note = format!("the scenarios in {0} are not run: name that folder, too", from_here(&folder));
        crate::Events::to(&report::choose(&settings)).note(note);
    }
    let binaries = compile(&files, &compiler()?, options).await?;
    if !lists {
        check_filter(&files, &binaries, harness, options).await?;
    }
    let commands = files.iter().zip(&binaries).map(|(file, binary)| command(file, binary, harness, options));
    match commands.collect::<Result<Vec<_>>>()?.as_mut_slice() {
        // Replaces this process, so that no process is between the scenario and its caller.
        [only] => Err(not_started(&only.exec())),
        several => in_turn(several, &settings).await,
    }
}

/// Checks that a filter names a scenario of at least one file. Each file by itself may have none.
///
/// # Errors
/// [`ErrorKind::Usage`] when no scenario has such a name: a run of nothing would pass.
async fn check_filter(
    files: &[PathBuf],
    binaries: &[PathBuf],
    harness: &[OsString],
    options: &Options,
) -> Result {
    let arguments = std::iter::once(OsString::from("nixvm-test")).chain(harness.iter().cloned());
    // The binaries report wrong arguments.
    let Ok(Arguments { filter: Some(filter), exact, .. }) = Arguments::try_parse_from(arguments) else {
        return Ok(());
    };
    let mut names = Vec::new();
    for (file, binary) in files.iter().zip(binaries) {
        // A binary that can't be asked reports its own error when it runs.
        let Ok(scenarios) = described::scenarios(command(file, binary, &[], options)?, file).await else {
            return Ok(());
        };
        names.extend(scenarios.iter().filter_map(|scenario| Some(scenario["name"].as_str()?.to_owned())));
    }
    if names.iter().any(|name| if exact { *name == filter } else { name.contains(&filter) }) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Usage, format!("no scenario matches the filter `{filter}`"));
    let error = match nearest(&filter, names.iter().map(String::as_str)) {
        Some(near) => error.next_step(format!("did you mean `{near}`?")),
        None => error.next_step("name a part of a scenario's name: `nixvm-test list` shows them"),
    };
    Err(error.section("scenarios", names.join("\n")))
}

/// Returns the scenario files.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if is_word(path) && is_known_absent(path) {
            return Err(neither(&path.display().to_string()));
        }
        files.extend(compile::files(path)?);
    }
    // A file that is named twice, or beside its folder, runs once.
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(files)
}

/// Returns whether the path may be a mistyped subcommand.
fn is_word(path: &Path) -> bool {
    path.components().count() == 1 && path.extension().is_none()
}

/// Returns the error for a word that is neither a file nor a subcommand.
fn neither(word: &str) -> Error {
    let command = super::Cli::command();
    let subcommands = command.get_subcommands().map(clap::Command::get_name);
    let next = match nearest(word, subcommands) {
        Some(near) => format!("did you mean `nixvm-test {near}`?"),
        None => "name a scenario's file, a folder of them, or a subcommand: `nixvm-test --help` lists them"
            .to_owned(),
    };
    let summary = format!("there is no file or folder `{word}`, and no such subcommand");
    Error::new(ErrorKind::Usage, summary).next_step(next)
}

/// Returns a path as the user would write it: relative if it is below the current folder.
pub fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Returns a compiler whose messages suit the place where they are shown.
pub fn compiler() -> Result<Compiler> {
    Compiler::new(report::in_colour(&std::io::stderr()))
}

/// Returns the command that runs the binary of a scenario file.
pub fn command(file: &Path, binary: &Path, harness: &[OsString], options: &Options) -> Result<Command> {
    let mut command = Command::new(binary);
    command.args(harness).envs(options.variables(file.parent())?);
    Ok(command)
}

/// Compiles all files and returns their binaries in the same order. Shows the compiler's messages.
pub async fn compile(files: &[PathBuf], compiler: &Compiler, options: &Options) -> Result<Vec<PathBuf>> {
    let reporter = report::choose(&options.settings()?);
    let events = crate::Events::to(&reporter);
    let mut binaries = Vec::new();
    let mut failure = None;
    for file in files {
        if let Some(binary) = compiler.fresh(file) {
            binaries.push(binary);
            continue;
        }
        let compiled = compiler.compile(file, &events).await;
        reporter.finish();
        report::diagnostics(&compiled.diagnostics);
        match compiled.binary {
            Ok(binary) => binaries.push(binary),
            // Compile errors of all files are shown together. Any other error stops at once.
            Err(error) if error.kind() == ErrorKind::Build && failure.is_none() => failure = Some(error),
            Err(error) if error.kind() == ErrorKind::Build => report::error(&error),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(binaries), Err)
}

/// Makes all commands write to one record, which stays locked as long as the returned value lives. Otherwise each has
/// its own record, and prints a note if it can't create one.
pub fn in_one_record(commands: &mut [Command], settings: &Settings) -> Option<Folder> {
    let lists = commands.iter().any(|command| command.get_args().any(|argument| argument == "--list"));
    // A replay has no record.
    if commands.len() < 2 || lists || settings.against.is_some() {
        return None;
    }
    let record = Folder::begin().ok()?;
    for command in commands {
        command.env(RUN, record.path());
    }
    Some(record)
}

/// Runs each command and returns the combined exit code. They share the time limit of the run, if it has one.
async fn in_turn(commands: &mut [Command], settings: &Settings) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    let mut exits = Vec::new();
    let count = commands.len();
    let _record = in_one_record(commands, settings);
    for (number, command) in commands.iter_mut().enumerate() {
        if let Some(limit) = settings.run_limit {
            let rest = limit.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                crate::Events::to(&report::choose(settings)).note(format!(
                    "no time is left for {} of {count} files: they are not run",
                    count - number
                ));
                exits.push(Exit::Failed);
                break;
            }
            command.env("NIXVM_RUN_TIMEOUT", rest.as_millis().div_ceil(1000).to_string());
        }
        let mut child = Child::start(std::mem::replace(command, Command::new("")))?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                signal = signals.next() => child.pass_on(signal),
            }
        };
        match exit_of(status) {
            Ok(exit) => exits.push(exit),
            // A signal ended it, so the remaining ones do not run either.
            Err(code) => return Ok(code),
        }
        let rest = count - number - 1;
        if settings.fail_fast && rest > 0 && exits.iter().any(|exit| *exit != Exit::Passed) {
            crate::Events::to(&report::choose(settings))
                .note(format!("a scenario failed: {rest} of {count} files are not run"));
            break;
        }
    }
    Ok(Exit::of_all(exits).into())
}
