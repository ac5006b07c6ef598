//! What cargo would publish: all that compiling it needs, and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The files of a package, as cargo would publish it.
fn published(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The sources of the library and the program.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(sources(&path)) } else { found.push(path) }
    }
    found
}

/// A path without `..`, from the root of the package.
fn from_the_root(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            other => parts.push(other.as_os_str().to_str().unwrap()),
        }
    }
    parts.join("/")
}

#[test]
fn what_the_sources_take_in_is_published_with_them() {
    let published = published("nixvm-test");
    let mut taken_in = 0;
    for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        assert!(published.contains(&from_the_root(&source)), "{} is not published", source.display());
        let text = fs::read_to_string(&source).unwrap();
        // The pages of the book stand in a list.
        let book = source.ends_with("src/book_examples.rs");
        let parts = text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1);
        let parts = parts.chain(text.split(" \"../docs/").skip(1).filter(|_| book));
        for part in parts {
            let Some((name, _)) = part.split_once('"') else { continue };
            let name = if book {
                format!("../docs/{}", name.trim_start_matches("../docs/"))
            } else {
                name.to_owned()
            };
            if !name.contains('.') || name.contains(['\n', ' ']) {
                continue;
            }
            let file = from_the_root(&source.with_file_name(&name));
            assert!(
                published.contains(&file),
                "{} takes in {file}, which is not published",
                source.display()
            );
            taken_in += 1;
        }
    }
    assert!(taken_in > 10, "{taken_in}");
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "README.md",
        "LICENSE-MIT",
        "standin/nixpkgs/nixos/default.nix",
    ] {
        assert!(published.contains(file), "{file} is not published");
    }
}

#[test]
fn what_only_this_repository_needs_is_not_published() {
    for file in published("nixvm-test") {
        let stray = [
            "tests/",
            "benches/",
            ".ci/",
            ".config/",
            "just",
            "flake.nix",
            "nix/",
            "standin/tests/",
            "target/",
        ];
        assert!(!stray.iter().any(|stray| file.starts_with(stray)), "{file} is published");
    }
}

/// They are published first, and the library asks for the very version.
#[test]
fn the_macros_are_a_package_of_their_own() {
    let files = published("nixvm-test-macros");
    assert!(files.contains("src/lib.rs") && files.contains("Cargo.toml"), "{files:?}");
    let manifest = |folder: &str| -> toml::Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
        fs::read_to_string(path).unwrap().parse().unwrap()
    };
    let asked = manifest("")["dependencies"]["nixvm-test-macros"]["version"].clone();
    let version = manifest("macros")["package"]["version"].as_str().unwrap().to_owned();
    assert_eq!(asked.as_str().unwrap(), format!("={version}"));
}
