//! The part that is QEMU: the line, QMP, the kernel's own messages, and the end of the process.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nixvm_fake_guest::settings::{Halted, Kvm, Moment, Noise, Resumed, Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcsetattr};
use serde_json::{Value, json};

use crate::firmware;
use crate::host;
use crate::options::Options;
use crate::qmp::{Action, Qmp};
use crate::wire::Wire;

mod channel;
mod trouble;

/// A machine: what its threads share.
struct Machine {
    options: Options,
    append: String,
    settings: Settings,
    wire: Wire,
    qmp: Qmp,
    /// The guest's files, removed at the end.
    run: PathBuf,
    /// The running boot's terminal, where typed bytes go.
    keyboard: Mutex<Option<File>>,
    /// The running boot's init.
    init: Mutex<Option<UnixStream>>,
    logged_in: AtomicBool,
    /// The guest has rebooted, and no event has said so.
    reset_untold: AtomicBool,
    lines_typed: AtomicU32,
    /// The process is on its way out; the main thread has no say any more.
    ending: AtomicBool,
    /// Why QEMU has stopped the guest of its own accord.
    halted: Mutex<Option<Halted>>,
    /// How often the guest was booted.
    boots: AtomicU32,
    /// How often the guest has reset itself.
    resets: AtomicU32,
    /// It did so before there was an init to be told.
    reset_before_init: AtomicBool,
    /// QEMU was asked for the reset.
    reset_by_qmp: AtomicBool,
    /// The host's terminal as it was, where the console is one.
    host_terminal: Mutex<Option<Termios>>,
}

/// How long a guest that comes late says nothing.
const LATE: Duration = Duration::from_secs(10);

/// How one boot ended.
enum Ended {
    PowerOff,
    Reboot,
}

/// Runs as QEMU would with these arguments.
pub fn run(arguments: &[String]) -> io::Result<ExitCode> {
    host::close_on_exec()?;
    let refused = |why: &str| {
        crate::complain!("qemu-system-x86_64: {why}");
        Ok(ExitCode::from(1))
    };
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(why) => return refused(&why),
    };
    // By hand there may be no kernel line at all.
    let append = options.append.clone().unwrap_or_else(|| "console=ttyS0".into());
    let settings = match Settings::load(&append) {
        Ok(settings) => settings,
        Err(why) => return refused(&why),
    };
    let first = options.accelerators.first().map(String::as_str);
    if first == Some("kvm") {
        match settings.kvm {
            Kvm::Absent if options.accelerators.iter().any(|name| name == "tcg") => {}
            Kvm::Absent => {
                crate::complain!("Could not access KVM kernel module: No such file or directory");
                return refused("failed to initialize kvm: No such file or directory");
            }
            Kvm::Busy => {
                crate::complain!("ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy");
                return refused("failed to initialize kvm: Device or resource busy");
            }
            Kvm::Abort => host::abort_as_kvm_does(),
            Kvm::Msr if !options.cpu.contains("arch-capabilities=off") => host::abort_as_kvm_does(),
            Kvm::Ok | Kvm::Msr | Kvm::Hang | Kvm::Stuck | Kvm::Late | Kvm::InternalError => {}
        }
    }
    if options.incoming
        && let Resumed::Exit(why) = &settings.clone
    {
        return refused(why);
    }
    // In TMPDIR, which is the driver's: what kills the guest's init too cleans up after it.
    let run = tempfile::Builder::new().prefix("fake-guest-").tempdir()?.keep();
    std::fs::write(run.join("settings"), settings.to_lines())?;
    let (input, output, host_terminal) = host::line(&options)?;
    let log = File::create(run.join("kmsg"))?;
    let machine = Arc::new(Machine {
        wire: Wire::new(output, Some(log), &settings),
        qmp: Qmp::new(),
        keyboard: Mutex::new(None),
        init: Mutex::new(None),
        logged_in: AtomicBool::new(false),
        reset_untold: AtomicBool::new(false),
        lines_typed: AtomicU32::new(0),
        ending: AtomicBool::new(false),
        halted: Mutex::new(None),
        boots: AtomicU32::new(0),
        resets: AtomicU32::new(0),
        reset_before_init: AtomicBool::new(false),
        reset_by_qmp: AtomicBool::new(false),
        host_terminal: Mutex::new(host_terminal),
        run,
        settings,
        append,
        options,
    });
    let ending = Arc::clone(&machine);
    host::end_on_signals(move || {
        ending.qmp.event("SHUTDOWN", json!({"guest": false, "reason": "host-signal"}));
        ending.exit(0);
    })?;
    machine.wire.pause(machine.options.start_paused);
    machine.background(|machine| {
        std::thread::sleep(machine.settings.max_life);
        crate::complain!("fake-guest: max-life is over");
        machine.exit(1);
    });
    // Before anybody can let it go on: nothing that is typed then may be lost.
    let resumed = match machine.options.incoming {
        true => {
            let (typed, keyboard) = UnixStream::pair()?;
            *machine.keyboard.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(File::from(OwnedFd::from(keyboard)));
            Some(typed)
        }
        false => None,
    };
    machine.serve_qmp();
    machine.background(move |machine| machine.pump_input(input));
    machine.background(Machine::make_noise);
    if machine.settings.busy {
        machine.background(|machine| machine.qmp.processor.spin(machine.settings.max_life, true));
    }
    if let Some(typed) = resumed {
        machine.go_on_at_prompt(typed)?;
    }
    loop {
        match machine.boot()? {
            Ended::PowerOff => machine.shut_down("guest-shutdown"),
            Ended::Reboot => {
                if machine.options.no_reboot {
                    machine.shut_down("guest-reset");
                }
                if machine.settings.late_reset {
                    machine.reset_untold.store(true, Ordering::SeqCst);
                } else if !machine.reset_by_qmp.swap(false, Ordering::SeqCst) {
                    machine.qmp.event("RESET", json!({"guest": true, "reason": "guest-reset"}));
                }
            }
        }
    }
}

impl Machine {
    fn background(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let machine = Arc::clone(self);
        std::thread::spawn(move || work(&machine));
    }

    /// From the firmware's first line to the guest's end.
    fn boot(self: &Arc<Self>) -> io::Result<Ended> {
        self.wire.revive();
        self.logged_in.store(false, Ordering::SeqCst);
        self.reset_before_init.store(false, Ordering::SeqCst);
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.wire.wait_while_paused();
        self.reached(Moment::Start);
        let under_kvm = self.options.accelerators.first().is_some_and(|a| a == "kvm");
        match self.settings.kvm {
            Kvm::Stuck if under_kvm => self.qmp.processor.spin(self.settings.max_life, false),
            Kvm::Late if under_kvm => self.qmp.processor.spin(LATE, true),
            _ => {}
        }
        self.wire.terminal(firmware::SEABIOS.as_bytes());
        self.reached(Moment::Firmware);
        match self.settings.kvm {
            Kvm::Hang if under_kvm => self.wire.kill(),
            Kvm::InternalError if under_kvm => self.halt(),
            _ => {}
        }
        let lines = firmware::kernel_lines(&self.append);
        let half = lines.len() / 2;
        for (number, (stamp, text)) in lines.iter().enumerate() {
            if number == half {
                self.reached(Moment::Kernel);
            }
            if self.append.contains("console=ttyS0") && !self.settings.loader {
                self.wire.kernel_at(*stamp, text);
                std::thread::sleep(self.settings.boot_delay);
            }
        }
        if self.reset_before_init.load(Ordering::SeqCst) {
            return Ok(Ended::Reboot);
        }
        if !self.settings.unpack.is_zero() {
            self.qmp.processor.spin(self.settings.unpack, true);
        }
        self.run_guest()
    }

    /// Goes on where a machine at rest was saved: at the login prompt, which Enter brings again. All that is typed
    /// is only shown.
    fn go_on_at_prompt(&self, mut typed: UnixStream) -> io::Result<()> {
        self.wire.wait_while_paused();
        if self.settings.clone == Resumed::Mute {
            self.wire.kill();
        }
        let mut byte = [0];
        while typed.read(&mut byte)? > 0 {
            match byte {
                [b'\r'] => self.wire.terminal(format!("\r\n\r\n{} login: ", self.settings.name).as_bytes()),
                _ => self.wire.terminal(&byte),
            }
        }
        Ok(())
    }

    /// Starts the guest's init on a new terminal and moves bytes until it ends.
    fn run_guest(self: &Arc<Self>) -> io::Result<Ended> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let mut terminal = File::from(openpt(flags)?);
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let name = ptsname(&terminal, Vec::new())?.to_string_lossy().into_owned();
        // Held open: a terminal that nobody has open between two gettys would look as if it hung up.
        let _held = rustix::fs::open(
            name.as_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let (mut control, theirs) = UnixStream::pair()?;
        let mut init = Command::new(std::env::current_exe()?)
            .arg("--guest-init")
            .env("FAKE_GUEST_RUN", &self.run)
            .env("FAKE_GUEST_TTY", &name)
            .env("FAKE_GUEST_APPEND", &self.append)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = Some(terminal.try_clone()?);
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.try_clone()?);

        let mut words = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let (readable, told) = wait_for(&terminal, Some(&control), None)?;
            if readable {
                let read = terminal.read(&mut buffer)?;
                self.wire.terminal(&buffer[..read]);
            }
            if told {
                let read = control.read(&mut buffer).unwrap_or(0);
                if read == 0 {
                    break;
                }
                words.extend_from_slice(&buffer[..read]);
            }
            while let Some(end) = words.iter().position(|byte| *byte == b'\n') {
                let word: Vec<u8> = words.drain(..=end).collect();
                // What init printed before it said this is on its way through the terminal: it goes out first.
                while wait_for(&terminal, None, Some(Duration::from_millis(2)))?.0 {
                    let read = terminal.read(&mut buffer)?;
                    self.wire.terminal(&buffer[..read]);
                }
                self.obey(String::from_utf8_lossy(&word).trim_end());
                self.tell_init("done");
            }
            // A dead guest's terminal is still read, so that what runs in it does not block; nothing shows.
        }
        if self.ending.load(Ordering::SeqCst) {
            std::thread::sleep(self.settings.max_life);
        }
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let status = init.wait()?;
        match status.code() {
            Some(0) => Ok(Ended::PowerOff),
            Some(REBOOT) => Ok(Ended::Reboot),
            _ => Err(io::Error::other(format!("the guest's init ended with {status}"))),
        }
    }

    /// Does what init, or a program in the guest, asked the hardware for.
    fn obey(self: &Arc<Self>, word: &str) {
        let (verb, rest) = word.split_once(' ').unwrap_or((word, ""));
        match verb {
            "kernel" => self.wire.kernel(rest),
            "prompt" => {
                if self.reset_untold.swap(false, Ordering::SeqCst) {
                    self.qmp.event("RESET", json!({"guest": true, "reason": "guest-reset"}));
                }
                self.reached(Moment::Prompt);
            }
            "services" => self.reached(Moment::Services),
            "login" => {
                self.logged_in.store(true, Ordering::SeqCst);
                self.lines_typed.store(0, Ordering::SeqCst);
                self.reached(Moment::Login);
            }
            "logout" => self.logged_in.store(false, Ordering::SeqCst),
            "shutdown" => self.reached(Moment::Shutdown),
            "panic" => self.panic(if rest.is_empty() { "sysrq triggered crash" } else { rest }),
            "stall" => self.wire.kill(),
            "channel" => self.open_channel(rest),
            "halt" => self.halt(),
            "reset" => self.reset_itself(),
            "die" => self.die(rest.parse().unwrap_or(self.settings.die_status)),
            "noise" => {
                let mut settings = Settings::default();
                match settings.word(&format!("kernel-noise={rest}")) {
                    Ok(()) => self.wire.set_noise(settings.noise),
                    Err(why) => crate::complain!("{why}"),
                }
            }
            other => crate::complain!("fake-guest: the guest said {other:?}"),
        }
    }

    fn tell_init(&self, word: &str) {
        if let Some(init) = self.init.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = writeln!(init, "{word}");
        }
    }

    fn make_noise(self: &Arc<Self>) {
        loop {
            let every = match self.wire.noise_now() {
                Noise::Every(every) => every,
                // `fake noise …` may still switch it on.
                _ => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            std::thread::sleep(every);
            if !self.wire.noise() {
                return;
            }
        }
    }

    /// Typed bytes go to the guest's terminal, as long as there is a living guest.
    fn pump_input(self: &Arc<Self>, mut input: File) {
        let on_terminal = isatty(&input);
        let mut buffer = [0; 4096];
        let mut escaped = false;
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => &buffer[..read],
            };
            if on_terminal {
                // QEMU's `-nographic`: ctrl-A x ends it.
                if escaped && read.first() == Some(&b'x') || read.windows(2).any(|pair| pair == b"\x01x") {
                    crate::complain!("QEMU: Terminated\r");
                    self.exit(0);
                }
                escaped = read.last() == Some(&1);
            }
            self.wire.wait_while_paused();
            if self.wire.is_dead() {
                continue;
            }
            // A copy: a guest that reads nothing must not hold the lock.
            let copy =
                self.keyboard.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(File::try_clone);
            if let Some(Ok(mut keyboard)) = copy {
                let _ = keyboard.write_all(read);
            }
            if self.logged_in.load(Ordering::SeqCst) {
                for _ in read.iter().filter(|byte| matches!(byte, b'\r' | b'\n')) {
                    let lines = self.lines_typed.fetch_add(1, Ordering::SeqCst) + 1;
                    self.reached(Moment::Command(lines));
                }
            }
        }
    }

    fn serve_qmp(self: &Arc<Self>) {
        let Some(fd) = self.options.qmp else { return };
        // SAFETY: the command line gives the descriptor to this program, and nothing else here uses it.
        let line = unsafe { File::from_raw_fd(fd) };
        self.background(move |machine| {
            if machine.settings.qmp_mute {
                std::thread::sleep(machine.settings.max_life);
            }
            let act = |action| match action {
                Action::Pause(paused) => {
                    machine.halted.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| !paused);
                    machine.wire.pause(paused);
                    machine.qmp.event(if paused { "STOP" } else { "RESUME" }, Value::Null);
                }
                Action::PowerButton => {
                    machine.qmp.event("POWERDOWN", Value::Null);
                    if !machine.settings.ignore_acpi && !machine.wire.is_dead() {
                        machine.tell_init("acpi");
                    }
                }
                Action::Reset => {
                    machine.reset_by_qmp.store(true, Ordering::SeqCst);
                    machine.qmp.event("RESET", json!({"guest": false, "reason": "host-qmp-system-reset"}));
                    machine.wire.kill();
                    machine.reset();
                }
                Action::Quit => {
                    machine.qmp.event("SHUTDOWN", json!({"guest": false, "reason": "host-qmp-quit"}));
                    machine.exit(0);
                }
                Action::Migrate(Some(file)) => {
                    let failure = std::fs::write(file, "a fake state\n").err().map(|error| error.to_string());
                    machine.qmp.migrated(failure.as_deref());
                }
                Action::Migrate(None) => machine.qmp.migrated(match &machine.settings.clone {
                    Resumed::Refuse(why) => Some(why),
                    _ => None,
                }),
            };
            let status = || match *machine.halted.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(halted) => halted.name(),
                None if machine.wire.is_paused() => "paused",
                None => "running",
            };
            machine.qmp.serve(line, act, status);
            // QEMU goes on without a client; the file stays open only in its own thread.
        });
    }

    /// The guest is off: tells the client and ends, or waits with `-no-shutdown`.
    fn shut_down(&self, reason: &str) {
        self.qmp.event("SHUTDOWN", json!({"guest": true, "reason": reason}));
        if self.options.no_shutdown {
            self.qmp.event("STOP", Value::Null);
            std::thread::sleep(self.settings.max_life);
        }
        self.exit(0);
    }

    /// Ends the process, after init has ended everything in the guest. Were this process killed instead, init would
    /// see its control line close and do the same.
    fn exit(&self, status: i32) -> ! {
        self.ending.store(true, Ordering::SeqCst);
        if let Some(mut init) = self.init.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = init.shutdown(std::net::Shutdown::Write);
            let _ = init.set_read_timeout(Some(Duration::from_secs(60)));
            while init.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
        }
        if let Some(before) = self.host_terminal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &before);
        }
        let _ = std::fs::remove_dir_all(&self.run);
        std::process::exit(status)
    }
}

/// Init's exit status when the guest reboots.
pub const REBOOT: i32 = 3;

/// Waits until the terminal, or init, has something to say.
fn wait_for(
    terminal: &File,
    control: Option<&UnixStream>,
    limit: Option<Duration>,
) -> io::Result<(bool, bool)> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = vec![PollFd::new(terminal, PollFlags::IN)];
    if let Some(control) = control {
        fds.push(PollFd::new(control, PollFlags::IN));
    }
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    Ok((ready(fds.first()), ready(fds.get(1))))
}
