//! doas and run0, as they ask on a terminal.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nixvm_fake_guest::settings::{Doas, Settings};

use crate::tty::Tty;
use crate::{shell, sudo};

/// How long a question waits.
const LIMIT: Duration = Duration::from_secs(300);

/// `doas COMMAND…`: opendoas, for the group wheel.
pub fn doas(arguments: &[String], run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    let session = rustix::process::getsid(None)?.as_raw_nonzero();
    let remembered = run.join(format!("doas-{user}-{session}"));
    let account = settings.user(user);
    if user != "root" {
        if !account.is_some_and(|account| account.wheel) {
            crate::complain!("doas: Operation not permitted");
            return Ok(ExitCode::from(1));
        }
        if !remembered.exists() {
            let question = format!("\rdoas ({user}@{}) password: ", settings.name);
            let typed = Tty::open("/dev/tty")?.ask(&question, false, LIMIT);
            if !account.is_some_and(|account| typed.is_ok_and(|typed| typed == account.password)) {
                crate::complain!("doas: Authentication failed");
                return Ok(ExitCode::from(1));
            }
            if settings.doas == Doas::Persist {
                std::fs::write(&remembered, "")?;
            }
        }
    }
    become_root(arguments, run, settings)
}

/// `run0 OPTION… COMMAND…`: polkit asks the users of the group wheel, or root where there are none.
pub fn run0(arguments: &[String], run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    let command: Vec<String> = arguments.iter().skip_while(|word| word.starts_with('-')).cloned().collect();
    if user == "root" {
        return become_root(&command, run, settings);
    }
    let mut tty = Tty::open("/dev/tty")?;
    tty.print(
        "\x1b[1;31m==== AUTHENTICATING FOR org.freedesktop.systemd1.manage-units ====\n\x1b[0m\
         Authentication is required to manage system services or other units.\n",
    );
    let mut who: Vec<&str> =
        settings.users.iter().filter(|user| user.wheel).map(|user| user.name.as_str()).collect();
    if who.is_empty() {
        who.push("root");
    }
    let mut chosen = 0;
    if let [one] = who[..] {
        tty.print(&format!("Authenticating as: {one}\n"));
    } else {
        tty.print("Multiple identities can be used for authentication:\n");
        for (number, name) in who.iter().enumerate() {
            tty.print(&format!(" {}.  The User,,, ({name})\n", number + 1));
        }
        let question = format!("Choose identity to authenticate as (1-{}): ", who.len());
        let typed = tty.ask(&question, true, LIMIT).unwrap_or_default();
        chosen = typed.trim().parse::<usize>().unwrap_or(1).saturating_sub(1).min(who.len() - 1);
    }
    let typed = tty.ask("Password: ", false, LIMIT);
    if !settings.user(who[chosen]).is_some_and(|user| typed.is_ok_and(|typed| typed == user.password)) {
        tty.print("\x1b[1;31m==== AUTHENTICATION FAILED ====\n\x1b[0m");
        crate::complain!("Failed to start transient service unit: Access denied");
        return Ok(ExitCode::from(1));
    }
    tty.print("\x1b[1;31m==== AUTHENTICATION COMPLETE ====\n\x1b[0m");
    become_root(&command, run, settings)
}

fn become_root(command: &[String], run: &Path, settings: &Settings) -> io::Result<ExitCode> {
    if sudo::opens_the_channel(run, settings, command)? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some((program, rest)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
    let path = if program.contains('/') { Some(program.into()) } else { shell::find(program) };
    let Some(path) = path else {
        crate::complain!("{program}: command not found");
        return Ok(ExitCode::from(1));
    };
    let environment = shell::environment(settings, run, "root")?;
    Err(Command::new(path).arg0(program).args(rest).env_clear().envs(environment).exec())
}
