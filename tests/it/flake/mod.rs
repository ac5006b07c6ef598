//! The flake, as Nix sees it: evaluated, and its checks built, with a stand-in for nixpkgs (`nixpkgs/flake.nix` here), whose
//! nixvm-test says what it was called with. That real machines boot within a real build is not tested here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Small copies: a flake in a folder is copied to the store whole, and this one has a target folder.
struct Flakes(tempfile::TempDir);

/// As much of the project as the flake looks at.
const PARTS: [&str; 10] = [
    "flake.nix",
    "nix/package.nix",
    "nix/run-scenarios.nix",
    "src/nix/clonable.nix",
    "src/nix/network.nix",
    "Cargo.toml",
    "Cargo.lock",
    "configuration.nix",
    "scenarios/login.rs",
    "docs/src/reference/settings.md",
];

impl Flakes {
    fn new() -> Self {
        let flakes = Self(tempfile::tempdir().unwrap());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in PARTS {
            flakes.put(&format!("nixvm-test/{part}"), &fs::read_to_string(root.join(part)).unwrap());
        }
        for (name, file) in [("nixpkgs", "tests/it/flake/nixpkgs"), ("user", "docs/examples/flake")] {
            let text = fs::read_to_string(root.join(file).join("flake.nix")).unwrap();
            flakes.put(&format!("{name}/flake.nix"), &text);
        }
        for machine in ["server", "client"] {
            flakes.put(&format!("user/{machine}.nix"), "{ }\n");
        }
        flakes.put("user/scenarios/two.rs", "// what a scenario is\n");
        flakes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `nix WORDS`, with the inputs of `flake` from here.
    fn nix(&self, words: &[&str], flake: &str) -> Output {
        let mut nix = Command::new("nix");
        nix.args(["--extra-experimental-features", "nix-command flakes"])
            .args(words)
            .arg("--no-write-lock-file");
        let inputs: &[&str] = if flake == "user" { &["nixpkgs", "nixvm-test"] } else { &["nixpkgs"] };
        for input in inputs {
            nix.args(["--override-input", input, &format!("path:{}", self.path(input).display())]);
        }
        // A store of one's own, builders that may use the host's programs, and nobody to ask for what is not there.
        for (name, value) in [
            ("sandbox", "false"),
            ("filter-syscalls", "false"),
            ("substitute", "false"),
            ("system-features", "kvm nixos-test"),
        ] {
            nix.args(["--option", name, value]);
        }
        if !fs::read_to_string("/etc/group").unwrap_or_default().contains("nixbld:") {
            nix.args(["--option", "build-users-group", ""]);
        }
        nix.output().unwrap()
    }

    #[track_caller]
    fn did(&self, words: &[&str], flake: &str) -> String {
        let output = self.nix(words, flake);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "nix {words:?}\n{said}");
        String::from_utf8(output.stdout).unwrap() + &said
    }

    fn reference(&self, flake: &str, attribute: &str) -> String {
        format!("path:{}#{attribute}", self.path(flake).display())
    }

    /// Builds an attribute and gives what it made.
    fn build(&self, flake: &str, attribute: &str) -> PathBuf {
        let link = self.path("result");
        self.did(
            &["build", &self.reference(flake, attribute), "--out-link", &link.display().to_string()],
            flake,
        );
        link
    }
}

#[test]
fn the_flake_has_what_a_flake_has_and_all_of_it_evaluates() {
    let flakes = Flakes::new();
    for flake in ["nixvm-test", "user"] {
        let reference = format!("path:{}", flakes.path(flake).display());
        let said = flakes.did(&["flake", "check", "--no-build", &reference], flake);
        assert!(!said.contains("error"), "{said}");
    }
    let shown = flakes.did(
        &["flake", "show", "--json", &format!("path:{}", flakes.path("nixvm-test").display())],
        "nixvm-test",
    );
    for output in ["packages", "devShells", "overlays", "checks", "lib"] {
        assert!(shown.contains(&format!("\"{output}\"")), "{output}: {shown}");
    }
    let version = format!("nixvm-test-{}", env!("CARGO_PKG_VERSION"));
    assert!(shown.contains(&version), "{shown}");
}

#[test]
fn a_mistake_in_the_flake_is_seen() {
    let flakes = Flakes::new();
    let text = fs::read_to_string(flakes.path("nixvm-test/nix/run-scenarios.nix")).unwrap();
    flakes.put("nixvm-test/nix/run-scenarios.nix", &text.replace("pkgs.runCommandCC", "pkgs.runComandCC"));
    let reference = format!("path:{}", flakes.path("nixvm-test").display());
    let output = flakes.nix(&["flake", "check", "--no-build", &reference], "nixvm-test");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("runComandCC"));
}

#[test]
fn scenarios_become_a_check_that_runs_only_where_machines_can() {
    let flakes = Flakes::new();
    let checks = flakes.reference("user", "checks.x86_64-linux.machines.requiredSystemFeatures");
    assert!(flakes.did(&["eval", "--json", &checks], "user").contains(r#"["kvm","nixos-test"]"#));
}

#[test]
fn a_check_calls_nixvm_test_with_machines_that_are_built_and_crates_that_are_there() {
    let flakes = Flakes::new();
    let result = flakes.build("user", "checks.x86_64-linux.machines");
    let called = fs::read_to_string(result.join("called")).unwrap();
    let arguments: Vec<&str> = called.lines().filter_map(|line| line.strip_prefix("argument ")).collect();
    assert_eq!(arguments, ["--retries", "1", "scenarios"]);
    assert!(called.contains("client.nix\nflake.nix\nscenarios\nserver.nix"), "{called}");

    let value = |name: &str| {
        let line = called.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}\n{called}")).to_owned()
    };
    // Each configuration has its own machine, made so that it can be cloned.
    let machines = value("NIXVM_VMS");
    let machines: Vec<(&str, &str)> = machines.split(',').map(|pair| pair.split_once('=').unwrap()).collect();
    let [("client.nix", client), ("server.nix", server)] = machines[..] else { panic!("{machines:?}") };
    assert_ne!(client, server);
    assert_eq!(value("NIXVM_VM"), server);
    for (machine, name) in [(client, "client.nix"), (server, "server.nix")] {
        let modules = fs::read_to_string(Path::new(machine).join("modules")).unwrap();
        assert!(modules.contains(name) && modules.contains("clonable.nix"), "{modules}");
        assert!(modules.contains("network.nix"), "{modules}");
    }
    // Nothing is read or written elsewhere, and the record is what the check leaves.
    assert_eq!(value("NIXVM_ACCELERATOR"), "kvm", "no check is emulated");
    assert_eq!(Path::new(&value("NIXVM_RUNS")), result.canonicalize().unwrap());
    for name in ["NIXVM_CACHE_DIR", "NIXVM_ADMISSION_DIR", "CARGO_HOME"] {
        assert!(
            !value(name).starts_with("/var") && !value(name).starts_with("/root"),
            "{name}: {}",
            value(name)
        );
    }
    assert!(
        called.contains("replace-with = \"vendored\"") && called.contains("cargo-vendor-dir"),
        "{called}"
    );
}

#[test]
fn the_sample_is_tested_by_its_own_scenario() {
    let flakes = Flakes::new();
    let called =
        fs::read_to_string(flakes.build("nixvm-test", "checks.x86_64-linux.login").join("called")).unwrap();
    assert!(called.starts_with("argument scenarios/login.rs\n"), "{called}");
}
