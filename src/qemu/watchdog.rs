//! A small process per runner that outlives it, and cleans up if the runner could not: after SIGKILL, an
//! abort, or the kernel's out-of-memory killer.
//!
//! The parent-death signal (see `supervise`) ends QEMU in these cases, but not its helpers, and does not
//! remove its files.

use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use crate::mutex::lock;
use crate::{Error, Result};

struct Watchdog {
    child: Child,
    /// The runner's end of the pipe, whose closing tells the watchdog to act. It is close-on-exec, as all
    /// descriptors that Rust opens, so no child has it.
    _alive: PipeWriter,
}

static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

/// Makes sure that a watchdog runs for this process.
pub(super) fn ensure(base: &Path, runner: &str) -> Result {
    let mut watchdog = lock(&WATCHDOG);
    // It may have been killed.
    let runs = watchdog.as_mut().is_some_and(|watchdog| matches!(watchdog.child.try_wait(), Ok(None)));
    if !runs {
        *watchdog = Some(start(base, runner).map_err(|error| {
            Error::host("start /bin/sh", &error)
                .next_step("a POSIX shell is needed at /bin/sh, and a free slot in the process table")
        })?);
    }
    Ok(())
}

fn start(base: &Path, runner: &str) -> io::Result<Watchdog> {
    let (sign, alive) = io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", include_str!("watchdog.sh"), "nixvm-watchdog"]).arg(base).arg(runner);
    command.current_dir("/").stdin(sign).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: this runs between fork and exec, where only async-signal-safe calls are allowed. setsid(2) is
    // one, and rustix makes the bare system call. In a session of its own, the watchdog is safe from the
    // terminal's ctrl-C and from a harness that kills the runner's process group.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    let child = command.spawn()?;
    tracing::debug!(pid = child.id(), "watchdog started");
    Ok(Watchdog { child, _alive: alive })
}
