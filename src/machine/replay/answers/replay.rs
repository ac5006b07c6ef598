//! Returns recorded answers instead of those of a machine.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::de::DeserializeOwned;

use super::IN_PASSING;
use super::entry::{Came, Heading, MOMENT, START, Start};
use super::file::AnswerFile;
use crate::beneath::Beneath;
use crate::console::{Console, secret};
use crate::machine::Life;
use crate::machine::command_text::shorten;
use crate::mutex::lock;
use crate::record::in_a_path;
use crate::text;
use crate::{Error, ErrorKind, Result, nearest};

/// Maximum number of possible questions that are shown.
const SHOWN: usize = 8;
/// Maximum size of a transcript in a record, in bytes.
const TRANSCRIPT: u64 = 64 << 20;
/// Maximum number of numbered secrets. No scenario types more.
const SECRETS: usize = 1 << 10;

/// The answers of one machine of one scenario.
#[derive(Debug)]
pub(crate) struct Replay {
    machine: String,
    record: Arc<Beneath>,
    /// The scenario's folder in the record.
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: AnswerFile,
    /// Which lines are unused.
    unused: Vec<bool>,
    /// The number of secrets that were known at the last read.
    known: usize,
    /// The number of the current start; 0 before the first.
    start: usize,
    /// The line of this start.
    begun: usize,
    /// The first line that answers questions after it.
    from: usize,
    until: usize,
    /// The used lines in order, each with the task that asked.
    given: Vec<(usize, Option<tokio::task::Id>)>,
    transcript: Option<File>,
    /// The length of the transcript that was fed in so far.
    handed: u64,
}

impl Replay {
    /// Opens the answers of the machine `machine` in a scenario, which has the folder `folder` in the record.
    ///
    /// # Errors
    /// [`ErrorKind::NotRecorded`] when there is no such file, [`ErrorKind::Io`] when it can't be read.
    pub(crate) fn open(record: Arc<Beneath>, folder: &Path, machine: &str) -> Result<Self> {
        let name = folder.join(format!("{}.answers", in_a_path(machine)));
        let path = record.path().join(&name);
        let file = match AnswerFile::read(&record, &name) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let summary =
                    format!("there is no record of what {machine} answered: {} is missing", path.display());
                return Err(Error::new(ErrorKind::NotRecorded, summary)
                    .likely_cause(
                        "that run did not have the scenario, or the scenario had another name or no such machine",
                    )
                    .next_step("name a run that has it: `nixvm-test report RUN` shows what a run has"));
            }
            Err(error) => return Err(Error::io(format_args!("read what {machine} answered"), &error)),
        };
        let state = State {
            unused: vec![true; file.len()],
            file,
            known: 0,
            start: 0,
            begun: 0,
            from: 0,
            until: 0,
            given: Vec::new(),
            transcript: None,
            handed: 0,
        };
        Ok(Self { machine: machine.to_owned(), record, folder: folder.to_owned(), state: Mutex::new(state) })
    }

    /// Begins the machine's next start.
    ///
    /// # Errors
    /// The recorded error of that start; [`ErrorKind::NotRecorded`] when there is no further start.
    pub(in crate::machine) fn start(&self) -> Result<Start> {
        let mut state = self.state();
        let Some(at) = state.next(START, state.until) else {
            let error = self.not_recorded(&state, None, &|asked| asked);
            return Err(error.likely_cause("the scenario starts it more often than the recorded run did"));
        };
        let start = state.begin(at);
        let name = in_a_path(&self.machine);
        let transcript = match state.start {
            1 => format!("{name}.transcript"),
            number => format!("{name}.{number}.transcript"),
        };
        // Without a transcript the console is silent, and a wait for it says so.
        let transcript = self.record.file(self.folder.join(transcript)).ok();
        // A record keeps no larger transcript.
        state.transcript = transcript.filter(|(_, size)| *size <= TRANSCRIPT).map(|(file, _)| file);
        let answer = state.file.line(start, None).map(|line| line.answer);
        drop(state);
        self.value(START, answer)
    }

    /// Feeds in the console's output from before the scenario began, and skips it. `start` is the result of
    /// [`Replay::start`].
    pub(in crate::machine) fn up(&self, start: &Start, console: &Console) {
        let mut state = self.state();
        console.reserve_secrets(start.secrets.min(SECRETS));
        let up = state.file.heading(state.from - 1).map_or(0, |heading| heading.to);
        state.hand_in(console, up);
        console.skip();
        state.hand_in_the_rest(console);
    }

    /// Makes `secret` known by this number.
    pub(in crate::machine) fn know_as(&self, number: usize, secret: &str, console: &Console) {
        if number < SECRETS {
            console.mask_as(number, secret);
        }
    }

    /// Makes `secret` known by the number that it had in `question` when it was recorded.
    pub(in crate::machine) fn know(&self, question: &str, secret: &str, console: &Console) {
        let mut state = self.state();
        state.know(console);
        let with = |(_, heading): (usize, &Heading)| {
            let number = heading.secret?;
            (secret::with(&heading.asked, number, secret) == question).then_some(number)
        };
        match state.unused().find_map(with) {
            Some(number) => self.know_as(number, secret, console),
            None => console.mask(secret),
        }
    }

    /// Returns the answer to `question`. Feeds in the console's output up to the next question.
    ///
    /// # Errors
    /// The recorded error, if that was the answer; [`ErrorKind::NotRecorded`] if there is no answer.
    pub(in crate::machine) fn answer<T: DeserializeOwned>(&self, question: &str, life: &Life) -> Result<T> {
        let answer = self.take(question, life)?;
        self.value(question, answer)
    }

    /// Like [`Replay::answer`], for a question that can end early: returns whether it did.
    pub(in crate::machine) fn answer_so_far<T: DeserializeOwned>(
        &self,
        question: &str,
        life: &Life,
    ) -> Result<(T, bool)> {
        let (answer, was_enough) = match self.take(question, life)? {
            Some(Came::Enough(value)) => (Some(Came::Answer(value)), true),
            answer => (answer, false),
        };
        Ok((self.value(question, answer)?, was_enough))
    }

    /// Returns the error for a scenario that continues after the point where the recorded one stopped early.
    pub(in crate::machine) fn was_enough(&self, question: &str) -> Error {
        let summary = format!(
            "{}: `{}` was cancelled when it was recorded, so the record has no answer",
            self.machine,
            shorten(question)
        );
        Error::new(ErrorKind::NotRecorded, summary).next_step(WITHOUT)
    }

    /// Takes the next unused answer to the question; `None` if it can't be read.
    fn take(&self, question: &str, life: &Life) -> Result<Option<Came>> {
        let (mut state, console) = (self.state(), &life.console);
        state.know(console);
        let task = tokio::task::try_id();
        let found = state.find(question, task).or_else(|| {
            // The secret was known before this machine began: in a checkpoint, for example.
            let (number, secret) = state.guess(question, console)?;
            console.mask_as(number, &secret);
            state.know(console);
            state.find(question, task)
        });
        let Some((at, heading)) = found.and_then(|at| Some((at, state.file.heading(at)?.clone()))) else {
            // A recorded run that failed earlier never asked the machine to power off. Every machine does so.
            if question == POWER_OFF && !state.was_asked(question) {
                state.hand_in_the_rest(console);
                life.qemu.set_ended(true);
                return Ok(Some(Came::Answer("the replay".into())));
            }
            return Err(self.not_recorded(&state, Some(question), &|asked| console.masked(asked)));
        };
        state.unused[at] = false;
        state.given.push((at, task));
        state.hand_in(console, heading.to);
        if heading.passed {
            console.skip();
        }
        state.hand_in_the_rest(console);
        if let Some(in_good_order) = heading.off {
            life.qemu.set_ended(in_good_order);
        }
        Ok(state.file.line(at, Some(console)).map(|line| line.answer))
    }

    fn value<T: DeserializeOwned>(&self, question: &str, answer: Option<Came>) -> Result<T> {
        let no_answer = |why: String| {
            let question = shorten(question);
            let summary =
                format!("{}: the recorded answer to `{question}` is not valid: {why}", self.machine);
            Error::new(ErrorKind::NotRecorded, summary)
                .likely_cause("another version of nixvm-test recorded it, or it was changed")
                .next_step(WITHOUT)
        };
        let value = match answer {
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
            None => return Err(no_answer("it can't be read".to_owned())),
        };
        // The unexpected value may be anything.
        serde_json::from_value(value).map_err(|error| no_answer(text::line(&error.to_string())))
    }

    /// Returns the error for a `question` or a start without an answer. Possible questions are shown without secrets.
    fn not_recorded(
        &self,
        state: &State,
        question: Option<&str>,
        masked: &dyn Fn(String) -> String,
    ) -> Error {
        let shown = |asked: &str| text::line(&shorten(&masked(secret::masked(asked))));
        let left = state.unused().filter(|(_, heading)| !heading.asked.starts_with(IN_PASSING));
        let left: Vec<String> = left.map(|(_, heading)| shown(&heading.asked)).collect();
        let mut listed = left.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        if left.len() > SHOWN {
            listed.push(format!("and {} more", left.len() - SHOWN));
        }
        let listed = if listed.is_empty() { "(nothing)".to_owned() } else { listed.join("\n") };
        let error = |answer: &str, to: &str| {
            let summary = format!("{}: the record has no {answer} to {to}", self.machine);
            let error = Error::new(ErrorKind::NotRecorded, summary);
            error.section("recorded questions that were not asked yet", &*listed).next_step(WITHOUT)
        };
        let Some(question) = question else { return error("answer", "a start of the machine") };
        let quoted = format!("`{}`", shorten(question));
        match state.given.iter().filter(|(at, _)| state.asks(*at) == Some(question)).count() {
            0 => {}
            times => {
                let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
                let cause = format!("the recorded run asked it {times}, and all those answers are used");
                return error("further answer", &quoted).likely_cause(cause);
            }
        }
        let error = error("answer", &quoted);
        if left.is_empty() {
            // All recorded questions were asked: the recorded run ended here, with a failure that is fixed now.
            return error.likely_cause(
                "the scenario now passes the point where the recorded run failed; later steps were not recorded",
            );
        }
        match nearest(&shorten(question), left.iter().map(String::as_str)) {
            Some(meant) => error.likely_cause(format!("the recorded run asked `{meant}`")),
            None => error.likely_cause("the recorded run did not ask this"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The question that asks a machine to end.
const POWER_OFF: &str = "power off";
const WITHOUT: &str = "run the scenario on a machine, without --against";

impl State {
    /// Returns the next line from `from` on that answers `asked`.
    fn next(&self, asked: &str, from: usize) -> Option<usize> {
        (from..self.file.len()).find(|at| self.asks(*at) == Some(asked))
    }

    /// Returns the question of a line.
    fn asks(&self, at: usize) -> Option<&str> {
        self.file.heading(at).map(|heading| heading.asked.as_str())
    }

    /// Returns whether the record has this question for the present start, with any answer.
    fn was_asked(&self, question: &str) -> bool {
        (self.from..self.until).any(|at| self.asks(at) == Some(question))
    }

    /// Begins a start at the line `at`. If this is the first start and the scenario began later, it begins there.
    /// Returns the line that describes it.
    fn begin(&mut self, at: usize) -> usize {
        let mut told = at;
        self.begun = at;
        self.start += 1;
        if self.start == 1
            && let Some(moment) = (at..self.file.len()).rfind(|at| self.asks(*at) == Some(MOMENT))
        {
            // The machine may have been started again in between.
            while let Some(next) = self.next(START, self.begun + 1).filter(|next| *next < moment) {
                self.begun = next;
                self.start += 1;
            }
            told = moment;
        }
        self.from = told + 1;
        self.until = self.next(START, self.from).unwrap_or(self.file.len());
        self.given.clear();
        // Another console knows other secrets.
        self.known = usize::MAX;
        self.handed = 0;
        told
    }

    /// Parses what could not be read before its secrets were known.
    fn know(&mut self, console: &Console) {
        if self.known != console.secrets() {
            self.known = console.secrets();
            self.file.reveal(console);
        }
    }

    /// Returns the next unused line for `question` and the task that asks.
    fn find(&self, question: &str, task: Option<tokio::task::Id>) -> Option<usize> {
        // The task's questions since it last asked the same.
        let before = self.given.iter().rposition(|(at, _)| self.asks(*at) == Some(question));
        let since = before.map_or(&[][..], |before| &self.given[before + 1..]).iter();
        let its = since.filter(|(_, its)| *its == task).filter_map(|(at, _)| self.file.heading(*at));
        let past = its.map(|heading| self.begun.saturating_add(heading.after)).max().unwrap_or(0);
        let about = |(at, heading): (usize, &Heading)| (heading.asked == question).then_some(at);
        let next = self.unused().filter_map(about).find(|at| *at >= past);
        // If the scenario's order has changed, it may be past all of them.
        next.or_else(|| self.unused().find_map(about))
    }

    /// Returns an unknown secret with its number, if it turns a recorded question into `question`.
    fn guess(&self, question: &str, console: &Console) -> Option<(usize, String)> {
        let numbers = console.unknown_secrets();
        self.unused().find_map(|(_, heading)| {
            let guess = |number: &usize| Some((*number, secret::guess(&heading.asked, *number, question)?));
            numbers.iter().find_map(guess)
        })
    }

    /// Returns the unused lines of this start.
    fn unused(&self) -> impl Iterator<Item = (usize, &Heading)> {
        let unused = (self.from..self.until).filter(|at| self.unused[*at]);
        unused.filter_map(|at| Some((at, self.file.heading(at)?)))
    }

    /// Feeds in the console's output up to the next unused question.
    fn hand_in_the_rest(&mut self, console: &Console) {
        let next = self.unused().map(|(_, heading)| heading.from).filter(|from| *from >= self.handed).min();
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
                // The end of the transcript, or close to it.
                _ => {
                    if until != u64::MAX {
                        let has = self.handed;
                        console.note_gap(format!(
                            "the record has its first {has} bytes, and the run had {until} at this point"
                        ));
                    }
                    return;
                }
            }
        }
    }
}
