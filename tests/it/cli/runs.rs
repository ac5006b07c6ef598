//! Runs of one scenario file beside each other, each a process, on fake machines.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;
use crate::hang::HANG;

/// For scenarios: a note in the file `log`, which all runs share.
pub const NOTE: &str = r#"
fn note(what: &str) -> Result {
    use std::io::Write as _;
    let log = std::fs::File::options().append(true).create(true).open("log");
    Ok(log.and_then(|mut log| writeln!(log, "{what}"))?)
}
"#;

/// A folder with the scenario file, and an admission of its own for the runs of it.
pub struct Runs {
    pub folder: Folder,
    variables: Vec<(&'static str, &'static str)>,
}

impl Runs {
    /// With these variables, one of which says how many processors the host has. The file has [`NOTE`] before `code`.
    pub fn new(code: &str, vm: FakeVm, variables: &[(&'static str, &'static str)]) -> Self {
        let folder = Folder::with("a.rs", &format!("{NOTE}{code}"));
        vm.write_to(folder.path());
        folder.run(&["a.rs", "--", "--list"]).ended_with(0);
        Self { folder, variables: variables.to_vec() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// `nixvm-test`, counted with the others.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command(arguments);
        command.env("NIXVM_ADMISSION_DIR", self.file("admission"));
        command.env("NIXVM_HOST_MEMORY", "64G").envs(self.variables.iter().copied());
        command
    }

    /// A run of the file.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(&[&["--vm", "result", "a.rs", "--"], arguments].concat())
    }

    /// A run of the file that says what happens in it to the file `said`.
    pub fn process(&self, arguments: &[&str], said: &str) -> Process {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(File::create(self.file(said)).unwrap());
        Process(command.spawn().unwrap())
    }

    /// Waits until the file has this in it.
    #[track_caller]
    pub fn wait_for(&self, file: &str, text: &str) {
        let deadline = Instant::now() + HANG;
        while !self.read(file).contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in {file}\n{}", self.read(file));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Killed when the test is over, however it ends.
pub struct Process(pub Child);

impl Process {
    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    #[track_caller]
    pub fn passes(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
