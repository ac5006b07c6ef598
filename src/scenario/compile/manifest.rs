//! Writes the package that cargo builds for one scenario file.

use std::fs;
use std::path::{Path, PathBuf};

use super::frontmatter::Frontmatter;
use super::library::Library;
use super::workshop::Package;
use crate::{Error, ErrorKind, Result};

/// The manifest of this library.
const OURS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));

/// The dependencies of a package, besides those of its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs<'a> {
    pub library: &'a Library,
    /// Whether to use the features of this program.
    pub as_built: bool,
}

/// The file that the compiler starts with.
#[derive(Debug)]
pub(super) struct Root {
    /// The file to compile.
    pub file: PathBuf,
    /// If it is a copy: the copy's folder, and the folder to show instead in messages.
    pub shown_as: Option<(PathBuf, PathBuf)>,
}

/// Creates or updates the package of `file`. It needs no dependency if the compiler gets a library that is already
/// compiled.
pub(super) fn write(
    package: &Package,
    needs: Option<Needs<'_>>,
    file: &Path,
    front: Option<&Frontmatter>,
) -> Result<Root> {
    let root = match front {
        None => Root { file: file.to_owned(), shown_as: None },
        Some(front) => copy(package, file, &front.code)?,
    };
    let manifest = manifest(package, needs, &root.file, front)?;
    write_if_changed(&package.manifest(), &manifest.to_string())?;
    let (ours, theirs) = (package.folder().join("Cargo.lock"), package.folder().join("library.lock"));
    match needs.map(|needs| needs.library.lock_file()) {
        Some(Some(lock)) => {
            let text = fs::read_to_string(&lock)
                .map_err(|source| Error::io(format_args!("read {}", lock.display()), &source))?;
            // cargo removes what this package does not need, and adds what only it needs. So the library's lock file is
            // copied only when it has changed.
            if fs::read_to_string(&theirs).ok().as_deref() != Some(&text) {
                write_file(&ours, &text)?;
                write_file(&theirs, &text)?;
            }
        }
        Some(None) => {}
        // cargo would remove all of it.
        None => drop(fs::remove_file(theirs)),
    }
    Ok(root)
}

fn manifest(
    package: &Package,
    needs: Option<Needs<'_>>,
    file: &Path,
    front: Option<&Frontmatter>,
) -> Result<toml::Table> {
    let given = |table: &str, key: &str| front?.manifest.get(table)?.get(key).cloned();
    let mut dependencies =
        front.and_then(|front| front.manifest.get("dependencies")?.as_table().cloned()).unwrap_or_default();
    if let Some(Needs { library, as_built }) = needs {
        // This library always replaces the version that the file requests, since it runs the scenario.
        dependencies.insert("nixvm-test".into(), library.dependency(as_built).into());
    }

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

        // So that it does not become part of a workspace above the cache folder.
        [workspace]

        // A warning appears only when compiling, but the binary then runs many times. So lints for hidden failures are
        // errors.
        [lints.rust]
        unused_must_use = "deny"
    };
    manifest.insert("profile".into(), profile(needs.is_some())?.into());
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
    Ok(manifest)
}

/// Returns the profile of this library's own workspace, so that both compile crates in the same way.
fn profile(with_library: bool) -> Result<toml::Table> {
    let wrong =
        || Error::new(ErrorKind::Other, "the manifest that this program was built with has no profile");
    let mut manifest: toml::Table = OURS.parse().map_err(|_| wrong())?;
    let Some(toml::Value::Table(mut profiles)) = manifest.remove("profile") else { return Err(wrong()) };
    if let Some(dev) = profiles.get_mut("dev").and_then(toml::Value::as_table_mut).filter(|_| !with_library) {
        // cargo warns about settings for packages that are not present.
        dev.remove("package");
    }
    Ok(profiles)
}

/// Copies a file with frontmatter, and links the neighbours of the original beside the copy, so that `mod other;` and
/// `include_str!` find them.
fn copy(package: &Package, file: &Path, code: &str) -> Result<Root> {
    let folder = package.copy();
    let failed = |source: std::io::Error| Error::io(format_args!("copy {}", file.display()), &source);
    let (beside, name) = (file.parent().unwrap_or(Path::new("/")), file.file_name().unwrap_or_default());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed)?;
    for entry in fs::read_dir(beside).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != name {
            std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).map_err(failed)?;
        }
    }
    let copy = folder.join(name);
    write_file(&copy, code)?;
    Ok(Root { file: copy, shown_as: Some((folder, beside.to_owned())) })
}

/// cargo rebuilds files that are newer than its last build, so an unchanged file is not written.
fn write_if_changed(path: &Path, text: &str) -> Result {
    if fs::read_to_string(path).is_ok_and(|there| there == text) { Ok(()) } else { write_file(path, text) }
}

fn write_file(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|source| Error::io(format_args!("write {}", path.display()), &source))
}
