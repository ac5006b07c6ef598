//! sudo as it behaves on a terminal: the lecture once, the question on the terminal itself, three tries.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nixvm_fake_guest::settings::{Flavour, Settings, Sudo};

use crate::tty::Tty;
use crate::{init, shell, systemd};

const LECTURE: &str = "\nWe trust you have received the usual lecture from the local System\n\
    Administrator. It usually boils down to these three things:\n\n    #1) Respect the privacy of others.\n    \
    #2) Think before you type.\n    #3) With great power comes great responsibility.\n\n\
    For security reasons, the password you type will not be visible.\n\n";

/// What sudo's own options said.
#[derive(Default)]
struct Request {
    never_ask: bool,
    from_stdin: bool,
    forget: bool,
    login: bool,
    shell: bool,
    prompt: Option<String>,
    target: Option<String>,
    command: Vec<String>,
    variables: Vec<(String, String)>,
}

/// Runs as sudo, started by `user`.
pub fn run(arguments: &[String], run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    if settings.sudo == Sudo::OldRs && arguments.first().is_some_and(|option| option == "-p") {
        crate::complain!("sudo: invalid option: '-p'");
        return Ok(ExitCode::from(1));
    }
    let Some(request) = parse(arguments) else {
        crate::complain!("usage: sudo [-HiknsSv] [-p prompt] [-u user] [VAR=value] command [arg ...]");
        return Ok(ExitCode::from(1));
    };
    // sudo remembers by terminal and session.
    let session = rustix::process::getsid(None)?.as_raw_nonzero();
    let remembered = run.join(format!("sudo-{user}-{session}"));
    if request.forget {
        let _ = std::fs::remove_file(&remembered);
    }
    let account = settings.user(user);
    let free = user == "root" || settings.sudo == Sudo::Free || remembered.exists();
    if !free && let Some(refusal) = authenticate(&request, run, settings, user)? {
        return Ok(refusal);
    }
    if user != "root" && !account.is_some_and(|account| account.wheel) {
        crate::complain!("{user} is not in the sudoers file.");
        return Ok(ExitCode::from(1));
    }
    std::fs::write(&remembered, "")?;
    if opens_the_channel(run, settings, &request.command)? {
        return Ok(ExitCode::SUCCESS);
    }
    if request.command.is_empty() && !request.login && !request.shell {
        return Ok(ExitCode::SUCCESS);
    }
    execute(&request, run, settings, user)
}

/// Whether the command opens the control channel, which is not done by running it.
pub fn opens_the_channel(run: &Path, settings: &Settings, command: &[String]) -> io::Result<bool> {
    if settings.channel
        && let [shell, c, loader, _, nonce] = command
        && (shell.as_str(), c.as_str()) == ("sh", "-c")
        && loader.contains("nixvm-channel")
    {
        init::request(run, &format!("channel {nonce}"))?;
        return Ok(true);
    }
    Ok(false)
}

/// Asks for the password. None: it was right.
fn authenticate(
    request: &Request,
    run: &Path,
    settings: &Settings,
    user: &str,
) -> io::Result<Option<ExitCode>> {
    let refuse = |text: &str| {
        crate::complain!("sudo: {text}");
        Ok(Some(ExitCode::from(1)))
    };
    if request.never_ask {
        return refuse("a password is required");
    }
    let password = settings.user(user).map(|account| account.password.clone()).unwrap_or_default();
    if request.from_stdin {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        return if line.trim_end_matches('\n') == password {
            Ok(None)
        } else {
            refuse("no password was provided")
        };
    }
    let Ok(mut tty) = Tty::open("/dev/tty") else {
        return refuse(
            "a terminal is required to read the password; either use the -S option to read from standard \
                       input or configure an askpass helper",
        );
    };
    let lectured = run.join(format!("lectured-{user}"));
    let is_rs = matches!(settings.sudo, Sudo::Rs | Sudo::OldRs);
    if !is_rs && !lectured.exists() {
        tty.print(LECTURE);
        std::fs::write(lectured, "")?;
    }
    let german =
        settings.sudo == Sudo::German && std::env::var_os("LC_ALL").is_none_or(|locale| locale != "C");
    let asked = match (&request.prompt, std::env::var("SUDO_PROMPT")) {
        _ if is_rs => format!("[sudo: {}] Password: ", request.prompt.as_deref().unwrap_or("authenticate")),
        (Some(prompt), _) => prompt.clone(),
        (None, Ok(prompt)) => prompt,
        (None, Err(_)) if german => "[sudo] Passwort für %p: ".into(),
        (None, Err(_)) => settings.passprompt.clone(),
    };
    let prompt = asked.replace("%p", user);
    for attempt in 1..=3 {
        match tty.ask(&prompt, false, Duration::from_secs(300)) {
            Ok(line) if line == password => {
                let Some(code) = &settings.code else { return Ok(None) };
                match tty.ask("Verification code: ", false, Duration::from_secs(300)) {
                    Ok(line) if line == *code => return Ok(None),
                    Ok(_) => {}
                    Err(_) => return refuse("no password was provided"),
                }
            }
            Ok(_) => {}
            Err(_) => return refuse("no password was provided"),
        }
        std::thread::sleep(settings.login_delay);
        if attempt < 3 {
            tty.print(if is_rs {
                "sudo: Authentication failed, try again.\n"
            } else {
                "Sorry, try again.\n"
            });
        }
    }
    refuse("3 incorrect password attempts")
}

fn execute(request: &Request, run: &Path, settings: &Settings, user: &str) -> io::Result<ExitCode> {
    let target = request.target.as_deref().unwrap_or("root");
    let mut command = if request.login || request.shell {
        let mut shell = shell::command(settings, run, target)?;
        if !request.login {
            shell.current_dir(std::env::current_dir()?);
        }
        if !request.command.is_empty() {
            shell.arg("-c").arg(request.command.join(" "));
        }
        shell
    } else {
        let Some((program, rest)) = request.command.split_first() else { return Ok(ExitCode::SUCCESS) };
        let path = if program.contains('/') { Some(program.into()) } else { shell::find(program) };
        let Some(path) = path else {
            crate::complain!("sudo: {program}: command not found");
            return Ok(ExitCode::from(1));
        };
        let mut command = Command::new(path);
        command.arg0(program).args(rest).env_clear().envs(shell::environment(settings, run, target)?);
        command
    };
    command.env("SUDO_USER", user).envs(request.variables.iter().cloned());
    if settings.flavour < Flavour::Systemd258 {
        return Err(command.exec());
    }
    let Ok(mut tty) = Tty::open("/dev/tty") else { return Err(command.exec()) };
    let id = systemd::context_id();
    tty.print(&systemd::context_start(&id, user, &settings.name, "sudo", "elevate"));
    let mut child = command.spawn()?;
    // The command has the terminal; its ctrl-C and ctrl-\ are not sudo's.
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: SIG_IGN is a valid disposition, and this process has one thread.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let status = child.wait()?;
    tty.print(&systemd::context_end(&id));
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn parse(arguments: &[String]) -> Option<Request> {
    let mut request = Request::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--" => {
                request.command.extend(rest.cloned());
                break;
            }
            "-n" | "--non-interactive" => request.never_ask = true,
            "-S" | "--stdin" => request.from_stdin = true,
            "-k" | "-K" => request.forget = true,
            "-i" | "--login" => request.login = true,
            "-s" | "--shell" => request.shell = true,
            "-v" | "-E" | "-H" => {}
            "-p" => request.prompt = Some(rest.next()?.clone()),
            "-u" => request.target = Some(rest.next()?.clone()),
            option if option.starts_with('-') => return None,
            word => match word.split_once('=') {
                Some((name, value)) if !name.contains('/') => {
                    request.variables.push((name.into(), value.into()))
                }
                _ => {
                    request.command.push(word.into());
                    request.command.extend(rest.cloned());
                    break;
                }
            },
        }
    }
    Some(request)
}
