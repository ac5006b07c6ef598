//! The fake guest's console alone.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::vm::FakeVm;

/// A running fake guest without QMP: its console is a socket. Dropping it ends the guest.
///
/// ```no_run
/// use nixvm_fake_guest::FakeVm;
/// let mut line = FakeVm::new().setting("chunk", "1").start();
/// let console = line.take_console(); // for tokio: set_nonblocking(true), then UnixStream::from_std
/// ```
#[derive(Debug)]
pub struct FakeLine {
    child: Child,
    console: Option<UnixStream>,
    folder: tempfile::TempDir,
}

impl FakeLine {
    pub(crate) fn start(vm: &FakeVm) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = folder.path().join("fake-guest.conf");
        let report = folder.path().join("report").display().to_string();
        std::fs::write(&settings, vm.settings_text(&report))?;
        let (console, theirs) = UnixStream::pair()?;
        // Descriptor numbers are this process's; the child gets the same number, without close-on-exec.
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 10)?;
        let number = theirs.as_raw_fd();
        let mut command = Command::new(crate::binary());
        command
            .args(["-chardev", &format!("socket,id=console,fd={number}"), "-serial", "chardev:console"])
            .args(["-machine", "accel=tcg", "-append", &format!("console=ttyS0 {}", vm.kernel_line())])
            .env("FAKE_GUEST_FILE", &settings)
            .env("TMPDIR", folder.path())
            .env_remove("FAKE_GUEST")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        use std::os::unix::process::CommandExt as _;
        // SAFETY: one fcntl on a descriptor that stays open until spawn has returned.
        unsafe {
            command.pre_exec(move || {
                let fd = rustix::fd::BorrowedFd::borrow_raw(number);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
                Ok(())
            });
        }
        Ok(Self { child: command.spawn()?, console: Some(console), folder })
    }

    /// The console: what the guest prints is read here, what is typed is written. Blocking.
    ///
    /// # Panics
    /// When it was taken before.
    #[allow(clippy::expect_used)]
    pub fn take_console(&mut self) -> UnixStream {
        self.console.take().expect("the console was taken before")
    }

    /// The process id of the fake QEMU.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the fake QEMU to end by itself.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// What it wrote to stderr; waits for its end.
    ///
    /// # Errors
    /// When stderr can't be read.
    pub fn stderr(&mut self) -> io::Result<String> {
        use io::Read as _;
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text)?;
        }
        Ok(text)
    }

    /// What the guest noted about its queries of the terminal (`report=` is set by itself).
    pub fn report(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("report")).unwrap_or_default()
    }
}

impl Drop for FakeLine {
    fn drop(&mut self) {
        // In order first: then the guest is gone with all its files when this returns.
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
