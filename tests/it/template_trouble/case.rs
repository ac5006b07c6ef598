//! A store of its own, and processes that use it.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{GUEST, SCRIPT};
use crate::again::{self, Process};
use crate::hang::HANG;
use crate::run_script::{RunScript, lives};
use crate::small_disk;

/// Once as it is, and once more when what filled the disk is gone; what is left in the store each time.
const TWICE: &str = r#"
left() { printf '\n> left: %s\n' "$(ls "$0" | grep -v lock | tr '\n' ' ')"; }
"$@" && left && rm -f "$0/fill" && unset FILL_BEFORE FILL_IN_STEP && "$@" && left
"#;

/// A VM, a store of its own, and processes that use them.
pub struct Case {
    folder: tempfile::TempDir,
    script: RunScript,
}

impl Case {
    /// A boot sector for a guest.
    pub fn new() -> Self {
        Self::with(SCRIPT)
    }

    /// A fake QEMU with its guest.
    pub fn fake() -> Self {
        let line = r#"-m 64 -nographic -append "console=ttyS0 $QEMU_KERNEL_PARAMS" $QEMU_OPTS"#;
        Self::with(&format!("exec {} {line}\n", nixvm_fake_guest::binary().display()))
    }

    fn with(script: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("trouble").tempdir_in("/tmp").unwrap();
        let mut image = GUEST.to_vec();
        image.resize(510, 0);
        image.extend([0x55, 0xaa]);
        fs::write(folder.path().join("boot.img"), image).unwrap();
        for name in ["tmp", "cache", "cache/templates"] {
            // The store's folders are this user's alone, whatever the umask is.
            fs::DirBuilder::new().mode(0o700).create(folder.path().join(name)).unwrap();
        }
        Self { folder, script: RunScript::new(script) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process, in the surroundings of this case; `this` starts this test binary.
    pub fn command(&self, this: Command) -> Command {
        self.command_for(this, "template_trouble::process")
    }

    /// The same for another of the ignored tests.
    pub fn command_for(&self, this: Command, test: &str) -> Command {
        let mut command = this;
        command
            .args(again::words(test))
            .env("SCRIPT", self.script.path())
            .env("PLACE", self.folder.path())
            .env("NIXVM_CACHE_DIR", self.path("cache"))
            .env("TMPDIR", self.path("tmp"))
            .env("NIXVM_ACCELERATOR", "tcg");
        command
    }

    pub fn process(&self) -> Process {
        Process::start(&mut self.command(Command::new(std::env::current_exe().unwrap())))
    }

    /// A process on whose host the store's disk has this size; it has no other process's templates.
    pub fn on_a_disk_of(&self, size: &str, variable: Option<&str>) -> Vec<String> {
        let mut command = small_disk::with_script(&self.path("cache/templates"), size, TWICE);
        command.arg(std::env::current_exe().unwrap());
        let mut command = self.command(command);
        command.envs(variable.map(|name| (name, "1")));
        Process::start(&mut command).end()
    }

    pub fn hold(&self, moment: &str) {
        fs::write(self.path(moment), "").unwrap();
    }

    pub fn go_on(&self, moment: &str) {
        fs::remove_file(self.path(moment)).unwrap();
    }

    /// The names in the store, without locks.
    pub fn templates(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/templates")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    /// The processes that use this case's files.
    fn machines(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let here = self.path("tmp").display().to_string();
        let of_this = |pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            lives(*pid) && String::from_utf8_lossy(&command).contains(&here)
        };
        pids.filter(of_this).collect()
    }

    /// The next process: its machine works, and then there are two templates, and nothing else is left.
    #[track_caller]
    pub fn next_works(&self) -> Vec<String> {
        let said = self.process().end();
        assert!(said.contains(&"works".to_owned()), "{said:#?}");
        self.is_clean();
        said
    }

    #[track_caller]
    pub fn is_clean(&self) {
        let templates = self.templates();
        assert!(templates.len() == 2 && templates.iter().all(|name| name.len() == 32), "{templates:?}");
        let deadline = Instant::now() + HANG;
        // The watchdog of a process that was killed may not be through.
        while !self.machines().is_empty() || !self.run_directories().is_empty() {
            let left = (self.machines(), self.run_directories());
            assert!(Instant::now() < deadline, "QEMU or its files are left over: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run_directories(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.path("tmp")).unwrap().flatten().map(|entry| entry.path());
        let runs = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        runs.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}
