//! What a fake guest does, as text: `key=value` words.
//!
//! They come from three places, later ones winning: a file with one `key=value` a line (its path is in
//! `FAKE_GUEST_FILE`; that is what [`FakeVm`](crate::FakeVm) writes), the environment variable `FAKE_GUEST`
//! (words between white space), and the kernel line (words that begin with `fake.`, so that
//! `QEMU_KERNEL_PARAMS=fake.boot=emergency` changes a VM that is already written).
//! A value may hold `\n`, `\r`, `\t`, `\e` (0x1b), `\s` (a space), `\\` and `\xNN`.

use std::time::Duration;

/// Everything a fake guest can be told. The defaults are a well-behaved NixOS 23.11 with the user alice,
/// password `test`, in group wheel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// `name=nixos`: the host name.
    pub name: String,
    /// `flavour=systemd-254|systemd-257|systemd-258`: how the console's bytes look.
    pub flavour: Flavour,
    /// `user=NAME:PASSWORD[:FLAG…]`, repeated; an empty password is not asked for. Flags: `nowheel` (may not
    /// use sudo), `expired` (the password must be changed at login), `unasked` (PAM lets the user in without
    /// a question, although there is a password), `uid-N` (the user's number; root has 0, the others count
    /// from 1000). `root:PASSWORD` lets root log in.
    pub users: Vec<User>,
    /// `autologin=NAME`: agetty logs this user in by itself (`services.getty.autologinUser`).
    pub autologin: Option<String>,
    /// `greeting=no`: agetty says nothing before it logs somebody in by itself (`--skip-login`).
    pub greeting: bool,
    /// `issue=TEXT`: what agetty prints before its prompt, beside NixOS's own greeting.
    pub issue: String,
    /// `german=yes`: login and PAM speak German; agetty does not.
    pub german: bool,
    /// `end-login=TEXT`: each login ends at once after its password, with this text, as where the shell is nologin.
    pub end_login: Option<String>,
    /// `env=NAME=VALUE`, repeated: a variable of every session.
    pub env: Vec<(String, String)>,
    /// `chunk=all|N|random`: how many bytes one write on the line has.
    pub chunk: Chunk,
    /// `seed=N`: for `chunk=random`.
    pub seed: u64,
    /// `delay=MS`: pause after each write on the line.
    pub delay: Duration,
    /// `kernel-noise=off|every:3ms|bytes:7`: kernel messages in between, by the clock, or after every N bytes
    /// that the guest's terminal prints.
    pub noise: Noise,
    /// `noise-from=MOMENT`: when they begin. Default `prompt`.
    pub noise_from: Moment,
    /// `noise-text=…`: what they say.
    pub noise_text: String,
    /// `noise-limit=N`: how many at most.
    pub noise_limit: usize,
    /// `caller-id=yes`: `[   12.345678][    T1] …`, as a kernel with CONFIG_PRINTK_CALLER writes.
    pub caller_id: bool,
    /// `kernel-clock=MS`: so far the kernel's clock is ahead of the uptime, or behind it, as where the processor's counter is
    /// not stable.
    pub kernel_clock: i64,
    /// `channel=yes`: the control channel is served, as far as that takes no commands.
    pub channel: bool,
    /// `boot=ok|emergency|root-locked|rescue|stage-1|no-getty|no-tty|fsck|fsck-once`.
    pub boot: Boot,
    /// `systemd-initrd=yes`: systemd runs in the initial ramdisk, and says so.
    pub systemd_initrd: bool,
    /// `passphrase=TEXT`: stage 1 asks for it, as for an encrypted disk, until it gets it.
    pub passphrase: Option<String>,
    /// `ask=TEXT`: stage 1 prints this and goes on at any key.
    pub ask: Option<String>,
    /// `service=TEXT`: a service prints this before the getty starts, works for `service-time`, and says `a key came` if
    /// something was typed meanwhile.
    pub service: Option<String>,
    /// `service-then=TEXT`: it prints this as well, and works for as long again.
    pub service_then: Option<String>,
    /// `service-time=MS`.
    pub service_time: Duration,
    /// `busy=yes`: the processor is busy all the time.
    pub busy: bool,
    /// `unpack=MS`: so long the kernel computes without a word before it starts init.
    pub unpack: Duration,
    /// `boot-delay=MS`: pause between the lines of the boot and of the shutdown.
    pub boot_delay: Duration,
    /// `panic=MOMENT[+MS]`: the kernel panics.
    pub panic: Option<At>,
    /// `die=MOMENT[+MS]`: the whole "QEMU" ends with `die-status` after printing `die-text` to stderr.
    pub die: Option<At>,
    /// `die-text=…`.
    pub die_text: String,
    /// `die-status=N`, 1 by default; below 0 it is a signal.
    pub die_status: i32,
    /// `stall=MOMENT[+MS]`: nothing more is printed or read, QEMU goes on running.
    pub stall: Option<At>,
    /// `halt=MOMENT[+MS]`: QEMU stops the guest of its own accord: it prints `halt-text` to stderr and lives on.
    pub halt: Option<At>,
    /// `halt-status=internal-error|io-error|guest-panicked`: what QEMU calls that.
    pub halt_status: Halted,
    /// `halt-text=…`.
    pub halt_text: String,
    /// `halt-once=yes`: only the first QEMU of this VM does it.
    pub halt_once: bool,
    /// `reset=MOMENT[+MS]`: the guest resets itself, in each boot.
    pub reset: Option<At>,
    /// `reset-limit=N`: so often at most.
    pub reset_limit: u32,
    /// `reset-after=N`: not in the first N boots.
    pub reset_after: u32,
    /// `clone=ok|mute|exit:TEXT|refuse:TEXT`: what one does that is started with `-incoming`. It is at the
    /// login prompt; never says a word; ends with a text on stderr; or does not take the state, with this reason.
    /// `clone-of=NAME` after it: only clones of the machine with this name do that.
    pub clone: Resumed,
    /// `kvm=ok|absent|busy|abort|msr|hang|stuck|late|internal-error`: what happens with `accel=kvm`.
    pub kvm: Kvm,
    /// `loader=yes`: a boot loader starts the kernel, which says nothing (`loglevel=4`, no parameters of the driver's).
    pub loader: bool,
    /// `qmp=ok|mute`: `mute` accepts the descriptor and never says a word.
    pub qmp_mute: bool,
    /// `ignore-acpi=yes`: the power button does nothing.
    pub ignore_acpi: bool,
    /// `ignore-poweroff=yes`: `poweroff` says nothing and does nothing.
    pub ignore_poweroff: bool,
    /// `hang-at-shutdown=yes`: the shutdown begins and never ends.
    pub hang_at_shutdown: bool,
    /// `prompt-delay=MS`: agetty takes this long to answer Enter with its prompt. With it, neither agetty nor login
    /// discards what was typed before their questions.
    pub prompt_delay: Duration,
    /// `late-echo=MS`: the name is taken, and login waits for the password, so long before the line shows either.
    pub late_echo: Duration,
    /// `lost-names=N`: the first N names are lost on the line.
    pub lost_names: u32,
    /// `late-reset=yes`: QEMU tells of a reboot only when the next boot has reached its prompt.
    pub late_reset: bool,
    /// `login-delay=MS`: how long a wrong password takes; 20 ms by default, about 3 s in a real guest.
    pub login_delay: Duration,
    /// `tries=N`: passwords until login gives up; 5 as in a real guest.
    pub tries: u32,
    /// `login-timeout=MS`: 60 s as in a real guest.
    pub login_timeout: Duration,
    /// `refuse-logins=N|yes`: so many good logins are refused with "System is booting up. …".
    pub refuse_logins: u32,
    /// `query-wait=MS`: how long a query of the terminal waits; 333 ms as in systemd.
    pub query_wait: Duration,
    /// `motd=TEXT` or `motd=bytes:N`: printed before the first prompt of a session.
    pub motd: String,
    /// `shell=bash|dash|zsh|fish|tcsh`, or the path of another program: the login shell.
    pub shell: String,
    /// `startup=TEXT`: what is in the shell's start-up file.
    pub startup: String,
    /// `ps1=…`: another prompt than NixOS's.
    pub ps1: Option<String>,
    /// `term=vt220`: the session's TERM.
    pub term: String,
    /// `sudo=password|free|german|rs|old-rs|none`: `free` is `wheelNeedsPassword = false`; `rs` is sudo-rs, `old-rs` one without
    /// `-p`; `none` has no sudo at all.
    pub sudo: Sudo,
    /// `passprompt=TEXT`: what sudo asks unless it is told otherwise; `%p` is the user (`Defaults passprompt`).
    pub passprompt: String,
    /// `code=TEXT`: sudo asks for a code as well.
    pub code: Option<String>,
    /// `doas=none|ask|persist`: whether there is a doas, and whether it remembers.
    pub doas: Doas,
    /// `run0=yes`: there is a run0, which asks by polkit.
    pub run0: bool,
    /// `max-life=MS`: the fake guest ends by itself after so long; 10 minutes.
    pub max_life: Duration,
    /// `report=FILE`: where the fake guest notes what a real one would only be slow about: one line a query
    /// of the terminal, `answered` or `unanswered`.
    pub report: Option<String>,
    pub(crate) words: Vec<String>,
}

/// Which sudo there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// The usual one, which asks for the password.
    Password,
    /// The usual one, which asks nothing.
    Free,
    /// The usual one, in German unless it is told otherwise.
    German,
    /// sudo-rs.
    Rs,
    /// sudo-rs before it knew `-p`.
    OldRs,
    /// None.
    None,
}

/// Which doas there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doas {
    /// None.
    None,
    /// One that asks each time.
    Ask,
    /// One that asks once.
    Persist,
}

/// Whose console is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Flavour {
    /// NixOS 23.11 with systemd 254: resets the terminal, asks it nothing.
    #[default]
    Systemd254,
    /// NixOS 25.05 with systemd 257: asks for the terminal's size.
    Systemd257,
    /// NixOS 25.11 with systemd 258: asks for its name too, and marks sessions with OSC 3008.
    Systemd258,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password; empty: not asked for.
    pub password: String,
    /// May use sudo.
    pub wheel: bool,
    /// Has to choose a new password at login.
    pub expired: bool,
    /// Is let in at login without a question.
    pub unasked: bool,
    /// The user's number, where it is not the usual one.
    pub uid: Option<u32>,
}

impl User {
    /// The account that every system has.
    pub fn root() -> Self {
        let (name, password) = ("root".into(), "*".into());
        Self { name, password, wheel: true, expired: false, unasked: false, uid: Some(0) }
    }
}

/// How output is cut into writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// As it comes.
    All,
    /// So many bytes a write.
    Bytes(usize),
    /// 1 to 40 bytes, by the seed.
    Random,
}

/// When kernel messages come in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Never.
    Off,
    /// One each so long.
    Every(Duration),
    /// One after each so many bytes of the guest's terminal.
    Bytes(usize),
}

/// A moment in a guest's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// `start`: before the firmware says anything.
    Start,
    /// `firmware`: after the firmware's last line.
    Firmware,
    /// `kernel`: in the middle of the kernel's lines.
    Kernel,
    /// `services`: in the middle of systemd's lines.
    Services,
    /// `prompt`: the login prompt is there.
    Prompt,
    /// `login`: the password was right, the shell starts.
    Login,
    /// `command:N`: the Nth line was typed in a shell (`command` = the first).
    Command(u32),
    /// `shutdown`: the shutdown began.
    Shutdown,
}

/// A moment, and some time after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The moment.
    pub moment: Moment,
    /// The time after it.
    pub delay: Duration,
}

/// How a boot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// With a login prompt.
    Ok,
    /// In emergency mode, with a prompt for root's password.
    Emergency,
    /// In emergency mode that can't be entered.
    RootLocked,
    /// In rescue mode, with a prompt for root's password.
    Rescue,
    /// At the dialog of NixOS's stage 1, which ignores the error at any key.
    Stage1,
    /// Without a login prompt on this line.
    NoGetty,
    /// The same, since the device did not appear.
    NoTty,
    /// Never: stage 1 repairs its file system and reboots.
    Fsck,
    /// The first boot repairs the file system and reboots; the next ones are well.
    FsckOnce,
}

/// What a clone does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It goes on at the login prompt.
    Ok,
    /// It takes the state and says nothing.
    Mute,
    /// QEMU ends with this text on stderr.
    Exit(String),
    /// It does not take the state: why.
    Refuse(String),
}

/// Why QEMU has stopped a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halted {
    /// KVM can't run it any further.
    InternalError,
    /// A disk image can't be read or written.
    IoError,
    /// Its kernel said that it has panicked.
    GuestPanicked,
}

impl Halted {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InternalError => "internal-error",
            Self::IoError => "io-error",
            Self::GuestPanicked => "guest-panicked",
        }
    }
}

/// What `accel=kvm` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kvm {
    /// Works.
    Ok,
    /// There is no KVM: `kvm:tcg` falls back, `kvm` alone fails.
    Absent,
    /// Another hypervisor has the processor.
    Busy,
    /// Aborts by an assertion (exit 134 in a shell's words).
    Abort,
    /// The same, unless `-cpu` leaves out what this host's KVM lacks.
    Msr,
    /// The firmware speaks, then nothing.
    Hang,
    /// Not a word: the processor uses all its time for one instruction.
    Stuck,
    /// Not a word for 10 s, in which the processor goes on; then it boots.
    Late,
    /// The firmware speaks, then QEMU stops the guest.
    InternalError,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "nixos".into(),
            flavour: Flavour::default(),
            users: Vec::new(),
            autologin: None,
            greeting: true,
            issue: String::new(),
            german: false,
            end_login: None,
            env: Vec::new(),
            chunk: Chunk::All,
            seed: 1,
            delay: Duration::ZERO,
            noise: Noise::Off,
            noise_from: Moment::Prompt,
            noise_text: "random: crng reseeded on system resumption".into(),
            noise_limit: usize::MAX,
            caller_id: false,
            kernel_clock: 0,
            channel: false,
            boot: Boot::Ok,
            systemd_initrd: false,
            passphrase: None,
            ask: None,
            service: None,
            service_then: None,
            service_time: Duration::ZERO,
            busy: false,
            unpack: Duration::ZERO,
            boot_delay: Duration::ZERO,
            panic: None,
            die: None,
            die_text: "qemu-system-x86_64: the fake guest was told to die".into(),
            die_status: 1,
            stall: None,
            clone: Resumed::Ok,
            halt: None,
            halt_status: Halted::InternalError,
            // As QEMU 7.2 says it.
            halt_text:
                "KVM internal error. Suberror: 1\nextra data[0]: 0x0000000000000001\nemulation failure\n\
                        EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000000"
                    .into(),
            halt_once: false,
            reset: None,
            reset_limit: u32::MAX,
            reset_after: 0,
            kvm: Kvm::Ok,
            loader: false,
            qmp_mute: false,
            ignore_acpi: false,
            ignore_poweroff: false,
            hang_at_shutdown: false,
            prompt_delay: Duration::ZERO,
            late_echo: Duration::ZERO,
            lost_names: 0,
            late_reset: false,
            login_delay: Duration::from_millis(20),
            tries: 5,
            login_timeout: Duration::from_secs(60),
            refuse_logins: 0,
            query_wait: Duration::from_millis(333),
            motd: String::new(),
            shell: "bash".into(),
            startup: String::new(),
            ps1: None,
            term: "vt220".into(),
            sudo: Sudo::Password,
            passprompt: "[sudo] password for %p: ".into(),
            code: None,
            doas: Doas::None,
            run0: false,
            max_life: Duration::from_secs(600),
            report: None,
            words: Vec::new(),
        }
    }
}
