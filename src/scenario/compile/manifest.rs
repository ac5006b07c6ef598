//! The package that cargo builds for one scenario file.

use std::fs;
use std::path::{Path, PathBuf};

use super::frontmatter::Frontmatter;
use super::library::Library;
use super::workshop::Package;
use crate::{Error, ErrorKind, Result};

/// The manifest of this library.
const OURS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));

/// What a package depends on, beside what its file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs<'a> {
    pub library: &'a Library,
    /// With the features that this program has.
    pub as_built: bool,
}

/// Where the compiler finds the scenario.
#[derive(Debug)]
pub(super) struct Root {
    /// The file it compiles.
    pub file: PathBuf,
    /// The folder whose name the compiler shall show as another, if it compiles a copy.
    pub shown_as: Option<(PathBuf, PathBuf)>,
}

/// Makes or mends the package of `file`. It needs nothing where the compiler is told of a library that is compiled
/// already.
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
            // cargo takes out what this package does not need, and adds what only it needs: so the
            // library's lock is laid down only when it is new.
            if fs::read_to_string(&theirs).ok().as_deref() != Some(&text) {
                write_file(&ours, &text)?;
                write_file(&theirs, &text)?;
            }
        }
        Some(None) => {}
        // cargo takes out all of it.
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
        // Whatever the file says of this library, it is this one that runs it.
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

        // It is nobody's member, wherever the cache folder lies.
        [workspace]

        // A warning is shown once, and the binary then runs again and again: what would hide a failure is an error.
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

/// The profile that this library's own workspace has, so that crates are compiled for both alike.
fn profile(with_library: bool) -> Result<toml::Table> {
    let wrong =
        || Error::new(ErrorKind::Other, "the manifest that this program was built with has no profile");
    let mut manifest: toml::Table = OURS.parse().map_err(|_| wrong())?;
    let Some(toml::Value::Table(mut profiles)) = manifest.remove("profile") else { return Err(wrong()) };
    if let Some(dev) = profiles.get_mut("dev").and_then(toml::Value::as_table_mut).filter(|_| !with_library) {
        // cargo warns of settings for packages that are not there.
        dev.remove("package");
    }
    Ok(profiles)
}

/// A copy of a file with frontmatter, and beside it links to what lies beside the file, so that
/// `mod other;` and `include_str!` find it.
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

/// cargo builds again what is newer than its last build, so a file that is right stays as it is.
fn write_if_changed(path: &Path, text: &str) -> Result {
    if fs::read_to_string(path).is_ok_and(|there| there == text) { Ok(()) } else { write_file(path, text) }
}

fn write_file(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|source| Error::io(format_args!("write {}", path.display()), &source))
}
