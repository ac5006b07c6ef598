//! `nixvm-test replay RUN [SCENARIO]`: plays a console as a film in the terminal. The guest's bytes go to an emulator;
//! only its screen is drawn.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::record::film::Film;
use crate::record::history::{Machine, Scenario};
use crate::record::screen::{ROWS, Row};
use crate::record::{Folder, History, Tape};
use crate::scenario::Exit;
use crate::{Error, ErrorKind, FileKind, Result, report};
use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::child::Signals;

/// Interval between two checks of the keyboard.
const TICK: Duration = Duration::from_millis(30);
/// Longer pauses are shortened to this length, in seconds.
const PAUSE: f64 = 1.0;
/// Maximum length of a film's text in bytes; only the end of a longer one is played. It is many times what a report
/// holds of one film.
const LONGEST: usize = 64 << 20;
/// Time that an arrow key skips, in seconds.
const LEAP: f64 = 5.0;

const EXAMPLES: &str = "\
Examples:
  nixvm-test replay                           what failed in the newest run
  nixvm-test replay last login --speed 4      another scenario, four times as fast

Space pauses, the arrows go back and forth, q ends it. Pauses of the guest are shortened to one second.
To run a scenario against what its machine answered, without one: nixvm-test FILE.rs --against RUN";

/// Plays the console of a machine.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Replay {
    /// The run: the folder of its record, its name, the beginning of that, or `last`
    #[arg(default_value = "last")]
    run: String,
    /// The scenario, or a part of its name [default: the first that failed, else the first]
    scenario: Option<String>,
    /// The machine [default: the scenario's first]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// How many times as fast as it was
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
}

impl Replay {
    /// Plays the film until `q`. It stops at its end.
    pub async fn run(&self) -> Result<ExitCode> {
        let folder = Folder::find(&self.run)?;
        let history = History::of(folder.files())?;
        let scenario = self.scenario(&history)?;
        let (machine, transcript) = self.machine(scenario)?;
        let tape = Tape::read(folder.files(), transcript)
            .map_err(|error| Error::io("read what it printed", &error))?;
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            let log = folder.path().join(transcript).with_extension("log");
            return Err(Error::new(
                ErrorKind::Usage,
                "a film needs a terminal, and standard input or \
                output is not one",
            )
            .next_step(format!("read it as text: {}", report::printable(&log.display().to_string()))));
        }
        let film = Film::of(&tape, LONGEST);
        let mut signals = Signals::listen()?;
        let terminal = Terminal::take()?;
        let title = report::printable(&format!("{}: {}", scenario.title(), machine.name));
        let mut player = Player::new(&film, title, self.speed);
        let mut last = Instant::now();
        loop {
            player.draw();
            tokio::select! {
                _ = signals.next() => break,
                () = tokio::time::sleep(TICK) => {}
            }
            let now = Instant::now();
            player.advance((now - last).as_secs_f64());
            last = now;
            if terminal.keys().is_none_or(|keys| !player.take(&keys)) {
                break;
            }
        }
        drop(terminal);
        Ok(Exit::Passed.into())
    }

    fn scenario<'a>(&self, history: &'a History) -> Result<&'a Scenario> {
        let filmed = |scenario: &&Scenario| {
            scenario
                .attempts
                .last()
                .is_some_and(|last| last.machines.iter().any(|one| transcript(one).is_some()))
        };
        let all: Vec<&Scenario> = history.scenarios.iter().filter(filmed).collect();
        let found = match &self.scenario {
            Some(named) => {
                let exact = all.iter().find(|scenario| scenario.name == *named);
                exact.or_else(|| all.iter().find(|scenario| scenario.title().contains(named.as_str())))
            }
            None => all.iter().find(|scenario| scenario.failure().is_some()).or(all.first()),
        };
        found.copied().ok_or_else(|| {
            let what = self
                .scenario
                .as_ref()
                .map(|named| format!(" whose name contains `{named}`"))
                .unwrap_or_default();
            let names: Vec<String> =
                all.iter().map(|scenario| report::printable(&scenario.title())).collect();
            Error::new(ErrorKind::Usage, format!("the run has no scenario with a console{what}"))
                .section("those that have one", names.join("\n"))
        })
    }

    fn machine<'a>(&self, scenario: &'a Scenario) -> Result<(&'a Machine, &'a Path)> {
        let machines = || scenario.attempts.last().into_iter().flat_map(|last| &last.machines);
        let meant = |machine: &&Machine| self.machine.as_ref().is_none_or(|name| *name == machine.name);
        let mut found = machines().filter(meant).filter_map(|machine| Some((machine, transcript(machine)?)));
        found.next().ok_or_else(|| {
            let names: Vec<String> = machines().map(|machine| report::printable(&machine.name)).collect();
            let (scenario, name) =
                (report::printable(&scenario.name), self.machine.as_deref().unwrap_or_default());
            Error::new(ErrorKind::Usage, format!("{scenario} has no machine `{name}` with a console"))
                .section("its machines", names.join("\n"))
        })
    }
}

/// Returns the last console of a machine.
fn transcript(machine: &Machine) -> Option<&Path> {
    let mut files = machine.files.iter();
    files.rfind(|file| file.kind == FileKind::Transcript && file.is_within()).map(|file| file.path.as_path())
}

/// The state of the playback.
struct Player<'a> {
    film: &'a Film,
    title: String,
    speed: f64,
    at: f64,
    shown: usize,
    rows: Vec<Row>,
    paused: bool,
    drawn: String,
}

impl<'a> Player<'a> {
    fn new(film: &'a Film, title: String, speed: f64) -> Self {
        let rows = vec![Row::new(); usize::from(ROWS)];
        Self { film, title, speed, at: 0.0, shown: 0, rows, paused: false, drawn: String::new() }
    }

    fn advance(&mut self, passed: f64) {
        if self.paused {
            return;
        }
        let mut to = self.at + passed * self.speed;
        match self.film.frames.get(self.shown) {
            Some(next) if next.time - to > PAUSE => to = next.time - PAUSE,
            Some(_) => {}
            None => to = self.film.length,
        }
        self.go(to);
        self.paused = self.at >= self.film.length;
    }

    fn go(&mut self, to: f64) {
        let to = to.clamp(0.0, self.film.length);
        if to < self.at {
            self.rows.fill(Row::new());
            self.shown = 0;
        }
        self.at = to;
        while let Some(frame) = self.film.frames.get(self.shown).filter(|frame| frame.time <= to) {
            for (index, row) in &frame.rows {
                self.rows[*index].clone_from(row);
            }
            self.shown += 1;
        }
    }

    /// Handles the keys; returns `false` to quit.
    fn take(&mut self, keys: &[u8]) -> bool {
        if keys.ends_with(b"\x1b[C") {
            self.go(self.at + LEAP);
        } else if keys.ends_with(b"\x1b[D") {
            self.go(self.at - LEAP);
        } else if keys.contains(&b' ') {
            self.paused = !self.paused;
            if self.at >= self.film.length {
                self.go(0.0);
            }
        }
        let is_escape = keys == b"\x1b";
        !(is_escape || keys.contains(&b'q') || keys.contains(&3))
    }

    /// Draws what has changed since the last drawing.
    fn draw(&mut self) {
        let height = tcgetwinsize(std::io::stdout()).map_or(ROWS + 1, |size| size.ws_row).max(2);
        let first = usize::from((ROWS + 1).saturating_sub(height));
        let mut text = String::from("\x1b[H");
        for row in &self.rows[first.min(self.rows.len())..] {
            for span in row {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{}", span.style.sgr(), span.text);
            }
            text.push_str("\x1b[0m\x1b[K\r\n");
        }
        let state = if self.paused { "paused " } else { "playing" };
        let _ = write!(
            text,
            "\x1b[7m {}  {:.1} s of {:.1} s  {state}  space: pause, arrows: 5 s, q: quit \x1b[0m\x1b[K",
            self.title, self.at, self.film.length
        );
        if text != self.drawn {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            self.drawn = text;
        }
    }
}

/// The user's terminal. Its previous state is restored on drop.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn take() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Error::io("set the terminal up", &error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).map_err(failed)?;
        let taken = Self { before };
        // Alternate screen, no cursor, no line wrapping.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J").and_then(|()| out.flush());
        Ok(taken)
    }

    /// Returns the keys that were pressed; `None` when the terminal is gone.
    fn keys(&self) -> Option<Vec<u8>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = std::io::stdin();
        let mut wait = [PollFd::new(&stdin, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut wait, Some(&at_once)).is_ok_and(|ready| ready == 0) {
            return Some(Vec::new());
        }
        let mut keys = [0; 64];
        match rustix::io::read(&stdin, &mut keys) {
            Ok(0) => None,
            Ok(length) => Some(keys[..length].to_vec()),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn speed(text: &str) -> Result<f64, &'static str> {
    let speed = text.parse().ok().filter(|speed| (0.1..=1000.0).contains(speed));
    speed.ok_or("a number from 0.1 to 1000")
}
