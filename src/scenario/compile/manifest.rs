//! The package that cargo builds for one scenario file.

use std::fs;
use std::path::{Path, PathBuf};

use super::frontmatter::{self, Frontmatter};
use super::library::Library;
use super::workshop::Package;
use crate::{Error, Result};

/// Where the compiler finds the scenario.
#[derive(Debug)]
pub(super) struct Root {
    /// The file it compiles.
    pub file: PathBuf,
    /// The folder whose name the compiler shall show as another, if it compiles a copy.
    pub shown_as: Option<(PathBuf, PathBuf)>,
}

/// Makes or mends the package of `file`, whose text is `text`.
pub(super) fn write(package: &Package, library: &Library, file: &Path, text: &str) -> Result<Root> {
    let front = frontmatter::split(text)?;
    let root = match &front {
        None => Root { file: file.to_owned(), shown_as: None },
        Some(front) => copy(package, file, &front.code)?,
    };
    let manifest = manifest(package, library, &root.file, front.as_ref());
    write_if_changed(&package.manifest(), &manifest.to_string())?;
    if let Some(lock) = library.lock_file() {
        let (ours, theirs) = (package.folder().join("Cargo.lock"), package.folder().join("library.lock"));
        let text = fs::read_to_string(&lock)
            .map_err(|source| Error::io(format_args!("read {}", lock.display()), &source))?;
        // cargo takes out what this package does not need, and adds what only it needs: so the
        // library's lock is laid down only when it is new.
        if fs::read_to_string(&theirs).ok().as_deref() != Some(&text) {
            write_file(&ours, &text)?;
            write_file(&theirs, &text)?;
        }
    }
    Ok(root)
}

fn manifest(package: &Package, library: &Library, file: &Path, front: Option<&Frontmatter>) -> toml::Table {
    let given = |table: &str, key: &str| front?.manifest.get(table)?.get(key).cloned();
    let mut dependencies =
        front.and_then(|front| front.manifest.get("dependencies")?.as_table().cloned()).unwrap_or_default();
    // Whatever the file says of this library, it is this one that runs it.
    dependencies.insert("nixvm-test".into(), library.dependency().into());

    let mut manifest: toml::Table = toml::toml! {
        [package]
        name = ""
        version = "0.0.0"
        edition = "2024"
        publish = false
        autobins = false

        [[bin]]
        name = ""
        path = ""

        // It is nobody's member, wherever the cache folder lies.
        [workspace]

        [profile.dev]
        debug = false
        incremental = true

        // What reads a console's bytes, and what hashes the template of a clone before it starts (150 ms
        // without this); all the rest would only make the first compilation longer. Not incremental: optimised
        // and incremental, a compilation that is killed half-way leaves what no later one can be linked with.
        [profile.dev.package.nixvm-test]
        opt-level = 1
        incremental = false
        [profile.dev.package.sha2]
        opt-level = 2
        [profile.dev.package.digest]
        opt-level = 2
        [profile.dev.package.block-buffer]
        opt-level = 2
        [profile.dev.package.hybrid-array]
        opt-level = 2
        [profile.dev.package.regex-automata]
        opt-level = 1
        [profile.dev.package.memchr]
        opt-level = 1
        [profile.dev.package.aho-corasick]
        opt-level = 1
    };
    if let Some(about) = manifest.get_mut("package").and_then(toml::Value::as_table_mut) {
        about.insert("name".into(), package.name().into());
        if let Some(edition) = given("package", "edition") {
            about.insert("edition".into(), edition);
        }
    }
    let mut bin = toml::Table::new();
    bin.insert("name".into(), package.name().into());
    bin.insert("path".into(), file.display().to_string().into());
    manifest.insert("bin".into(), vec![bin].into());
    manifest.insert("dependencies".into(), dependencies.into());
    manifest
}

/// A copy of a file with frontmatter, and beside it links to what lies beside the file, so that
/// `mod other;` and `include_str!` find it.
fn copy(package: &Package, file: &Path, code: &str) -> Result<Root> {
    let folder = package.copy();
    let failed = |source: std::io::Error| Error::io(format_args!("copy {}", file.display()), &source);
    let (beside, name) = (file.parent().unwrap_or(Path::new("/")), file.file_name().unwrap_or_default());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed)?;
    for entry in fs::read_dir(beside).map_err(failed)?.flatten() {
        if entry.file_name() != name {
            std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).map_err(failed)?;
        }
    }
    let copy = folder.join(name);
    write_file(&copy, code)?;
    Ok(Root { file: copy, shown_as: Some((folder, beside.to_owned())) })
}

/// cargo builds again what is newer than its last build, so a file that is right stays as it is.
fn write_if_changed(path: &Path, text: &str) -> Result {
    if fs::read_to_string(path).is_ok_and(|there| there == text) { Ok(()) } else { write_file(path, text) }
}

fn write_file(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|source| Error::io(format_args!("write {}", path.display()), &source))
}
