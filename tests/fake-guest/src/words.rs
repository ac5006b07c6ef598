//! From `key=value` words to [`Settings`].

use std::time::Duration;

use crate::settings::{
    At, Boot, Chunk, Doas, Flavour, Halted, Kvm, Moment, Noise, Resumed, Settings, Sudo, User,
};

impl Settings {
    /// Reads settings from the environment and from the kernel line `append`.
    ///
    /// # Errors
    /// A word that makes no sense, or a settings file that can't be read, named.
    pub fn load(append: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        if let Ok(path) = std::env::var("FAKE_GUEST_FILE") {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
            settings.read_lines(&text)?;
        }
        for word in std::env::var("FAKE_GUEST").unwrap_or_default().split_whitespace() {
            settings.word(word)?;
        }
        for word in append.split_whitespace().filter_map(|word| word.strip_prefix("fake.")) {
            settings.word(word)?;
        }
        if settings.users.is_empty() {
            settings.word("user=alice:test")?;
        }
        Ok(settings)
    }

    /// Takes one `key=value` from each line that is not empty and not a comment.
    ///
    /// # Errors
    /// A line that makes no sense.
    pub fn read_lines(&mut self, text: &str) -> Result<(), String> {
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            self.word(line)?;
        }
        Ok(())
    }

    /// Takes one `key=value`.
    ///
    /// # Errors
    /// An unknown key or a value that makes no sense.
    pub fn word(&mut self, word: &str) -> Result<(), String> {
        let (key, raw) = word.split_once('=').unwrap_or((word, "yes"));
        self.set(key, &unescape(raw)).map_err(|why| format!("fake guest: {word:?}: {why}"))?;
        self.words.push(word.into());
        Ok(())
    }

    /// Everything that was taken, one word a line, for [`Settings::read_lines`].
    pub fn to_lines(&self) -> String {
        self.words.join("\n")
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "name" => self.name = value.into(),
            "flavour" => {
                self.flavour = match value {
                    "systemd-254" => Flavour::Systemd254,
                    "systemd-257" => Flavour::Systemd257,
                    "systemd-258" => Flavour::Systemd258,
                    _ => return Err("systemd-254, systemd-257 or systemd-258".into()),
                }
            }
            "user" => self.users.push(user(value)?),
            "autologin" => self.autologin = Some(value.into()),
            "greeting" => self.greeting = flag(value)?,
            "issue" => self.issue = value.into(),
            "german" => self.german = flag(value)?,
            "end-login" => self.end_login = Some(value.into()),
            "env" => {
                let (name, value) = value.split_once('=').ok_or("NAME=VALUE")?;
                self.env.push((name.into(), value.into()));
            }
            "chunk" => {
                self.chunk = match value {
                    "all" => Chunk::All,
                    "random" => Chunk::Random,
                    n => Chunk::Bytes(number::<usize>(n)?.max(1)),
                }
            }
            "seed" => self.seed = number(value)?,
            "delay" => self.delay = duration(value)?,
            "kernel-noise" => {
                self.noise = match value.split_once(':') {
                    None if value == "off" => Noise::Off,
                    Some(("every", time)) => Noise::Every(duration(time)?),
                    Some(("bytes", n)) => Noise::Bytes(number::<usize>(n)?.max(1)),
                    _ => return Err("off, every:TIME or bytes:N".into()),
                }
            }
            "noise-from" => self.noise_from = at(value)?.moment,
            "noise-text" => self.noise_text = value.into(),
            "noise-limit" => self.noise_limit = number(value)?,
            "caller-id" => self.caller_id = flag(value)?,
            "kernel-clock" => self.kernel_clock = number(value)?,
            "channel" => self.channel = flag(value)?,
            "boot" => {
                self.boot = match value {
                    "ok" => Boot::Ok,
                    "emergency" => Boot::Emergency,
                    "root-locked" => Boot::RootLocked,
                    "rescue" => Boot::Rescue,
                    "stage-1" => Boot::Stage1,
                    "no-getty" => Boot::NoGetty,
                    "no-tty" => Boot::NoTty,
                    "fsck" => Boot::Fsck,
                    "fsck-once" => Boot::FsckOnce,
                    _ => {
                        let known = "ok, emergency, root-locked, rescue, stage-1, no-getty, no-tty, fsck or fsck-once";
                        return Err(known.into());
                    }
                }
            }
            "systemd-initrd" => self.systemd_initrd = flag(value)?,
            "passphrase" => self.passphrase = Some(value.into()),
            "ask" => self.ask = Some(value.into()),
            "service" => self.service = Some(value.into()),
            "service-then" => self.service_then = Some(value.into()),
            "service-time" => self.service_time = duration(value)?,
            "busy" => self.busy = flag(value)?,
            "unpack" => self.unpack = duration(value)?,
            "boot-delay" => self.boot_delay = duration(value)?,
            "panic" => self.panic = Some(at(value)?),
            "die" => self.die = Some(at(value)?),
            "die-text" => self.die_text = value.into(),
            "die-status" => self.die_status = number(value)?,
            "stall" => self.stall = Some(at(value)?),
            "clone" => {
                self.clone = match value.split_once(':') {
                    Some(("exit", text)) => Resumed::Exit(text.into()),
                    Some(("refuse", text)) => Resumed::Refuse(text.into()),
                    None if value == "ok" => Resumed::Ok,
                    None if value == "mute" => Resumed::Mute,
                    _ => return Err("ok, mute, exit:TEXT or refuse:TEXT".into()),
                }
            }
            // The machine's name, as this project's processes say whose QEMU one is.
            "clone-of" => {
                if std::env::var("NIXVM_MACHINE").is_ok_and(|machine| machine != value) {
                    self.clone = Resumed::Ok;
                }
            }
            "halt" => self.halt = Some(at(value)?),
            "halt-status" => {
                self.halt_status = match value {
                    "internal-error" => Halted::InternalError,
                    "io-error" => Halted::IoError,
                    "guest-panicked" => Halted::GuestPanicked,
                    _ => return Err("internal-error, io-error or guest-panicked".into()),
                }
            }
            "halt-text" => self.halt_text = value.into(),
            "halt-once" => self.halt_once = flag(value)?,
            "reset" => self.reset = Some(at(value)?),
            "reset-limit" => self.reset_limit = number(value)?,
            "reset-after" => self.reset_after = number(value)?,
            "kvm" => {
                self.kvm = match value {
                    "ok" => Kvm::Ok,
                    "absent" => Kvm::Absent,
                    "busy" => Kvm::Busy,
                    "abort" => Kvm::Abort,
                    "msr" => Kvm::Msr,
                    "hang" => Kvm::Hang,
                    "stuck" => Kvm::Stuck,
                    "late" => Kvm::Late,
                    "internal-error" => Kvm::InternalError,
                    _ => {
                        return Err(
                            "ok, absent, busy, abort, msr, hang, stuck, late or internal-error".into()
                        );
                    }
                }
            }
            "loader" => self.loader = flag(value)?,
            "qmp" => self.qmp_mute = value == "mute",
            "ignore-acpi" => self.ignore_acpi = flag(value)?,
            "ignore-poweroff" => self.ignore_poweroff = flag(value)?,
            "hang-at-shutdown" => self.hang_at_shutdown = flag(value)?,
            "prompt-delay" => self.prompt_delay = duration(value)?,
            "late-echo" => self.late_echo = duration(value)?,
            "lost-names" => self.lost_names = number(value)?,
            "late-reset" => self.late_reset = flag(value)?,
            "login-delay" => self.login_delay = duration(value)?,
            "tries" => self.tries = number(value)?,
            "login-timeout" => self.login_timeout = duration(value)?,
            "refuse-logins" => self.refuse_logins = if value == "yes" { u32::MAX } else { number(value)? },
            "query-wait" => self.query_wait = duration(value)?,
            "motd" => {
                self.motd = match value.strip_prefix("bytes:") {
                    Some(n) => filler(number(n)?),
                    None => value.into(),
                }
            }
            "shell" => self.shell = value.into(),
            "startup" => self.startup = value.into(),
            "ps1" => self.ps1 = Some(value.into()),
            "term" => self.term = value.into(),
            "sudo" => {
                self.sudo = match value {
                    "password" => Sudo::Password,
                    "free" => Sudo::Free,
                    "german" => Sudo::German,
                    "rs" => Sudo::Rs,
                    "old-rs" => Sudo::OldRs,
                    "none" => Sudo::None,
                    _ => return Err("password, free, german, rs, old-rs or none".into()),
                }
            }
            "passprompt" => self.passprompt = value.into(),
            "code" => self.code = Some(value.into()),
            "doas" => {
                self.doas = match value {
                    "none" => Doas::None,
                    "ask" => Doas::Ask,
                    "persist" => Doas::Persist,
                    _ => return Err("none, ask or persist".into()),
                }
            }
            "run0" => self.run0 = flag(value)?,
            "max-life" => self.max_life = duration(value)?,
            "report" => self.report = Some(value.into()),
            _ => return Err("unknown setting".into()),
        }
        Ok(())
    }

    /// The account of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().rev().find(|user| user.name == name)
    }

    /// The number of the account of that name.
    pub fn uid(&self, name: &str) -> Option<u32> {
        let mut users = self.users.iter();
        match (name, users.rposition(|user| user.name == name)) {
            ("root", _) => Some(0),
            (_, None) => None,
            (_, Some(at)) => self.users[at].uid.or_else(|| u32::try_from(1000 + at).ok()),
        }
    }

    /// The first account with that number, as getpwuid(3) finds it.
    pub fn name_of(&self, uid: u32) -> Option<&str> {
        let names = std::iter::once("root").chain(self.users.iter().map(|user| user.name.as_str()));
        names.into_iter().find(|name| self.uid(name) == Some(uid))
    }
}

fn user(value: &str) -> Result<User, String> {
    let mut parts = value.split(':');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or("NAME:PASSWORD[:FLAG…]")?;
    let password = parts.next().unwrap_or_default();
    let (name, password) = (name.into(), password.into());
    let mut user = User { name, password, wheel: true, expired: false, unasked: false, uid: None };
    for flag in parts {
        match flag {
            "nowheel" => user.wheel = false,
            "expired" => user.expired = true,
            "unasked" => user.unasked = true,
            flag => match flag.strip_prefix("uid-") {
                Some(uid) => user.uid = Some(number(uid)?),
                None => return Err(format!("unknown flag {flag}: nowheel, expired, unasked or uid-N")),
            },
        }
    }
    Ok(user)
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "not a number".into())
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

/// `5`, `5ms`, `2s`, `500us`; a bare number is milliseconds.
fn duration(value: &str) -> Result<Duration, String> {
    if let Some(n) = value.strip_suffix("us") {
        number(n).map(Duration::from_micros)
    } else if let Some(n) = value.strip_suffix("ms") {
        number(n).map(Duration::from_millis)
    } else if let Some(n) = value.strip_suffix('s') {
        number(n).map(Duration::from_secs)
    } else {
        number(value).map(Duration::from_millis)
    }
}

fn at(value: &str) -> Result<At, String> {
    let (moment, delay) = match value.split_once('+') {
        Some((moment, delay)) => (moment, duration(delay)?),
        None => (value, Duration::ZERO),
    };
    let moment = match moment {
        "start" => Moment::Start,
        "firmware" => Moment::Firmware,
        "kernel" => Moment::Kernel,
        "services" => Moment::Services,
        "prompt" => Moment::Prompt,
        "login" => Moment::Login,
        "command" => Moment::Command(1),
        "shutdown" => Moment::Shutdown,
        other => match other.strip_prefix("command:") {
            Some(n) => Moment::Command(number(n)?),
            None => {
                return Err(
                    "start, firmware, kernel, services, prompt, login, command[:N] or shutdown".into()
                );
            }
        },
    };
    Ok(At { moment, delay })
}

fn filler(bytes: usize) -> String {
    let line = "All work and no play makes the message of the day a long one.\n";
    line.chars().cycle().take(bytes).collect()
}

/// Writes `value` so that [`Settings::word`] reads it back.
pub(crate) fn escape(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x1b' => out.push_str("\\e"),
            c => out.push(c),
        }
    }
    out
}

fn unescape(value: &str) -> String {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('e') => out.push('\x1b'),
            Some('s') => out.push(' '),
            Some('x') => {
                let hex: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&hex, 16).map_or('?', char::from));
            }
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let mut settings = Settings::default();
        let text = "user=bob::nowheel\nchunk=3\nkernel-noise=every:3ms\npanic=command:2+50ms\nps1=λ\\s\n# a comment\n";
        settings.read_lines(text).unwrap();
        assert_eq!(settings.user("bob").map(|user| (user.password.as_str(), user.wheel)), Some(("", false)));
        assert_eq!(settings.chunk, Chunk::Bytes(3));
        assert_eq!(settings.noise, Noise::Every(Duration::from_millis(3)));
        assert_eq!(settings.panic, Some(At { moment: Moment::Command(2), delay: Duration::from_millis(50) }));
        assert_eq!(settings.ps1.as_deref(), Some("λ "));
    }

    #[test]
    fn a_word_that_makes_no_sense_is_named() {
        let error = Settings::default().word("colour=red").unwrap_err();
        assert!(error.contains("colour=red"), "{error}");
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let odd = "two\nlines \x1b[1m\\s end";
        assert_eq!(unescape(&escape(odd)), odd);
    }
}
