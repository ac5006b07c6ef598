//! Makes the package that rust-analyzer reads for scenario files that belong to no package: one binary for each file.
//!
//! It is beside the files, since every editor looks for a Cargo.toml there, and rust-analyzer looks for one in the open
//! folder and its direct subfolders. Nothing here runs scenarios.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cargo::Call;
use super::library::Library;
use super::{frontmatter, source};
use crate::scenario::walk::EDITOR_MARK;
use crate::{Error, ErrorKind, Events, Result};

/// A package for an editor, not yet written.
#[derive(Debug)]
pub struct EditorPackage {
    /// The text of Cargo.toml.
    pub manifest: String,
    /// The initial lock file, so that the versions are those that the library was compiled with.
    pub lock_file: Option<PathBuf>,
    /// Where cargo puts its build for the editor.
    pub target: PathBuf,
    /// Dependencies for which two files require different versions. The first file's version is used.
    pub conflicts: Vec<String>,
}

/// Returns the package of `files`, which are all in one folder. The paths are absolute.
///
/// # Errors
/// [`ErrorKind::Usage`] for a file whose block of dependencies can't be read, [`ErrorKind::Io`] if a file can't be read
/// or there is no cache folder.
pub fn editor_package(files: &[PathBuf]) -> Result<EditorPackage> {
    let library = Library::find();
    let mut conflicts = Vec::new();
    let mut dependencies = toml::Table::new();
    let mut binaries = Vec::new();
    let mut names = BTreeSet::new();
    for file in files {
        let shown = file.file_name().unwrap_or_default().to_string_lossy();
        let mut binary = toml::Table::new();
        binary.insert("name".into(), name_for(file, &mut names).into());
        binary.insert("path".into(), shown.clone().into_owned().into());
        if let Some(front) = frontmatter::split(&source::text(file)?)? {
            for (name, wanted) in
                front.manifest.get("dependencies").and_then(|its| its.as_table()).into_iter().flatten()
            {
                match dependencies.get(name) {
                    Some(other) if other != wanted => conflicts.push(format!("{name} ({shown})")),
                    _ => drop(dependencies.insert(name.clone(), wanted.clone())),
                }
            }
            let edition = front.manifest.get("package").and_then(|package| package.get("edition"));
            if let Some(edition) = edition {
                binary.insert("edition".into(), edition.clone());
            }
        }
        binaries.push(toml::Value::Table(binary));
    }
    let mut own = library.lasting_dependency();
    own.insert("default-features".into(), false.into());
    dependencies.insert("nixvm-test".into(), own.into());
    let mut manifest: toml::Table = toml::toml! {
        [package]
        name = "scenarios-in-an-editor"
        version = "0.0.0"
        edition = "2024"
        publish = false
        autobins = false
        autolib = false
        autotests = false
        autoexamples = false
        autobenches = false
        build = false

        // So that a package in a folder above does not count as its workspace.
        [workspace]

        // The same lints as for a run.
        [lints.rust]
        unused_must_use = "deny"
    };
    manifest.insert("bin".into(), binaries.into());
    manifest.insert("dependencies".into(), dependencies.into());
    Ok(EditorPackage {
        manifest: format!("{EDITOR_MARK}\n{manifest}"),
        lock_file: library.lock_file(),
        target: crate::cache::dir()?.join("editor"),
        conflicts,
    })
}

/// Returns the files of a manifest that [`editor_package`] made, relative to its folder.
pub fn files_of_editor_package(manifest: &str) -> Vec<String> {
    let table: toml::Table = manifest.parse().unwrap_or_default();
    let binaries = table.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    binaries.filter_map(|binary| Some(binary.get("path")?.as_str()?.to_owned())).collect()
}

/// Makes cargo resolve the package, as rust-analyzer will.
///
/// # Errors
/// [`ErrorKind::Build`] with cargo's message if it can't, [`ErrorKind::Host`] if there is no cargo.
pub async fn check_editor_package(manifest: &Path) -> Result {
    let folder = manifest.parent().unwrap_or(Path::new("/"));
    let mut said = String::new();
    // Offline first: the crates are present once a scenario was compiled.
    for offline in [true, false] {
        let call = Call::new("metadata", manifest, folder).args(["--format-version", "1"]);
        let cargo = call.args(offline.then_some("--offline")).run("", &Events::none()).await?;
        if cargo.status.success() {
            return Ok(());
        }
        said = cargo.said;
    }
    let summary = format!("cargo can't resolve {}", manifest.display());
    Err(Error::new(ErrorKind::Build, summary).section("cargo", said))
}

/// Returns a unique binary name that cargo accepts. cargo reserves some names, so all get a prefix.
fn name_for(file: &Path, taken: &mut BTreeSet<String>) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let fit = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let plain: String = std::iter::once('s').chain(['_']).chain(stem.chars().map(fit)).collect();
    let mut name = plain.clone();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{plain}_{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_binary_with_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let front = "---\n[package]\nedition = \"2021\"\n[dependencies]\nserde = \"1\"\n---\n";
        let other = "---\n[dependencies]\nserde = \"2\"\n---\n";
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [put("build.rs", ""), put("3 ways.rs", front), put("3-ways.rs", other), put("Ü.rs", "")];
        let package = editor_package(&files).unwrap();
        let manifest: toml::Table = package.manifest.parse().unwrap();
        let names: Vec<&str> =
            manifest["bin"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["s_build", "s_3_ways", "s_3_ways_2", "s__"]);
        assert_eq!(
            files_of_editor_package(&package.manifest),
            ["build.rs", "3 ways.rs", "3-ways.rs", "Ü.rs"]
        );
        assert_eq!(manifest["bin"][1]["edition"].as_str(), Some("2021"));
        assert_eq!(manifest["dependencies"]["serde"].as_str(), Some("1"));
        assert_eq!(package.conflicts, ["serde (3-ways.rs)"]);
        assert_eq!(manifest["dependencies"]["nixvm-test"]["path"].as_str(), Some(env!("CARGO_MANIFEST_DIR")));
        assert!(package.manifest.starts_with(EDITOR_MARK));
        assert!(files_of_editor_package("not toml [").is_empty());
    }
}
