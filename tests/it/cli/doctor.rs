//! `nixvm-test doctor`, on hosts that are a PATH of small scripts.

use std::process::Command;

use serde_json::Value;

use crate::folder::{Folder, Ran};

/// What each program of a host that has all of them prints.
const PROGRAMS: &[(&str, &str)] = &[
    ("nix-build", "echo 'nix-build (Nix) 2.8.0'"),
    ("nix-instantiate", "exit 1"), // no channel
    // 33 is how a guest that runs ends it.
    (
        "qemu-system-x86_64",
        "case $* in *isa-debug-exit*) exit 33;; *) echo 'QEMU emulator version 8.2.1 (Debian)';; esac",
    ),
    ("qemu-img", "echo 'qemu-img version 8.2.1'"),
    ("cargo", "echo 'cargo 1.90.0'"),
    ("rustc", "echo 'rustc 1.90.0 (abc 2025-09-01)'"),
    ("cc", "echo 'cc (Debian) 12.2.0'"),
    (
        "tesseract",
        "[ $1 = --version ] && echo 'tesseract 5.3.0' || printf 'List of languages:\\neng\\nosd\\n'",
    ),
    ("mmdebstrap", ":"),
    ("mke2fs", ":"),
    ("python3", ":"),
    ("newuidmap", ":"),
];

/// A host with these programs, and a stand-in for nixpkgs.
struct Host(Folder);

impl Host {
    fn new() -> Self {
        let host = Self(Folder::new());
        host.0.put("standin/nixos/default.nix", "{}");
        host.0.put("tools/none", "");
        for (name, script) in PROGRAMS {
            host.program(name, script);
        }
        host
    }

    fn program(&self, name: &str, script: &str) {
        self.0.program(&format!("tools/{name}"), format!("#!/bin/sh\n{script}\n"));
    }

    fn lacks(&self, name: &str) {
        std::fs::remove_file(self.0.path().join("tools").join(name)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command(&[&["doctor"], arguments].concat());
        let folder = self.0.path();
        command.env("PATH", folder.join("tools")).env("NIXVM_STANDIN", folder.join("standin"));
        // Whatever this host has: with it nothing is looked at.
        command.env("HOME", &folder).env("NIXVM_ACCELERATOR", "tcg").env_remove("NIX_PATH");
        command.env_remove("CARGO").env_remove("RUSTC");
        command
    }

    /// Each finding's name with state, what was found and what mends it.
    fn findings(&self, arguments: &[&str], code: i32) -> Findings {
        let ran = Ran::of(&mut self.command(&[&["--json"], arguments].concat()));
        let json: Value = serde_json::from_str(&ran.ended_with(code).out).unwrap();
        assert_eq!(json["ok"], code == 0, "{json:#}");
        Findings(json)
    }
}

struct Findings(Value);

impl Findings {
    #[track_caller]
    fn of(&self, name: &str) -> (&str, &str, &str) {
        let all = self.0["findings"].as_array().unwrap();
        let one =
            all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {:#}", self.0));
        let text = |key: &str| one[key].as_str().unwrap_or_default();
        (text("state"), text("found"), text("fix"))
    }
}

#[test]
fn a_host_with_everything_is_told_so_and_a_warning_is_no_failure() {
    let host = Host::new();
    let findings = host.findings(&[], 0);
    assert_eq!(findings.of("QEMU"), ("ok", "8.2.1 (Debian)", ""));
    assert_eq!(findings.of("rustc").0, "ok");
    assert_eq!(findings.of("tesseract"), ("ok", "tesseract 5.3.0, with English", ""));
    let (state, found, fix) = findings.of("nixpkgs");
    assert_eq!(state, "warning");
    assert!(found.contains("not NixOS") && fix.contains("nix-channel --add"), "{found} {fix}");
    Ran::of(&mut host.command(&["--nixpkgs", "standin"]))
        .ended_with(0)
        .printed("ok       nixpkgs                 the stand-in, as requested");
}

#[test]
fn everything_that_is_missing_is_named_with_what_mends_it() {
    let host = Host::new();
    for (name, _) in PROGRAMS.iter().filter(|(name, _)| *name != "tesseract") {
        host.lacks(name);
    }
    let findings = host.findings(&[], 5);
    for name in ["Nix", "QEMU", "cargo", "rustc", "linker", "stand-in"] {
        let (state, found, fix) = findings.of(name);
        assert_eq!(state, "missing", "{name}: {found}");
        assert!(!fix.is_empty(), "{name}: {found}");
    }
    assert!(findings.of("QEMU").1.contains("no qemu-system-x86_64 and no qemu-img"));
    assert!(findings.of("stand-in").1.contains("mmdebstrap"));
    let ran = Ran::of(&mut host.command(&[]));
    ran.ended_with(5)
        .printed("missing  Nix ")
        .printed("-> ")
        .printed("things that every run needs are missing");
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
}

#[test]
fn without_a_folder_for_the_cache_or_for_records_it_is_said_how_to_have_one() {
    let host = Host::new();
    let mut command = host.command(&["--json"]);
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME").env_remove("NIXVM_CACHE_DIR");
    let findings = Findings(serde_json::from_str(&Ran::of(&mut command).ended_with(5).out).unwrap());
    let (state, found, fix) = findings.of("disk for the cache");
    assert_eq!((state, found), ("missing", "no folder for the cache: HOME is not set"));
    assert!(fix.contains("set HOME, or NIXVM_CACHE_DIR"), "{fix}");
    let mut command = host.command(&["--json"]);
    command.env("NIXVM_RUNS", "/proc/none");
    let findings = Findings(serde_json::from_str(&Ran::of(&mut command).ended_with(5).out).unwrap());
    let (state, found, fix) = findings.of("disk for records");
    assert!(state == "missing" && found.contains("/proc/none"), "{state} {found}");
    assert!(fix.contains("set NIXVM_RUNS"), "{fix}");
}

#[test]
fn a_kvm_that_was_not_tried_is_not_called_ok() {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return;
    }
    let host = Host::new();
    host.lacks("qemu-system-x86_64");
    let mut command = host.command(&["--json"]);
    command.env_remove("NIXVM_ACCELERATOR").env("NIXVM_CACHE_DIR", host.0.path().join("cache"));
    let findings = Findings(serde_json::from_str(&Ran::of(&mut command).ended_with(5).out).unwrap());
    let (state, found, fix) = findings.of("KVM");
    assert_eq!(state, "warning");
    assert!(
        found.contains("not tried: there is no qemu-system-x86_64") && fix.contains("--kvm VM"),
        "{found} {fix}"
    );
}

#[test]
fn a_kvm_that_is_asked_for_is_looked_at_and_machines_that_can_not_start_are_a_failure() {
    let host = Host::new();
    let findings = |code: i32| {
        let mut command = host.command(&["--json"]);
        let ran = Ran::of(command.env("NIXVM_ACCELERATOR", "kvm"));
        Findings(serde_json::from_str(&ran.ended_with(code).out).unwrap())
    };
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        let found = findings(5);
        assert_eq!(found.of("KVM").0, "missing", "{:?}", found.of("KVM"));
        return;
    }
    let found = findings(0);
    assert_eq!(found.of("KVM"), ("ok", "NIXVM_ACCELERATOR demands it", ""));
    let aborts = "case $* in *isa-debug-exit*) echo 'error: failed to set MSR' >&2; exit 134;; \
                  *) echo 'QEMU emulator version 8.2.1 (Debian)';; esac";
    host.program("qemu-system-x86_64", aborts);
    let found = findings(5);
    let (state, why, fix) = found.of("KVM");
    assert_eq!(state, "missing");
    assert!(why.contains("no machine starts") && why.contains("failed to set MSR"), "{why}");
    assert!(fix.contains("--kvm VM") && fix.contains("unset NIXVM_ACCELERATOR"), "{fix}");
}

#[test]
fn what_is_too_old_or_half_there_is_seen() {
    let host = Host::new();
    host.program("rustc", "echo 'rustc 1.63.0 (Debian)'");
    host.program("rustup", "echo rustup 1.28");
    let findings = host.findings(&[], 5);
    let (state, found, fix) = findings.of("rustc");
    assert_eq!((state, fix), ("missing", "rustup update"));
    assert!(found.contains("1.63.0") && found.contains("or newer"), "{found}");

    host.program("rustc", "echo 'rustc 1.90.0'");
    host.program("qemu-system-x86_64", "echo 'QEMU emulator version 5.2.0'");
    host.program("tesseract", "[ $1 = --version ] && echo 'tesseract 5.3.0' || printf 'osd\\n'");
    let findings = host.findings(&[], 0);
    assert_eq!(findings.of("QEMU").0, "warning");
    assert!(findings.of("tesseract").1.contains("without its English data"));
    host.program("qemu-system-x86_64", "echo 'symbol lookup error' >&2; exit 127");
    assert!(host.findings(&[], 5).of("QEMU").1.contains("does not run"));
}

#[test]
fn real_nixos_needs_no_qemu_on_the_path() {
    let host = Host::new();
    host.0.put("nixpkgs/nixos/default.nix", "{}");
    host.lacks("qemu-system-x86_64");
    host.lacks("mmdebstrap");
    let findings = host.findings(&["--nixpkgs", "./nixpkgs"], 0);
    let (state, found, _) = findings.of("QEMU");
    assert_eq!(state, "warning");
    assert!(found.contains("a VM of NixOS brings its own"), "{found}");
    // A nixpkgs that is not there is another matter.
    let findings = host.findings(&["--nixpkgs", "./nothing"], 5);
    let (state, found, fix) = findings.of("nixpkgs");
    assert_eq!(state, "missing");
    assert!(found.contains("there is no nixpkgs at") && !fix.is_empty(), "{found} {fix}");
}

#[test]
fn what_machines_run_under_comes_with_its_reason() {
    let host = Host::new();
    let ran = Ran::of(host.command(&[]).env("NIXVM_ACCELERATOR", "tcg"));
    ran.ended_with(0)
        .printed("warning  KVM ")
        .printed("NIXVM_ACCELERATOR demands it")
        .printed("-> unset NIXVM_ACCELERATOR");
    // What an earlier run of this boot found out.
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok() {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let text =
            format!(r#"{{"boot":"{}","accelerator":"tcg","reason":"QEMU ended with it"}}"#, boot.trim());
        host.0.put("cache/accelerator/x-kvm.json", text);
        let mut command = host.command(&[]);
        command.env_remove("NIXVM_ACCELERATOR").env("NIXVM_CACHE_DIR", host.0.path().join("cache"));
        Ran::of(&mut command).ended_with(0).printed("slower: QEMU ended with it");
        host.0.put("cache/accelerator/x-kvm.json", r#"{"boot":"another","accelerator":"tcg","reason":"y"}"#);
        Ran::of(&mut command).ended_with(0).printed("the first VM shows");
        // Nothing is known, and it turns out now.
        let aborts = "case $* in *isa-debug-exit*) echo 'error: failed to set MSR' >&2; exit 134;; \
                      *) echo 'QEMU emulator version 8.2.1 (Debian)';; esac";
        host.program("qemu-system-x86_64", aborts);
        Ran::of(&mut command).ended_with(0).printed(": error: failed to set MSR");
    }
}
