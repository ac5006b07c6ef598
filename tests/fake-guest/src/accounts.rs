//! The programs that tell, check and change who somebody is: `id`, `login`, `su`, `setpriv`, `unix_chkpwd`.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nixvm_fake_guest::settings::Settings;

use crate::applets::out;
use crate::tty::Tty;
use crate::{getty, shell};

/// `id [-u|-un|-g|-gn] [USER]`.
pub fn id(settings: &Settings, user: &str, words: &[&str]) -> ExitCode {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().filter(|word| **word != "--").partition(|word| word.starts_with('-'));
    let asked = names.first().copied().unwrap_or(user);
    let Some(uid) = settings.uid(asked) else {
        crate::complain!("id: '{asked}': no such user");
        return ExitCode::from(1);
    };
    let name = settings.name_of(uid).unwrap_or(asked);
    let (gid, group) = if uid == 0 { (0, "root") } else { (100, "users") };
    let text = match options.first().copied().unwrap_or_default() {
        "-u" => uid.to_string(),
        "-un" | "-nu" => name.to_owned(),
        "-g" => gid.to_string(),
        "-gn" | "-ng" => group.to_owned(),
        _ if uid == 0 => format!("uid=0({name}) gid=0(root) groups=0(root)"),
        _ => format!("uid={uid}({name}) gid=100(users) groups=100(users),1(wheel)"),
    };
    out(format!("{text}\n").as_bytes());
    ExitCode::SUCCESS
}

/// `login [--] USER`, as root alone may.
pub fn login(words: &[&str], run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    if user != "root" {
        crate::complain!("login: Cannot possibly work without effective root");
        return Ok(ExitCode::from(1));
    }
    let name = words.iter().rfind(|word| !word.starts_with('-')).copied().unwrap_or_default();
    getty::login(&mut Tty::open("/dev/tty")?, settings, run, name.to_owned())
}

/// `su - USER`: root is asked nothing, and everybody else for the password of USER. An account without a password lets
/// nobody in (NixOS's PAM service `su` lacks `nullok`).
pub fn su(words: &[&str], run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    let target = words.iter().rfind(|word| !word.starts_with('-')).copied().unwrap_or("root");
    let account = settings.user(target);
    if settings.uid(target).is_none() {
        crate::complain!(
            "su: user {target} does not exist or the user entry does not contain all the required fields"
        );
        return Ok(ExitCode::from(1));
    }
    if user != "root" {
        let asked = Tty::open("/dev/tty")?.ask("Password: ", false, Duration::from_secs(60));
        let good = account.is_some_and(|account| {
            !account.password.is_empty() && asked.as_deref().is_ok_and(|typed| typed == account.password)
        });
        if !good {
            std::thread::sleep(settings.login_delay);
            crate::complain!("su: Authentication failure");
            return Ok(ExitCode::from(1));
        }
    }
    Err(shell::become_shell(settings, run, target))
}

/// `setpriv OPTION… PROGRAM…`: only the user of the guest changes.
pub fn setpriv(words: &[&str]) -> io::Result<ExitCode> {
    let user = words.iter().find_map(|word| word.strip_prefix("--reuid=")).unwrap_or("nobody");
    let command: Vec<&str> = words.iter().skip_while(|word| word.starts_with('-')).copied().collect();
    let Some((program, rest)) = command.split_first() else { return Ok(ExitCode::from(1)) };
    Err(Command::new(program).args(rest).env("FAKE_GUEST_USER", user).exec())
}

/// `unix_chkpwd USER nullok`: whether what is on standard input is the user's password. Its own exit status for a wrong one.
pub fn unix_chkpwd(words: &[&str], settings: &Settings) -> ExitCode {
    let mut typed = Vec::new();
    let read = io::stdin().read_to_end(&mut typed);
    let typed = typed.split(|byte| *byte == 0).next().unwrap_or_default();
    let user = words.first().and_then(|name| settings.user(name));
    match user {
        Some(user) if read.is_ok() && user.password.as_bytes() == typed => ExitCode::SUCCESS,
        _ => ExitCode::from(7),
    }
}
