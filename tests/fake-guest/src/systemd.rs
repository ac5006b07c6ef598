//! What systemd does to a terminal, by version.

use std::io::Write as _;
use std::time::{Duration, Instant};

use nixvm_fake_guest::settings::{Flavour, Settings};
use rustix::termios::{Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::tty::Tty;

/// Resets the terminal as systemd does before it uses one; the newer ones also ask it for its size and name, and
/// wait for each answer. `append` is the kernel line, where an administrator can answer beforehand.
pub fn reset_terminal(tty: &mut Tty, settings: &Settings, append: &str) {
    let term = append.split_whitespace().rev().find_map(|word| word.strip_prefix("TERM="));
    if term == Some("dumb") {
        return;
    }
    tty.print("\x1b[!p\x1b]104\x07\x1b[?7h");
    if settings.flavour < Flavour::Systemd257 {
        return;
    }
    let before = tcgetattr(&tty.0).ok();
    tty.raw();
    let known = |what: &str| append.contains(&format!("systemd.tty.{what}.console="));
    if !(known("rows") && known("columns")) {
        let answer = ask(tty, settings, "ESC[18t", "\x1b[18t", b't')
            .or_else(|| ask(tty, settings, "ESC[6n", "\x1b[32766;32766H\x1b[6n", b'R'));
        if let Some((rows, columns)) = answer.as_deref().and_then(size) {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(&tty.0, size);
        }
    }
    if settings.flavour >= Flavour::Systemd258 && term.is_none() {
        // XTGETTCAP for "TN", the terminal's name; the answer ends with ESC \.
        ask(tty, settings, "DCS+q", "\x1bP+q544e\x1b\\", b'\\');
    }
    if let Some(before) = before {
        let _ = tcsetattr(&tty.0, rustix::termios::OptionalActions::Now, &before);
    }
}

/// Sends a query and waits for the byte that ends its answer.
fn ask(tty: &mut Tty, settings: &Settings, name: &str, query: &str, last: u8) -> Option<Vec<u8>> {
    tty.flush_input();
    tty.print(query);
    let start = Instant::now();
    let mut answer = Vec::new();
    let answered = loop {
        let left = settings.query_wait.saturating_sub(start.elapsed());
        match tty.read(&mut [0; 256], left) {
            Ok(bytes) => answer.extend_from_slice(bytes),
            Err(_) => break false,
        }
        if answer.starts_with(b"\x1b") && answer.last() == Some(&last) {
            break true;
        }
    };
    if let Some(path) = &settings.report {
        let word = if answered { "answered" } else { "unanswered" };
        let line = format!("{name} {word} after {} ms\n", start.elapsed().as_millis());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
    answered.then_some(answer)
}

/// Rows and columns in `ESC[8;24;80t` or `ESC[24;80R`.
fn size(answer: &[u8]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut numbers =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u16>().ok()).rev();
    let columns = numbers.next()?;
    Some((numbers.next()?, columns))
}

/// The mark that pam_systemd of 258 puts at a session's begin and end.
pub fn context_start(id: &str, user: &str, host: &str, program: &str, kind: &str) -> String {
    format!(
        "\x1b]3008;start={id};user={user};hostname={host};machineid=3deb5353d3ba43d08201c136a47ead7b;\
         bootid=d4a3d0fdf2e24fdea6d971ce73f4fbf2;pid={};comm={program};type={kind}\x1b\\",
        std::process::id()
    )
}

/// See [`context_start`].
pub fn context_end(id: &str) -> String {
    format!("\x1b]3008;end={id}\x1b\\")
}

/// An id for a context, as long as systemd's.
pub fn context_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("{:032x}", now.as_nanos() ^ (u128::from(std::process::id()) << 96))
}

/// What the versions call themselves.
pub fn release(flavour: Flavour) -> (&'static str, &'static str, &'static str) {
    match flavour {
        Flavour::Systemd254 => ("254.6", "23.11", "23.11.7870.205fd4226592"),
        Flavour::Systemd257 => ("257.7", "25.05", "25.05.813814.ac62194c3917"),
        Flavour::Systemd258 => ("258.2", "25.11", "25.11.1948.c97c47f2bac4"),
    }
}
