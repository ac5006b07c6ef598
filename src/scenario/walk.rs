//! Finds the Rust files below a folder, as a suite has them.
//!
//! The crate of the macros has this file, too, by a symbolic link, so that the macro and the later check find
//! the same files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The first line of the Cargo.toml that `nixvm-test editor` writes beside scenarios. It does not make the folder a
/// package of its own.
pub(crate) const EDITOR_MARK: &str =
    "# Written by `nixvm-test editor`, for rust-analyzer alone. Run it again after adding a file.";

/// How many levels of folders are searched.
const DEEPEST: usize = 16;

/// Returns the files that end in `.rs` in `folder` and below it, as relative paths. Hidden files and folders
/// are skipped.
///
/// # Errors
/// When a folder can't be read; the text names it.
pub(crate) fn files_below(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = waiting.pop() {
        let here = folder.join(&below);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", here.display()));
        for entry in fs::read_dir(&here).map_err(named)? {
            let entry = entry.map_err(named)?;
            let name = entry.file_name();
            let path = here.join(&name);
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(named)?;
            if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                if depth < DEEPEST && may_have_scenarios(&path) {
                    waiting.push((below.join(&name), depth + 1));
                }
            } else if Path::new(&name).extension() == Some(OsStr::new("rs")) {
                found.insert(below.join(&name));
            }
        }
    }
    Ok(found)
}

/// Whether a subfolder is searched. Hidden folders, links, cargo's target folder and packages of their own
/// are skipped.
pub(crate) fn may_have_scenarios(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    !folder.is_symlink() && !name.starts_with('.') && name != "target" && !is_package(folder)
}

/// Whether a folder is a package of its own. The editor's package does not count: it does not change which scenarios
/// run.
fn is_package(folder: &Path) -> bool {
    let manifest = folder.join("Cargo.toml");
    // Opening a pipe would block until another process writes to it.
    if !manifest.is_file() {
        return manifest.exists();
    }
    let mut beginning = vec![0; EDITOR_MARK.len()];
    let read = fs::File::open(&manifest).and_then(|mut file| io::Read::read_exact(&mut file, &mut beginning));
    read.is_err() || beginning != EDITOR_MARK.as_bytes()
}
