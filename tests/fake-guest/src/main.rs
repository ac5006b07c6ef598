//! The fake guest's program. It is QEMU when it is started like QEMU; it starts itself again as the guest's init and
//! getty, and under the names of the few programs that a guest's shell must not take from the host.

#![allow(clippy::disallowed_methods, reason = "another crate, which does not have `crate::environment`")]

/// Prints a line to standard error. Unlike `eprintln!` it does not panic where nobody listens any more.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use complain;

mod accounts;
mod applets;
mod elevation;
mod firmware;
mod getty;
mod hardware;
mod host;
mod init;
mod options;
mod processes;
mod processor;
mod qmp;
mod shell;
mod sudo;
mod systemd;
mod tty;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Ctrl-C and job control must work in the guest whatever was ignored or blocked where the fake guest was started.
    // SAFETY: the set is initialised by sigemptyset before it is used, and no other thread runs yet.
    unsafe {
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: SIG_DFL is a valid disposition, and no other thread runs yet.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let ended = match (name, arguments.first().map(String::as_str)) {
        (name, _) if applets::NAMES.contains(&name) => applets::run(name, &arguments),
        (_, Some("--guest-init")) => init::run(),
        (_, Some("--guest-getty")) => getty::run(),
        _ => hardware::run(&arguments),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            complain!("fake-guest: {error}");
            ExitCode::from(70)
        }
    }
}
