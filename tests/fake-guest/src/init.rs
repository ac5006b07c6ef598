//! The guest's first process: it boots, keeps a getty on the terminal and shuts down.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nixvm_fake_guest::settings::{Boot, Flavour, Settings};

use crate::hardware::REBOOT;
use crate::tty::Tty;
use crate::{applets, processes, systemd};

/// What init hears.
enum Event {
    /// A word from the hardware.
    Hardware(String),
    /// The hardware is gone.
    Gone,
    /// Who asks, and for what: a program in the guest.
    Request(String, String),
    /// The getty, or what it became, has ended.
    GettyEnded,
}

/// Init's exit status when it ends because the hardware did.
const GONE: i32 = 1;

struct Init {
    settings: Settings,
    append: String,
    run: PathBuf,
    terminal: String,
    tty: Tty,
    hardware: UnixStream,
    /// The hardware's word that it has done what init told it last.
    done: Receiver<()>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    getty_wanted: bool,
}

/// Runs as the guest's init.
pub fn run() -> io::Result<ExitCode> {
    let ended = live();
    // What it could not begin with is gone too, such as the terminal of a machine that was killed meanwhile.
    let gone = ended.as_ref().map_or(true, |status| *status == GONE);
    if let Some(run) = std::env::var_os("FAKE_GUEST_RUN").filter(|_| gone) {
        let _ = std::fs::remove_dir_all(run);
    }
    ended.map(|status| ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

fn live() -> io::Result<i32> {
    let variable = |name: &str| {
        std::env::var(name)
            .map_err(|_| io::Error::other(format!("{name} is not set: init is not for people")))
    };
    let run = PathBuf::from(variable("FAKE_GUEST_RUN")?);
    let terminal = variable("FAKE_GUEST_TTY")?;
    let append = variable("FAKE_GUEST_APPEND")?;
    let settings = load_settings(&run)?;
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let hardware = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (sender, events) = channel();
    let done = listen_to_hardware(BufReader::new(hardware.try_clone()?), sender.clone());
    for name in ["initctl", "sysrq"] {
        let path = run.join(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        match rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // For reading and writing, so that it never ends.
        let fifo = OpenOptions::new().read(true).write(true).open(&path)?;
        let sysrq = name == "sysrq";
        let sender = sender.clone();
        std::thread::spawn(move || {
            for word in BufReader::new(fifo).lines().map_while(Result::ok) {
                let _ = sender.send(match word.split_once(' ') {
                    _ if sysrq => Event::Request(String::new(), format!("sysrq {word}")),
                    Some((token, word)) => Event::Request(token.into(), word.into()),
                    None => continue,
                });
            }
        });
    }
    applets::install(&run, &settings)?;
    // The terminal is init's only while it speaks, never its controlling one.
    let tty = Tty::open(&terminal)?;
    let mut init =
        Init { settings, append, run, terminal, tty, hardware, done, events, sender, getty_wanted: false };
    let status = init.live();
    processes::kill_descendants();
    Ok(status)
}

/// The settings of the machine whose files are in `run`.
pub fn load_settings(run: &Path) -> io::Result<Settings> {
    let mut settings = Settings::default();
    settings.read_lines(&std::fs::read_to_string(run.join("settings"))?).map_err(io::Error::other)?;
    Ok(settings)
}

/// Asks init for something, from a program in the guest, and waits until it is done, or half a minute.
pub fn request(run: &Path, word: &str) -> io::Result<()> {
    let path = run.join("initctl");
    let token = std::process::id();
    let done = run.join(format!("done-{token}"));
    let mut fifo = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    fifo.write_all(format!("{token} {word}\n").as_bytes())?;
    for _ in 0..60_000 {
        if std::fs::remove_file(&done).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Sorts what the hardware says: the end of what it was told to do, and events.
fn listen_to_hardware(hardware: BufReader<UnixStream>, events: Sender<Event>) -> Receiver<()> {
    let (ended, done) = channel();
    std::thread::spawn(move || {
        for word in hardware.lines().map_while(Result::ok) {
            let _ = if word == "done" {
                ended.send(()).is_ok()
            } else {
                events.send(Event::Hardware(word)).is_ok()
            };
        }
        let _ = events.send(Event::Gone);
    });
    done
}

impl Init {
    /// From the boot to the end; gives the exit status.
    fn live(&mut self) -> i32 {
        if self.boot().is_break() {
            return REBOOT;
        }
        loop {
            let Ok(event) = self.events.recv() else { return GONE };
            processes::reap();
            match event {
                Event::Gone => return GONE,
                Event::Hardware(word) => match word.as_str() {
                    "acpi" => {
                        if let Some(status) = self.shut_down("poweroff") {
                            return status;
                        }
                    }
                    "reset" => return REBOOT,
                    // The kernel has panicked: nothing runs any more.
                    _ => {
                        self.getty_wanted = false;
                        processes::kill_descendants();
                    }
                },
                Event::Request(token, word) => {
                    // A shutdown kills whoever asked for it: the answer goes first.
                    let end = matches!(word.as_str(), "poweroff" | "reboot");
                    if end {
                        self.answer(&token);
                    }
                    if let Some(status) = self.serve(&word) {
                        return status;
                    }
                    if !end {
                        self.answer(&token);
                    }
                }
                Event::GettyEnded => self.session_ended(),
            }
        }
    }

    fn answer(&self, token: &str) {
        let _ = std::fs::write(self.run.join(format!("done-{token}")), "");
    }

    /// Does what a program in the guest asked for; gives the exit status where that is the end.
    fn serve(&mut self, word: &str) -> Option<i32> {
        match word {
            "poweroff" | "reboot" => return self.shut_down(word),
            "sysrq c" => {
                self.tell("kernel sysrq: Trigger a crash");
                self.tell("panic sysrq triggered crash");
            }
            "sysrq o" => return Some(0),
            "sysrq b" => return Some(REBOOT),
            word if word.starts_with("sysrq") => {
                self.tell("kernel sysrq: This sysrq operation is disabled.");
            }
            word => self.tell(word),
        }
        None
    }

    /// Has the hardware do something, and waits until it is done: a kernel message stands before what init prints next.
    fn tell(&mut self, word: &str) {
        if writeln!(self.hardware, "{word}").is_ok() {
            // An error: the hardware is gone, which init hears as an event.
            let _ = self.done.recv();
        }
    }

    /// Prints where systemd prints: on the console, which is the last `console=` of the kernel line.
    fn say(&mut self, text: &str) {
        let last = self.append.split_whitespace().rev().find_map(|word| word.strip_prefix("console="));
        if last.is_some_and(|console| console.starts_with("ttyS0")) {
            self.tty.print(text);
            std::thread::sleep(self.settings.boot_delay);
        }
    }

    fn ok(&mut self, what: &str) {
        self.say(&format!("[\x1b[0;32m  OK  \x1b[0m] {what}.\n"));
    }

    /// Boots; it breaks off in order to reboot.
    fn boot(&mut self) -> ControlFlow<()> {
        let (version, release, _) = systemd::release(self.settings.flavour);
        if self.settings.systemd_initrd {
            self.systemd_initrd(version, release)?;
        } else {
            self.stage_1()?;
        }
        if self.append.contains("console=ttyS0") {
            systemd::reset_terminal(&mut self.tty, &self.settings, &self.append);
        }
        self.kernel(&format!("systemd[1]: systemd {version} running in system mode (+PAM +AUDIT -SELINUX)"));
        self.kernel("systemd[1]: Detected virtualization qemu.");
        self.say(&format!("\nWelcome to \x1b[1;34mNixOS {release}\x1b[0m!\n\n"));
        self.ok("Created slice \x1b[0;1;39mSlice /system/getty\x1b[0m");
        self.ok("Reached target \x1b[0;1;39mSwaps\x1b[0m");
        self.tell("services");
        match self.settings.boot {
            Boot::Emergency | Boot::RootLocked | Boot::Rescue => {
                self.emergency();
                return ControlFlow::Continue(());
            }
            Boot::NoTty => {
                self.say("[\x1b[0;1;31m TIME \x1b[0m] Timed out waiting for device \x1b[0;1;39m/dev/ttyS0\x1b[0m.\n");
                self.say("[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for \x1b[0;1;39mSerial Getty on ttyS0\x1b[0m.\n");
            }
            Boot::Ok | Boot::NoGetty | Boot::Stage1 | Boot::Fsck | Boot::FsckOnce => {}
        }
        self.ok("Mounted \x1b[0;1;39m/nix/store\x1b[0m");
        self.ok("Started \x1b[0;1;39mUser Login Management\x1b[0m");
        self.ok("Reached target \x1b[0;1;39mMulti-User System\x1b[0m");
        self.service();
        let is_up = matches!(self.settings.boot, Boot::Ok | Boot::Stage1 | Boot::FsckOnce);
        if is_up && self.append.contains("console=ttyS0") {
            self.getty_wanted = true;
            self.start_getty();
        }
        ControlFlow::Continue(())
    }

    /// Stage 1 and stage 2 of NixOS, as scripts.
    fn stage_1(&mut self) -> ControlFlow<()> {
        self.say(
            "\n\x1b[1;32m<<< NixOS Stage 1 >>>\x1b[0m\n\nloading module virtio_blk...\nrunning udev...\n",
        );
        if self.settings.passphrase.is_some() {
            // luksroot.nix: the line is not shown, and the same question comes again.
            self.open_disk(
                "Passphrase for /dev/vda2: ",
                "Verifying passphrase for /dev/vda2...",
                " - failure\n",
            );
            self.say(" - success\n");
        }
        if let Some(question) = self.settings.ask.clone() {
            self.say(&question);
            self.any_key();
        }
        // The first boot of a machine leaves the file.
        let repaired = self.run.join("repaired");
        let repairs = match self.settings.boot {
            Boot::Fsck => true,
            Boot::FsckOnce => OpenOptions::new().write(true).create_new(true).open(repaired).is_ok(),
            _ => false,
        };
        if repairs {
            self.say("checking /dev/disk/by-label/nixos...\nfsck finished, rebooting...\n");
            return ControlFlow::Break(());
        }
        if self.settings.boot == Boot::Stage1 {
            self.say(
                "mounting /dev/disk/by-label/nixos on /...\n\
                 mount: mounting /dev/disk/by-label/nixos on /mnt-root/ failed: No such file or directory\n\n\
                 An error occurred in stage 1 of the boot process, which must mount the\n\
                 root filesystem on `/mnt-root' and then start stage 2.  Press one\nof the following keys:\n\n  \
                 r) to reboot immediately\n  *) to ignore the error and continue\n",
            );
            self.any_key();
            self.say("Continuing...\n");
        } else {
            self.say("mounting /dev/disk/by-label/nixos on /...\n");
        }
        self.say(
            "\n\x1b[1;32m<<< NixOS Stage 2 >>>\x1b[0m\n\nrunning activation script...\nsetting up /etc...\n",
        );
        self.say("starting systemd...\n");
        ControlFlow::Continue(())
    }

    /// An initial ramdisk in which systemd runs.
    fn systemd_initrd(&mut self, version: &str, release: &str) -> ControlFlow<()> {
        self.kernel(&format!("systemd[1]: systemd {version} running in system mode (+PAM +AUDIT -SELINUX)"));
        self.kernel("systemd[1]: Running in initrd.");
        self.say(&format!("\nWelcome to \x1b[1;34mNixOS {release} (Initrd)\x1b[0m!\n\n"));
        self.ok("Created slice \x1b[0;1;39mSlice /system/systemd-cryptsetup\x1b[0m");
        if self.settings.passphrase.is_some() {
            self.open_disk(
                "\u{1f510} Please enter passphrase for disk root (root): (press TAB for no echo) ",
                "",
                "",
            );
        }
        self.ok("Reached target \x1b[0;1;39mInitrd Root Device\x1b[0m");
        self.kernel("systemd[1]: Switching root.");
        ControlFlow::Continue(())
    }

    /// Asks for the passphrase until it comes.
    fn open_disk(&mut self, question: &str, checks: &str, refuses: &str) {
        loop {
            let given = self.tty.ask_keeping(question, false, self.settings.max_life, true);
            self.say(checks);
            match given {
                Ok(given) if Some(&given) != self.settings.passphrase.as_ref() => self.say(refuses),
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// A service that prints a line without an end, works, and notes whether something was typed.
    fn service(&mut self) {
        let Some(text) = self.settings.service.clone() else { return };
        for text in [Some(text), self.settings.service_then.clone()].into_iter().flatten() {
            self.say(&text);
            std::thread::sleep(self.settings.service_time);
        }
        let is_typed = self.tty.read(&mut [0; 64], Duration::ZERO).is_ok();
        self.say(if is_typed { "\na key came\n" } else { "\n" });
    }

    /// Waits for a key.
    fn any_key(&mut self) {
        let _ = self.tty.read(&mut [0; 64], self.settings.max_life);
    }

    fn kernel(&mut self, text: &str) {
        if self.append.contains("console=ttyS0") {
            self.tell(&format!("kernel {text}"));
        }
    }

    fn emergency(&mut self) {
        self.say("[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount \x1b[0;1;39m/data\x1b[0m.\n");
        self.ok("Reached target \x1b[0;1;39mEmergency Mode\x1b[0m");
        let sulogin = if self.settings.boot == Boot::RootLocked {
            "Cannot open access to console, the root account is locked.\nSee sulogin(8) man page for more details.\n\n\
             Press Enter to continue.\n"
        } else {
            "Give root password for maintenance\n(or press Control-D to continue): "
        };
        let mode = if self.settings.boot == Boot::Rescue { "rescue" } else { "emergency" };
        // In one piece, so that the console's last lines are the same whenever they are looked at.
        self.say(&format!(
            "You are in {mode} mode. After logging in, type \"journalctl -xb\" to view\nsystem logs, \
             \"systemctl reboot\" to reboot, or \"exit\"\nto continue bootup.\n\n{sulogin}"
        ));
    }

    fn start_getty(&mut self) {
        systemd::reset_terminal(&mut self.tty, &self.settings, &self.append);
        if let Err(error) = self.spawn_getty() {
            crate::complain!("fake-guest: start getty: {error}");
        }
    }

    fn spawn_getty(&mut self) -> io::Result<()> {
        let open = || Tty::open(&self.terminal).map(|tty| Stdio::from(tty.0));
        let mut getty = Command::new(std::env::current_exe()?);
        getty.arg("--guest-getty").stdin(open()?).stdout(open()?).stderr(open()?);
        // SAFETY: both are plain system calls, allowed between fork and exec.
        unsafe {
            getty.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let mut child = getty.spawn()?;
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let _ = child.wait();
            let _ = sender.send(Event::GettyEnded);
        });
        Ok(())
    }

    fn session_ended(&mut self) {
        self.tell("logout");
        let mark = self.run.join("session");
        if let Ok(id) = std::fs::read_to_string(&mark) {
            let _ = std::fs::remove_file(mark);
            if self.settings.flavour >= Flavour::Systemd258 {
                self.tty.print(&systemd::context_end(&id));
            }
        }
        if self.getty_wanted {
            self.start_getty();
        }
    }

    /// Shuts down; gives the exit status, or none where the shutdown hangs.
    fn shut_down(&mut self, how: &str) -> Option<i32> {
        self.getty_wanted = false;
        self.tell("shutdown");
        self.say("         Stopping \x1b[0;1;39mSession 1 of User\x1b[0m...\n");
        self.ok("Stopped target \x1b[0;1;39mMulti-User System\x1b[0m");
        self.ok("Stopped \x1b[0;1;39mSerial Getty on ttyS0\x1b[0m");
        processes::kill_descendants();
        self.tty.sane();
        if self.settings.hang_at_shutdown {
            self.say(
                "[\x1b[0;31m*\x1b[0;1;31m*\x1b[0m    ] A stop job is running for User Manager for UID 1000 ",
            );
            self.say("(4s / 2min)\n");
            return None;
        }
        let target = if how == "reboot" { "System Reboot" } else { "System Power Off" };
        self.ok(&format!("Reached target \x1b[0;1;39m{target}\x1b[0m"));
        for text in [
            "systemd-shutdown[1]: Syncing filesystems and block devices.",
            "systemd-shutdown[1]: Sending SIGTERM to remaining processes...",
            "systemd-shutdown[1]: Sending SIGKILL to remaining processes...",
            "systemd-shutdown[1]: All filesystems, swaps, loop devices, MD devices and DM devices detached.",
            if how == "reboot" {
                "systemd-shutdown[1]: Rebooting."
            } else {
                "systemd-shutdown[1]: Powering off."
            },
            if how == "reboot" { "reboot: Restarting system" } else { "reboot: Power down" },
        ] {
            self.kernel(text);
        }
        Some(if how == "reboot" { REBOOT } else { 0 })
    }
}
