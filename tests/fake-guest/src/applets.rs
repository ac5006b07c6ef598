//! The guest's programs that must not be the host's: what a shell finds first on its path.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nixvm_fake_guest::settings::{Doas, Settings, Sudo};

use crate::{accounts, elevation, init, sudo, systemd};

/// The names under which this program is one of the guest's.
pub const NAMES: &[&str] = &[
    "cowsay",
    "dmesg",
    "doas",
    "fake",
    "halt",
    "hostname",
    "id",
    "login",
    "lolcat",
    "poweroff",
    "reboot",
    "run0",
    "setpriv",
    "shutdown",
    "su",
    "sudo",
    "systemctl",
    "unix_chkpwd",
    "whoami",
];

/// Puts them into the guest's `bin`; as root, also over the host's own, so that no test can turn the host off.
pub fn install(run: &Path, settings: &Settings) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let bin = run.join("bin");
    std::fs::create_dir_all(&bin)?;
    let is_there = |name: &&&str| match **name {
        "sudo" => settings.sudo != Sudo::None,
        "doas" => settings.doas != Doas::None,
        "run0" => settings.run0,
        _ => true,
    };
    for name in NAMES.iter().filter(is_there) {
        match symlink(&program, bin.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if rustix::process::geteuid().is_root() {
        shield_host(&program, run);
    }
    Ok(())
}

/// In a mount namespace of the guest's own: `sudo /sbin/poweroff` and /proc/sysrq-trigger are the guest's. Where the host
/// forbids it there is nothing to shield with, and the guest's path still comes first.
fn shield_host(program: &Path, run: &Path) {
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
    // SAFETY: a mount namespace shares no memory or descriptors with anything else in this process.
    if unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.is_err()
        || mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).is_err()
    {
        return;
    }
    for folder in ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/run/current-system/sw/bin"] {
        for name in ["halt", "poweroff", "reboot", "shutdown", "systemctl"] {
            let path = Path::new(folder).join(name);
            // Most are links to one systemctl, which is covered once.
            if path.canonicalize().is_ok_and(|real| real.is_file()) {
                let _ = mount_bind(program, &path);
            }
        }
    }
    let _ = mount_bind(run.join("sysrq"), "/proc/sysrq-trigger");
}

/// Runs as the program `name`.
pub fn run(name: &str, arguments: &[String]) -> io::Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match name {
        "cowsay" => return cowsay(&words),
        "lolcat" => return lolcat(&words),
        _ => {}
    }
    let run = std::env::var_os("FAKE_GUEST_RUN").map(PathBuf::from);
    let run =
        run.ok_or_else(|| io::Error::other("FAKE_GUEST_RUN is not set: this is a fake guest's program"))?;
    let user = std::env::var("FAKE_GUEST_USER").unwrap_or_else(|_| "root".into());
    let settings = init::load_settings(&run)?;
    match (name, words.first().copied().unwrap_or_default()) {
        ("sudo", _) => return sudo::run(arguments, &run, &settings, &user),
        ("doas", _) => return elevation::doas(arguments, &run, &settings, &user),
        ("run0", _) => return elevation::run0(arguments, &run, &settings, &user),
        ("dmesg", _) => out(&std::fs::read(run.join("kmsg"))?),
        ("hostname", _) => out(format!("{}\n", settings.name).as_bytes()),
        ("whoami", _) => out(format!("{user}\n").as_bytes()),
        ("id", _) => return Ok(accounts::id(&settings, &user, &words)),
        ("login", _) => return accounts::login(&words, &run, &settings, &user),
        ("su", _) => return accounts::su(&words, &run, &settings, &user),
        ("setpriv", _) => return accounts::setpriv(&words),
        ("unix_chkpwd", _) => return Ok(accounts::unix_chkpwd(&words, &settings)),
        ("fake", _) => return fake(&run, arguments),
        ("systemctl", "poweroff" | "reboot" | "halt") => return power(&run, &settings, &user, words[0]),
        ("systemctl", _) => return Ok(systemctl(&settings, &words)),
        ("shutdown", _) if words.contains(&"-r") => return power(&run, &settings, &user, "reboot"),
        ("reboot", _) => return power(&run, &settings, &user, "reboot"),
        _ => return power(&run, &settings, &user, "poweroff"),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn out(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}

fn power(run: &Path, settings: &Settings, user: &str, how: &str) -> io::Result<ExitCode> {
    if user != "root" {
        crate::complain!("Call to PowerOff failed: Interactive authentication required.");
        return Ok(ExitCode::from(1));
    }
    if !settings.ignore_poweroff {
        init::request(run, if how == "reboot" { "reboot" } else { "poweroff" })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Trouble on demand: the words that init hands to the hardware.
fn fake(run: &Path, arguments: &[String]) -> io::Result<ExitCode> {
    let verb = arguments.first().map(String::as_str).unwrap_or_default();
    if !["panic", "die", "stall", "halt", "reset", "kernel", "noise"].contains(&verb) {
        crate::complain!(
            "usage: fake panic [REASON] | die [STATUS] | stall | kernel TEXT | noise off|every:TIME|bytes:N"
        );
        return Ok(ExitCode::from(2));
    }
    init::request(run, &arguments.join(" "))?;
    if matches!(verb, "panic" | "die" | "stall" | "halt" | "reset") {
        // The guest is dead or about to be: this command never ends.
        std::thread::sleep(Duration::from_secs(3600));
    }
    Ok(ExitCode::SUCCESS)
}

fn systemctl(settings: &Settings, words: &[&str]) -> ExitCode {
    let text = match words {
        ["is-system-running", ..] => "running\n".into(),
        ["is-active", ..] => "active\n".into(),
        ["is-failed", ..] => {
            out(b"active\n");
            return ExitCode::from(1);
        }
        ["show", ..] => "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n".into(),
        ["--version", ..] => {
            let (version, ..) = systemd::release(settings.flavour);
            format!("systemd {} ({version})\n+PAM +AUDIT -SELINUX\n", &version[..3])
        }
        ["--failed" | "list-units", ..] => {
            "  UNIT LOAD ACTIVE SUB DESCRIPTION\n0 loaded units listed.\n".into()
        }
        ["start" | "stop" | "restart" | "daemon-reload", ..] => String::new(),
        _ => {
            crate::complain!("Unknown command verb {}.", words.first().unwrap_or(&"(none)"));
            return ExitCode::from(1);
        }
    };
    out(text.as_bytes());
    ExitCode::SUCCESS
}

fn input(words: &[&str]) -> io::Result<Vec<u8>> {
    let mut bytes = words.join(" ").into_bytes();
    if words.is_empty() {
        io::stdin().read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn cowsay(words: &[&str]) -> io::Result<ExitCode> {
    let bytes = input(words)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut balloon = format!(" {}\n", "_".repeat(width + 2));
    for (number, line) in lines.iter().enumerate() {
        let (left, right) = match (lines.len(), number) {
            (1, _) => ('<', '>'),
            (_, 0) => ('/', '\\'),
            (count, number) if number + 1 == count => ('\\', '/'),
            _ => ('|', '|'),
        };
        balloon.push_str(&format!("{left} {line:<width$} {right}\n"));
    }
    balloon.push_str(&format!(" {}\n", "-".repeat(width + 2)));
    balloon.push_str(
        "        \\   ^__^\n         \\  (oo)\\_______\n            (__)\\       )\\/\\\n                ||----w |\n\
         \u{20}               ||     ||\n",
    );
    out(balloon.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Every letter gets a colour of its own, but only on a terminal.
fn lolcat(words: &[&str]) -> io::Result<ExitCode> {
    let mut bytes = Vec::new();
    let coloured = io::stdout().is_terminal() || words.contains(&"-f");
    match words.iter().find(|word| !word.starts_with('-')) {
        Some(path) => bytes = std::fs::read(path)?,
        None => {
            io::stdin().read_to_end(&mut bytes)?;
        }
    }
    if !coloured {
        out(&bytes);
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (line, content) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        for (column, letter) in content.chars().enumerate() {
            let colour = [154, 118, 48, 51, 39, 63, 129, 201, 198, 208, 214, 184][(line + column / 2) % 12];
            text.push_str(&format!("\x1b[38;5;{colour}m{letter}\x1b[39m"));
        }
        text.push('\n');
    }
    out(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
