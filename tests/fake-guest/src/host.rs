//! The host's side of the process: its descriptors, its terminal, its signals.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::options::Options;

/// The console's two directions, and the host's terminal as it was before it was made raw.
pub fn line(options: &Options) -> io::Result<(File, File, Option<Termios>)> {
    if let Some(fd) = options.console {
        // SAFETY: the command line gives the descriptor to this program, and nothing else here uses it.
        let line = unsafe { File::from_raw_fd(fd) };
        return Ok((line.try_clone()?, line, None));
    }
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let mut before = None;
    if isatty(&stdin) {
        let mut terminal = tcgetattr(&stdin)?;
        before = Some(terminal.clone());
        terminal.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &terminal)?;
    }
    Ok((File::from(stdin), File::from(stdout), before))
}

/// The guest must not inherit the machine's descriptors: the host would wait for them to close.
pub fn close_on_exec() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if fd > 2 {
            // SAFETY: plain fcntl on a number; a descriptor that is gone by now gives an error that is ignored.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// QEMU takes these signals as the wish to end, and says whose wish it was; then `end` is called, in a thread of its
/// own. To be called before other threads start.
pub fn end_on_signals(end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is initialised by sigemptyset before anything else uses it.
    let signals = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        let signals = signals.assume_init();
        if libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        signals
    };
    std::thread::spawn(move || {
        let (signal, pid) = loop {
            // SAFETY: all zeroes is a valid siginfo_t, and both pointers are valid for the call.
            let (signal, pid) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                (libc::sigwaitinfo(&signals, &mut info), info.si_pid())
            };
            // The wait can be interrupted without a signal of the set.
            if signal > 0 {
                break (signal, pid);
            }
        };
        crate::complain!(
            "qemu-system-x86_64: terminating on signal {signal} from pid {pid} (<unknown process>)"
        );
        end();
    });
    Ok(())
}

/// Measured on a host whose KVM can't run a guest: an assertion, SIGABRT, 134 in a shell's words.
pub fn abort_as_kvm_does() -> ! {
    crate::complain!("qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0");
    crate::complain!(
        "qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3301: kvm_buf_set_msrs: \
         Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed."
    );
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    std::process::abort()
}
