//! A run script of a test's own, in the place where Nix would put one.

use std::fs;
use std::path::PathBuf;

use nixvm_fake_guest::write_executable;
use nixvm_test::internals::BuiltVm;

/// `bin/run-nixos-vm` in a folder of its own.
pub struct RunScript {
    folder: tempfile::TempDir,
}

impl RunScript {
    /// A shell script with this text.
    pub fn new(text: &str) -> Self {
        Self::with_first_line("#!/bin/sh", text)
    }

    pub fn with_first_line(first_line: &str, text: &str) -> Self {
        let script = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(script.folder.path().join("bin")).unwrap();
        write_executable(script.path(), format!("{first_line}\n{text}\n")).unwrap();
        script
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("bin/run-nixos-vm")
    }

    pub fn vm(&self) -> BuiltVm {
        BuiltVm::open(self.folder.path()).unwrap()
    }

    pub fn remove(&self) {
        fs::remove_file(self.path()).unwrap();
    }
}

/// Whether a process is there and not just waiting to be reaped.
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}
