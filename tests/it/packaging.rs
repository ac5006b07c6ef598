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

/// The archive of a release: the program finds the sources in it by its own path, wherever it is unpacked.
#[test]
fn a_release_has_all_that_the_program_needs_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Within the target folder, so that the program can be linked instead of copied.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // The archive of the real program takes a while to compress.
    let small = folder.path().join("program");
    let real = env!("CARGO_BIN_EXE_nixvm-test");
    nixvm_fake_guest::write_executable(&small, format!("#!/bin/sh\nexec '{real}' \"$@\"\n")).unwrap();
    let mut pack = Command::new(root.join("ci/release/pack.sh"));
    let output =
        pack.arg(&small).args(["1.2.3", "x86_64-unknown-linux-musl"]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = "nixvm-test-1.2.3-x86_64-unknown-linux-musl";
    let in_folder = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    in_folder("sha256sum", &["--check", &format!("{name}.tar.gz.sha256")]);
    in_folder("tar", &["-xzf", &format!("{name}.tar.gz")]);
    let unpacked = folder.path().join(name);
    for file in [
        "bin/nixvm-test",
        "LICENSE-MIT",
        "share/man/man1/nixvm-test.1",
        "share/man/man1/nixvm-test-build.1",
        "share/bash-completion/completions/nixvm-test",
        "share/zsh/site-functions/_nixvm-test",
        "share/fish/vendor_completions.d/nixvm-test.fish",
        "share/nixvm-test/source/Cargo.lock",
        "share/nixvm-test/source/macros/src/lib.rs",
        "share/nixvm-test/source/standin/nixpkgs/nixos/default.nix",
    ] {
        assert!(unpacked.join(file).is_file(), "{file} is not in the archive");
    }
    fs::remove_file(unpacked.join("bin/nixvm-test")).unwrap();
    fs::hard_link(real, unpacked.join("bin/nixvm-test")).unwrap();
    in_folder(unpacked.join("bin/nixvm-test").to_str().unwrap(), &["init", "made", "--ci", "none"]);
    let made: toml::Table =
        fs::read_to_string(folder.path().join("made/Cargo.toml")).unwrap().parse().unwrap();
    let path = made["dev-dependencies"]["nixvm-test"]["path"].as_str().unwrap();
    assert_eq!(
        Path::new(path).canonicalize().unwrap(),
        unpacked.join("share/nixvm-test/source").canonicalize().unwrap()
    );
}

/// Where cargo-binstall looks for an archive is where the workflow puts it.
#[test]
fn cargo_binstall_finds_the_archives_of_a_release() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let its = &manifest["package"]["metadata"]["binstall"];
    let url = its["pkg-url"].as_str().unwrap();
    let pack = fs::read_to_string(root.join("ci/release/pack.sh")).unwrap();
    assert!(url.ends_with("/v{ version }/nixvm-test-{ version }-{ target }.tar.gz"), "{url}");
    assert!(pack.contains("name=nixvm-test-$2-$3\n") && pack.contains("\"$out/$name.tar.gz\""));
    assert!(its["bin-dir"].as_str().unwrap().starts_with("nixvm-test-{ version }-{ target }/bin/"));
    let workflow = fs::read_to_string(root.join(".github/workflows/release.yml")).unwrap();
    for target in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
        assert!(workflow.contains(&format!("target: {target}\n")), "{target}");
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
