//! `nixvm-test editor`: writes a package beside scenario files, for rust-analyzer.

use std::fs;
use std::io::{ErrorKind as Io, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::scenario::compile::{self, EDITOR_MARK, EditorPackage};
use crate::{Error, ErrorKind, Result, environment, report};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  nixvm-test editor                       for the files in ./scenarios, or else in this folder
  nixvm-test editor scenarios/web.rs      for this file, beside those that the package has already

Run it again after adding a file. It changes no file but those that it wrote itself.";

/// For which files.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Editor {
    /// A file of scenarios, or a folder of such files
    #[arg(value_name = "DIR|FILE.rs")]
    path: Option<PathBuf>,
}

impl Editor {
    /// Writes the package, and prints how an editor finds it.
    pub async fn run(&self) -> Result<ExitCode> {
        let here = if Path::new("scenarios").is_dir() { "scenarios" } else { "." };
        let path = self.path.clone().unwrap_or_else(|| here.into());
        let mut files = compile::files(&path)?;
        let folder = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("/")).to_owned();
        let manifest = folder.join("Cargo.toml");
        let there = text_of(&manifest)?;
        match &there {
            Some(text) if text.starts_with(EDITOR_MARK) && path.is_file() => {
                let before = compile::files_of_editor_package(text).into_iter().map(|name| folder.join(name));
                files.extend(before.filter(|file| file.is_file()));
                files.sort();
                files.dedup();
            }
            Some(text) if text.starts_with(EDITOR_MARK) => {}
            Some(text) => return foreign(&manifest, text),
            None if folder.join("Cargo.lock").symlink_metadata().is_ok() => {
                return Err(foreign_lock(&folder.join("Cargo.lock")));
            }
            None => {}
        }
        let package = compile::editor_package(&files)?;
        let mut said = write(&folder, &package, there.is_some(), files.len())?;
        compile::check_editor_package(&manifest).await?;
        for conflict in &package.conflicts {
            said.push_str(&format!(
                "The editor sees another version of {}: two files want different ones.\n",
                report::printable(conflict)
            ));
        }
        said.push_str(&next(&folder));
        if let Some(lacks) = lacks_sources(&folder) {
            said.push_str(&lacks);
        }
        report::show(&said);
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the result for a manifest that belongs to the user.
fn foreign(manifest: &Path, text: &str) -> Result<ExitCode> {
    if text.contains("nixvm-test") {
        report::show(&format!(
            "{} has nixvm-test already, and was not changed: rust-analyzer knows the files of its targets.\n",
            shown(manifest)
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let summary = format!("{} was not written by `nixvm-test editor`, and was not changed", shown(manifest));
    Err(Error::new(ErrorKind::Usage, summary).next_step(
        "move the scenarios to a folder of their own, or make them tests of this package: `nixvm-test init` says how",
    ))
}

/// A file of versions that belongs to no package of this command's.
fn foreign_lock(lock: &Path) -> Error {
    let summary = format!(
        "{} is there without a Cargo.toml of `nixvm-test editor`, and was not changed",
        report::printable(&shown(lock))
    );
    Error::new(ErrorKind::Usage, summary)
        .next_step("move it away if it is not needed, or move the scenarios to a folder of their own")
}

fn text_of(path: &Path) -> Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() == Io::NotFound => return Ok(None),
        // The target of a link does not belong to this command.
        Ok(about) if !about.is_file() => return Ok(Some(String::new())),
        _ => {}
    }
    let text =
        fs::read(path).map_err(|source| Error::io(format_args!("read {}", path.display()), &source))?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Writes the files and returns their names.
fn write(folder: &Path, package: &EditorPackage, again: bool, count: usize) -> Result<String> {
    let line = |done: &str, name: &str, what: &str| {
        format!("{done}  {:34} {what}\n", report::printable(&shown(&folder.join(name))))
    };
    let done = if again { "wrote" } else { "made " };
    put(&folder.join("Cargo.toml"), &package.manifest)?;
    let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    let mut said = line(done, "Cargo.toml", &format!("a package for rust-analyzer, with {files}"));
    if let Some(lock) = &package.lock_file {
        let text = fs::read_to_string(lock)
            .map_err(|source| Error::io(format_args!("read {}", lock.display()), &source))?;
        put(&folder.join("Cargo.lock"), &text)?;
    }
    said.push_str(&line(done, "Cargo.lock", "the versions of its crates"));
    let name = ".cargo/config.toml";
    let settings = folder.join(name);
    match text_of(&settings)? {
        Some(text) if !text.starts_with(EDITOR_MARK) => {
            said.push_str(&line("left ", name, "not changed: builds for the editor go where it says"))
        }
        _ => {
            let target = toml::Value::String(package.target.display().to_string());
            put(&settings, &format!("{EDITOR_MARK}\n[build]\ntarget-dir = {target}\n"))?;
            said.push_str(&line(done, name, "builds for the editor go to the cache"));
        }
    }
    Ok(said)
}

/// Replaces a file in one step. A link with its name is replaced, not followed.
fn put(path: &Path, text: &str) -> Result {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file =
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    written().map_err(|source| Error::io(format_args!("write {}", path.display()), &source))
}

/// Returns the user's next steps.
fn next(folder: &Path) -> String {
    let manifest = folder.join("Cargo.toml");
    let mut text = String::from("\n");
    match in_the_way(folder) {
        None => text.push_str(&format!(
            "Open the folder {}, or the one above it, in the editor; rust-analyzer finds the package there.\n",
            shown(folder)
        )),
        Some(other) => text.push_str(&format!(
            "Open the folder {} in the editor; further up, rust-analyzer finds {} instead.\n",
            shown(folder),
            shown(&other)
        )),
    }
    text.push_str(&format!(
        "For any other folder, this setting names the package (VS Code, in .vscode/settings.json):\n  \
         \"rust-analyzer.linkedProjects\": [{}]\n\
         The files contain paths of this host. In a repository, ignore them: Cargo.toml, Cargo.lock and .cargo in {}\n",
        serde_json::Value::String(manifest.display().to_string()),
        shown(folder)
    ));
    text
}

/// Returns the project that rust-analyzer uses instead if a folder above this one is opened.
fn in_the_way(folder: &Path) -> Option<PathBuf> {
    let above = folder.parent()?;
    let files = ["rust-project.json", ".rust-project.json", "Cargo.toml"];
    files
        .iter()
        .flat_map(|name| above.ancestors().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Returns a message if the sources of the standard library are missing: without them rust-analyzer knows none of its
/// types.
fn lacks_sources(folder: &Path) -> Option<String> {
    if environment::is_set("RUST_SRC_PATH") {
        return None;
    }
    let mut rustc = Command::new(environment::variable("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "sysroot"]).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::null());
    let output = rustc.output().ok().filter(|output| output.status.success())?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    let is_there = sysroot.join("lib/rustlib/src/rust/library/std").is_dir();
    (!is_there).then(|| {
        "The sources of Rust's standard library are missing here, so an editor knows only a part of the types:\n  \
         rustup component add rust-src rust-analyzer\n"
            .to_owned()
    })
}

/// Formats a path as the user would write it.
fn shown(path: &Path) -> String {
    let shown = super::run::from_here(path);
    if shown.is_empty() { ".".to_owned() } else { shown }
}
