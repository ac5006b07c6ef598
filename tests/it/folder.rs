//! A user's folder, and `nixvm-test` in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What every scenario file here begins and ends with.
pub fn file(code: &str) -> String {
    format!("use nixvm_test::prelude::*;\n{code}\nnixvm_test::main!();\n")
}

/// A temporary folder of a user.
pub struct Folder(tempfile::TempDir, tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    /// A folder with one scenario file in it.
    pub fn with(name: &str, code: &str) -> Self {
        let folder = Self::new();
        folder.put(name, file(code));
        folder
    }

    pub fn path(&self) -> PathBuf {
        // As the tool sees it, which asks for the current folder.
        self.0.path().canonicalize().unwrap()
    }

    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A program of the user's own.
    pub fn program(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        nixvm_fake_guest::write_executable(path, text).unwrap();
    }

    /// `nixvm-test` in this folder, with the cache that all tests share and nothing of ours in its
    /// environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
        command.current_dir(self.path()).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NIXVM_") {
                command.env_remove(name);
            }
        }
        command.env("NIXVM_CACHE_DIR", cache()).env_remove("CARGO_MANIFEST_DIR");
        // A record of its own, as for a user: not that of the run of cargo-nextest which this test is part of.
        command.env("NIXVM_RUNS", self.runs()).env_remove("NEXTEST_RUN_ID");
        command
    }

    /// The same, started by another program: `before` is that program with its words.
    pub fn command_by(&self, mut before: Command, arguments: &[&str]) -> Command {
        let command = self.command(arguments);
        before.arg(command.get_program()).args(command.get_args()).current_dir(self.path());
        take_over(&mut before, &command);
        before
    }

    /// Where the records of its runs are: beside the folder, which stays as the user made it.
    pub fn runs(&self) -> PathBuf {
        self.1.path().to_owned()
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }
}

/// The cache of all tests, which stays from run to run.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// Gives a command the variables of another.
pub fn take_over(command: &mut Command, of: &Command) {
    for (name, value) in of.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// With its standard output where the command has it.
    pub fn of_with(command: &mut Command) -> Self {
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        Self { code: status.code(), out: String::new(), err: String::from_utf8(stderr).unwrap() }
    }

    /// Fails unless the code is `code`, showing everything.
    #[track_caller]
    pub fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn said(&self, text: &str) -> &Self {
        assert!(self.err.contains(text), "{text:?} is not in stderr\n{}", self.err);
        self
    }

    #[track_caller]
    pub fn said_not(&self, text: &str) -> &Self {
        assert!(!self.err.contains(text), "{text:?} is in stderr\n{}", self.err);
        self
    }

    #[track_caller]
    pub fn printed(&self, text: &str) -> &Self {
        assert!(self.out.contains(text), "{text:?} is not in stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }
}
