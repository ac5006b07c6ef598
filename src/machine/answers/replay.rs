//! Reads answers, in the place of a machine.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use super::IN_PASSING;
use super::line::{Came, Line, START, Start};
use crate::console::{Console, secret};
use crate::machine::shell_line::shorten;
use crate::record::in_a_path;
use crate::{Error, ErrorKind, Result, nearest};

/// As much of a file of answers is read.
const MOST: u64 = 1 << 30;
/// So many questions are shown that could have been asked.
const SHOWN: usize = 8;

/// The answers of one machine of one scenario.
#[derive(Debug)]
pub(crate) struct Replay {
    machine: String,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: Vec<Kept>,
    /// How many secrets were known when they were read last.
    known: usize,
    /// Which start of the machine this is; 0 before the first.
    start: usize,
    /// The lines of this start.
    from: usize,
    until: usize,
    transcript: Option<File>,
    /// As much of that was handed in.
    handed: u64,
}

/// A line as it is in the file, and what it says: nothing as long as the secrets are not known that are in it.
#[derive(Debug)]
struct Kept {
    text: String,
    line: Option<Line>,
    used: bool,
}

impl Replay {
    /// What the machine `machine` answered, in the scenario that has the folder `folder` in the record of a run.
    ///
    /// # Errors
    /// [`ErrorKind::NotRecorded`] when there is no such file, [`ErrorKind::Io`] when it can't be read.
    pub(crate) fn open(folder: &Path, machine: &str) -> Result<Self> {
        let path = folder.join(format!("{}.answers", in_a_path(machine)));
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let summary =
                    format!("there is no record of what {machine} answered: {} is missing", path.display());
                return Err(Error::new(ErrorKind::NotRecorded, summary)
                    .likely_cause(
                        "the scenario was not in that run, was called otherwise or had no such machine then",
                    )
                    .next_step("name a run in which it was: `nixvm-test report RUN` shows what is in one"));
            }
            Err(error) => return Err(Error::io(format_args!("read {}", path.display()), &error)),
        }
        let lines = text.lines().map(|text| Kept { text: text.to_owned(), line: None, used: false });
        let mut state = State {
            lines: lines.collect(),
            known: 0,
            start: 0,
            from: 0,
            until: 0,
            transcript: None,
            handed: 0,
        };
        state.read(str::to_owned);
        Ok(Self { machine: machine.to_owned(), folder: folder.to_owned(), state: Mutex::new(state) })
    }

    /// The machine's next start.
    ///
    /// # Errors
    /// What kept it from starting then; [`ErrorKind::NotRecorded`] when it was not started so often.
    pub(in crate::machine) fn start(&self) -> Result<Start> {
        let mut state = self.state();
        let starts = |kept: &Kept| kept.line.as_ref().is_some_and(|line| line.asked == START);
        let Some(at) = (state.until..state.lines.len()).find(|&at| starts(&state.lines[at])) else {
            return Err(self.not_recorded(&state, "a start of the machine"));
        };
        let next = (at + 1..state.lines.len()).find(|&at| starts(&state.lines[at]));
        state.start += 1;
        state.from = at + 1;
        state.until = next.unwrap_or(state.lines.len());
        state.handed = 0;
        let name = in_a_path(&self.machine);
        let transcript = match state.start {
            1 => format!("{name}.transcript"),
            number => format!("{name}.{number}.transcript"),
        };
        // Without one the console is silent, and what waits for it says so.
        state.transcript = File::open(self.folder.join(transcript)).ok();
        let line = state.lines[at].line.clone();
        drop(state);
        self.value(START, line)
    }

    /// Hands in what the console of this start had said when the machine was up, and passes it over.
    pub(in crate::machine) fn up(&self, console: &Console) {
        let mut state = self.state();
        let up = state.lines[state.from - 1].line.as_ref().map_or(0, |line| line.to);
        state.hand_in(console, up);
        console.skip();
        state.hand_in_the_rest(console);
    }

    /// What was answered to `question`. What the console said up to the question after it is handed in.
    ///
    /// # Errors
    /// The one that was the answer; [`ErrorKind::NotRecorded`] where there is none.
    pub(in crate::machine) fn answer<T: DeserializeOwned>(
        &self,
        question: &str,
        console: &Console,
    ) -> Result<T> {
        let line = self.take(question, console);
        self.value(question, line)
    }

    /// As [`Replay::answer`], for what can be broken off: whether it was.
    pub(in crate::machine) fn answer_so_far<T: DeserializeOwned>(
        &self,
        question: &str,
        console: &Console,
    ) -> Result<(T, bool)> {
        let mut line = self.take(question, console);
        let mut was_enough = false;
        if let Some(Line { answer, .. }) = &mut line
            && let Came::Enough(value) = answer
        {
            *answer = Came::Answer(std::mem::take(value));
            was_enough = true;
        }
        Ok((self.value(question, line)?, was_enough))
    }

    /// The error of a scenario that goes on where it went on no more when it was recorded.
    pub(in crate::machine) fn was_enough(&self, question: &str) -> Error {
        let summary = format!(
            "{}: `{}` was broken off when it was recorded, since nobody wanted to know more",
            self.machine,
            shorten(question)
        );
        Error::new(ErrorKind::NotRecorded, summary).next_step(WITHOUT)
    }

    /// The first answer to it that was not used.
    fn take(&self, question: &str, console: &Console) -> Option<Line> {
        let mut state = self.state();
        state.know(console);
        let at = state.find(question).or_else(|| {
            // Whoever knew the secret did so before this machine began: in a checkpoint, say.
            console.mask(&state.guess(question)?);
            state.know(console);
            state.find(question)
        })?;
        let kept = &mut state.lines[at];
        kept.used = true;
        let line = kept.line.clone()?;
        state.hand_in(console, line.to);
        if line.passed {
            console.skip();
        }
        state.hand_in_the_rest(console);
        Some(line)
    }

    fn value<T: DeserializeOwned>(&self, question: &str, line: Option<Line>) -> Result<T> {
        let value = match line.map(|line| line.answer) {
            Some(Came::Answer(value)) => value,
            Some(Came::Error(told)) => return Err(told.into()),
            Some(Came::Enough(_)) => return Err(self.was_enough(question)),
            Some(Came::TooLong(most)) => {
                let summary = format!(
                    "{}: the answer to `{}` is not kept: it had more than {} MiB",
                    self.machine,
                    shorten(question),
                    most >> 20
                );
                return Err(Error::new(ErrorKind::NotRecorded, summary).next_step(WITHOUT));
            }
            None => return Err(self.not_recorded(&self.state(), &format!("`{}`", shorten(question)))),
        };
        serde_json::from_value(value).map_err(|error| {
            let summary = format!(
                "{}: what is written down for `{}` is no answer to it: {error}",
                self.machine,
                shorten(question)
            );
            Error::new(ErrorKind::NotRecorded, summary)
                .likely_cause("it was recorded by another version of nixvm-test, or changed since")
                .next_step(WITHOUT)
        })
    }

    fn not_recorded(&self, state: &State, question: &str) -> Error {
        let asked = state.unused().map(|(_, line)| secret::masked(&line.asked));
        let asked: Vec<String> =
            asked.filter(|asked| !asked.starts_with(IN_PASSING)).map(|asked| shorten(&asked)).collect();
        let summary = format!("{}: the record has no answer to {question}", self.machine);
        let mut left = asked.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        if asked.len() > SHOWN {
            left.push(format!("and {} more", asked.len() - SHOWN));
        }
        let left = if left.is_empty() { "(nothing)".to_owned() } else { left.join("\n") };
        let error = Error::new(ErrorKind::NotRecorded, summary)
            .section("what it answers and was not asked yet", left)
            .next_step(WITHOUT);
        match nearest(question.trim_matches('`'), asked.iter().map(String::as_str)) {
            Some(meant) => error.likely_cause(format!("when it was recorded, it asked `{meant}`")),
            None => error.likely_cause("the scenario asks for what it did not ask for when it was recorded"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const WITHOUT: &str = "run the scenario on a machine, without --against";

impl State {
    /// Reads what could not be read without secrets that are known by now.
    fn know(&mut self, console: &Console) {
        if self.known != console.secrets() {
            self.known = console.secrets();
            self.read(|text| console.revealed(text));
        }
    }

    /// The first line of this start that was not used and is about `question`.
    fn find(&self, question: &str) -> Option<usize> {
        self.unused().find(|(_, line)| line.asked == question).map(|(at, _)| at)
    }

    /// The next secret, if a question with it would be `question`.
    fn guess(&self, question: &str) -> Option<String> {
        self.unused().find_map(|(_, line)| secret::guess(&line.asked, self.known, question))
    }

    /// The lines of this start whose answers nobody has had yet.
    fn unused(&self) -> impl Iterator<Item = (usize, &Line)> {
        let lines = self.lines[self.from..self.until].iter().enumerate();
        let unused = lines.filter(|(_, kept)| !kept.used);
        unused.filter_map(|(at, kept)| Some((self.from + at, kept.line.as_ref()?)))
    }

    /// Reads the lines again, as `revealed` shows them.
    fn read(&mut self, revealed: impl Fn(&str) -> String) {
        for kept in self.lines.iter_mut().filter(|kept| !kept.used) {
            kept.line = serde_json::from_str(&revealed(&kept.text)).ok();
        }
    }

    /// Hands in what the console said up to the next question that was not asked yet.
    fn hand_in_the_rest(&mut self, console: &Console) {
        let next = self.unused().map(|(_, line)| line.from).filter(|from| *from >= self.handed).min();
        self.hand_in(console, next.unwrap_or(u64::MAX));
    }

    fn hand_in(&mut self, console: &Console, until: u64) {
        let Some(transcript) = self.transcript.as_ref().filter(|_| self.handed < until) else { return };
        let mut piece = vec![0; 64 << 10];
        while self.handed < until {
            let left = usize::try_from(until - self.handed).unwrap_or(usize::MAX).min(piece.len());
            match transcript.read_at(&mut piece[..left], self.handed) {
                Ok(count @ 1..) => {
                    console.hand_in(&piece[..count]);
                    self.handed += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The end, or as good as that.
                _ => return,
            }
        }
    }
}
