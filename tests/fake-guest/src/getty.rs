//! agetty and login on the serial line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nixvm_fake_guest::settings::{Settings, User};

use crate::tty::{NoLine, Tty};
use crate::{init, shell, systemd};

/// Runs as getty on standard input, which is the controlling terminal; becomes the shell after a good login.
pub fn run() -> io::Result<ExitCode> {
    let run = std::env::var_os("FAKE_GUEST_RUN").map(PathBuf::from);
    let run = run.ok_or_else(|| io::Error::other("FAKE_GUEST_RUN is not set: getty is not for people"))?;
    let settings = init::load_settings(&run)?;
    let mut tty = Tty::open("/dev/tty")?;
    if let Some(name) = &settings.autologin {
        tty.sane();
        if settings.greeting {
            tty.print(&format!("{}{name} (automatic login)\n\n", greeting(&settings)));
        }
        let _ = init::request(&run, "prompt");
        let user =
            settings.user(name).cloned().unwrap_or_else(|| User { name: name.clone(), ..User::root() });
        return begin_session(&mut tty, &settings, &run, &user);
    }
    let Some(name) = ask_name(&mut tty, &settings, &run) else { return Ok(ExitCode::SUCCESS) };
    tty.sane();
    if !settings.late_echo.is_zero() {
        tty.hidden();
        std::thread::sleep(settings.late_echo);
        tty.print(&name);
    }
    tty.print("\n");
    login(&mut tty, &settings, &run, name)
}

/// login, when it is given a name: asks for the password and becomes the shell.
pub fn login(tty: &mut Tty, settings: &Settings, run: &Path, name: String) -> io::Result<ExitCode> {
    let Some(user) = authenticate(tty, settings, name) else { return Ok(ExitCode::SUCCESS) };
    if refused(tty, settings, run, user) {
        return Ok(ExitCode::SUCCESS);
    }
    begin_session(tty, settings, run, user)
}

/// What follows a good login.
fn begin_session(tty: &mut Tty, settings: &Settings, run: &Path, user: &User) -> io::Result<ExitCode> {
    if user.expired && change_password(tty, settings, user).is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let id = systemd::context_id();
    std::fs::write(run.join("session"), &id)?;
    if settings.flavour >= nixvm_fake_guest::Flavour::Systemd258 {
        tty.print(&systemd::context_start(&id, &user.name, &settings.name, "login", "session"));
    }
    if !settings.motd.is_empty() {
        tty.print(&settings.motd);
    }
    // Whoever the console logs in by itself stays.
    if let Some(last_words) = &settings.end_login
        && settings.autologin.as_ref() != Some(&user.name)
    {
        tty.print(last_words);
        return Ok(ExitCode::SUCCESS);
    }
    init::request(run, "login")?;
    Err(shell::become_shell(settings, run, &user.name))
}

/// agetty: the line is raw, what was typed before the prompt is thrown away, and it echoes by itself.
fn ask_name(tty: &mut Tty, settings: &Settings, run: &Path) -> Option<String> {
    tty.raw();
    tty.flush_input();
    let mut lost = settings.lost_names;
    loop {
        tty.print(&greeting(settings));
        let _ = init::request(run, "prompt");
        let mut name = read_name(tty, lost == 0 && settings.late_echo.is_zero())?;
        while lost > 0 && !name.is_empty() {
            lost -= 1;
            name = read_name(tty, lost == 0)?;
        }
        if !name.is_empty() {
            return Some(name);
        }
        std::thread::sleep(settings.prompt_delay);
        if settings.prompt_delay.is_zero() {
            tty.flush_input();
        }
    }
}

/// The issue and the prompt.
fn greeting(settings: &Settings) -> String {
    let (_, _, label) = systemd::release(settings.flavour);
    format!(
        "\r\r\n\r\n<<< Welcome to NixOS {label} (x86_64) - ttyS0 >>>\r\n\r\nRun 'nixos-help' for the NixOS manual.\
         \r\n{}\r\n{} login: ",
        settings.issue.replace('\n', "\r\n"),
        settings.name
    )
}

/// Reads bytes until Enter, echoing them if it is told to. None: ctrl-C, ctrl-D, or the line is gone.
fn read_name(tty: &mut Tty, echo: bool) -> Option<String> {
    let mut name: Vec<u8> = Vec::new();
    loop {
        // One byte at a time: what follows Enter is for whoever reads next.
        let byte = *tty.read(&mut [0; 1], Duration::from_secs(600)).ok()?.first()?;
        match byte {
            b'\r' | b'\n' => return Some(String::from_utf8_lossy(&name).into_owned()),
            0x08 | 0x7f => {
                if name.pop().is_some() {
                    tty.print("\x08 \x08");
                }
            }
            0x15 => {
                while name.pop().is_some() {
                    tty.print("\x08 \x08");
                }
            }
            0x03 | 0x04 => return None,
            byte => {
                name.push(byte);
                if echo {
                    use std::io::Write as _;
                    let _ = tty.0.write_all(&[byte]);
                }
            }
        }
    }
}

/// login: asks for passwords until one is right.
fn authenticate<'a>(tty: &mut Tty, settings: &'a Settings, mut name: String) -> Option<&'a User> {
    let mut failures = 0;
    loop {
        let user = settings.user(&name);
        if let Some(user) = user.filter(|user| user.password.is_empty() || user.unasked) {
            return Some(user);
        }
        let password = match tty.ask_keeping(
            if settings.german { "Passwort: " } else { "Password: " },
            false,
            settings.login_timeout,
            !(settings.prompt_delay.is_zero() && settings.late_echo.is_zero()),
        ) {
            Ok(password) => password,
            Err(why) => return gave_up(tty, settings, why),
        };
        if let Some(user) = user.filter(|user| user.password == password) {
            return Some(user);
        }
        std::thread::sleep(settings.login_delay);
        let refusal = if settings.german { "\nLogin fehlerhaft\n\n" } else { "\nLogin incorrect\n" };
        failures += 1;
        if failures >= settings.tries {
            tty.print(refusal);
            return None;
        }
        let prompt = format!("{} {}: ", settings.name, if settings.german { "Anmeldename" } else { "login" });
        // In one piece, so that whoever looks at the console after the refusal always sees the same.
        let mut asked = format!("{refusal}{prompt}");
        loop {
            match tty.ask(&asked, true, settings.login_timeout) {
                Ok(line) if line.is_empty() => asked.clone_from(&prompt),
                Ok(line) => {
                    name = line;
                    break;
                }
                Err(why) => return gave_up(tty, settings, why),
            }
        }
    }
}

fn gave_up<T>(tty: &mut Tty, settings: &Settings, why: NoLine) -> Option<T> {
    if matches!(why, NoLine::Timeout) {
        tty.print(&format!("\nLogin timed out after {} seconds.\n", settings.login_timeout.as_secs()));
    }
    None
}

/// pam_nologin while the system is starting: so many logins are turned away; root never is.
fn refused(tty: &mut Tty, settings: &Settings, run: &Path, user: &User) -> bool {
    let counter = run.join("refused");
    let so_far: u32 = std::fs::read_to_string(&counter).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    if user.name == "root" || so_far >= settings.refuse_logins {
        return false;
    }
    let _ = std::fs::write(counter, (so_far + 1).to_string());
    tty.print(
        "\nSystem is booting up. Unprivileged users are not permitted to log in yet. Please come back later. \
         For technical details, see pam_nologin(8).\n\nAuthentication failure\n",
    );
    std::thread::sleep(settings.login_delay);
    true
}

/// An expired password: the old one once more, the new one twice.
fn change_password(tty: &mut Tty, settings: &Settings, user: &User) -> Option<()> {
    let limit = settings.login_timeout;
    tty.print("You are required to change your password immediately (administrator enforced).\n");
    tty.print(&format!("Changing password for {}.\n", user.name));
    let current = tty.ask("Current password: ", false, limit).ok()?;
    if current != user.password {
        tty.print("\nAuthentication token manipulation error\n");
        return None;
    }
    let new = tty.ask("New password: ", false, limit).ok()?;
    let again = tty.ask("Retype new password: ", false, limit).ok()?;
    if new != again {
        tty.print("Sorry, passwords do not match.\n\nAuthentication token manipulation error\n");
        return None;
    }
    Some(())
}
