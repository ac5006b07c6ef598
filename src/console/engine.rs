//! The synchronous core of a console. When [`Engine::push`] returns, all consequences of the received bytes
//! have happened. It has no clock, task or lock, so any split of the same bytes gives the same result, and
//! tests can check that.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::found::Match;
use super::observers::Observers;
use super::pattern::Pattern;
use super::render;
use super::ring::Ring;
use super::search::{Hit, Searches, View};
use super::secret::Secrets;
use super::terminal::Terminal;
use super::track::{PIECE, Position, Track};
use super::transcript::Transcript;
use super::watch::{Fatal, FatalWatch, Watch};
use crate::secrets::{self, bytes::MARGIN};
use crate::{Error, stopped};

/// How much of the end is rendered for people, in bytes.
const RENDERED: u64 = 64 << 10;

/// Receives the raw byte stream while a tap is open.
pub(super) type Tap = Box<dyn FnMut(&[u8]) -> ControlFlow<usize> + Send>;

pub(super) struct Engine {
    track: Track,
    window: u64,
    /// The end of the last match, where the next wait begins.
    seen: Position,
    wait: Option<Searches>,
    found: Option<(usize, Match)>,
    /// The value of `seen` before `found`.
    before: Position,
    pub(super) observers: Observers,
    tap: Option<Tap>,
    pub(super) watch: FatalWatch,
    fatal: Option<Fatal>,
    closed: Option<String>,
    halted: Option<Error>,
    terminal: Terminal,
    /// How many callers have the guest's questions to its terminal answered: see
    /// [`super::Console::while_a_shell_starts`].
    pub(super) shells_that_start: usize,
    transcript: Option<Transcript>,
    /// Whether all output is sent as events: see [`super::Console::tell_lines`].
    pub(super) told: bool,
    trouble: Option<String>,
    /// Why a part of the output is missing from the transcript for good.
    incomplete: Option<String>,
    /// How long the transcript would be if it had not ended.
    beyond: u64,
    pub(super) secrets: Secrets,
    heard: stopped::Instant,
    /// The same time on the clock of the transcript, which also counts while this process is stopped.
    came: Instant,
    /// The longest duration of any wait, regardless of its limit.
    pub(super) longest_wait: Option<Duration>,
}

/// Whether [`Engine::push`] did something that a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing.
    Quiet,
    /// A wait is over, or may be over soon.
    Wake,
}

impl Engine {
    /// Makes an engine that keeps at least `window` bytes of text, and of raw bytes.
    pub(super) fn new(window: usize, watch: Watch, transcript: Option<Transcript>) -> Self {
        let start = Position { raw: 0, text: 0 };
        Self {
            track: Track::new(window),
            window: window as u64,
            seen: start,
            wait: None,
            found: None,
            before: start,
            observers: Observers::default(),
            tap: None,
            watch: FatalWatch::new(watch),
            fatal: None,
            closed: None,
            halted: None,
            terminal: Terminal::default(),
            shells_that_start: 0,
            transcript,
            told: false,
            trouble: None,
            incomplete: None,
            beyond: 0,
            secrets: Secrets::default(),
            heard: stopped::Instant::now(),
            came: Instant::now(),
            longest_wait: None,
        }
    }

    /// Processes bytes from the line.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Pushed {
        (self.heard, self.came) = (stopped::Instant::now(), Instant::now());
        let mut pushed = Pushed::Quiet;
        for piece in bytes.chunks(PIECE) {
            self.write_down(piece);
            let mut rest = piece;
            if let Some(tap) = &mut self.tap {
                let used = match tap(piece) {
                    ControlFlow::Continue(()) => piece.len(),
                    ControlFlow::Break(used) => {
                        self.tap = None;
                        pushed = Pushed::Wake;
                        used.min(piece.len())
                    }
                };
                let (tapped, others) = piece.split_at(used);
                self.take_in(tapped);
                self.seen = self.end();
                rest = others;
            }
            self.take_in(rest);
        }
        if self.found.is_some() || self.fatal.is_some() || self.watch.suspicion(&self.track.text).is_some() {
            pushed = Pushed::Wake;
        }
        pushed
    }

    fn take_in(&mut self, raw: &[u8]) {
        if raw.is_empty() {
            return;
        }
        let answer = self.watch.mode == Watch::Boot || self.shells_that_start > 0;
        self.track.append(raw, |introducer, body| self.terminal.sequence(introducer, body, answer));

        let fatal = self.watch.scan(&self.track.text);
        let hit = self.search();
        // A match that came before the fatal condition still counts.
        let too_late = |hit: &Hit| fatal.is_some_and(|fatal| fatal.decided < hit.decided);
        if let Some((index, hit)) = hit.filter(|(_, hit)| !too_late(hit)) {
            self.take(index, hit);
        }
        self.fatal = self.fatal.or(fatal);
        self.observers.scan(&self.track.text, self.window);
    }

    fn view(&self) -> View<'_> {
        let end = self.track.text.end();
        let from = self.seen.text.max(end.saturating_sub(self.window));
        View { text: &self.track.text, from, end, window: self.window }
    }

    /// Runs the pending searches over the new text.
    fn search(&mut self) -> Option<(usize, Hit)> {
        let waiting = self.wait.as_mut()?;
        let view = View {
            text: &self.track.text,
            from: waiting.from(),
            end: self.track.text.end(),
            window: self.window,
        };
        waiting.scan(view)
    }

    /// Begins to wait for the first of several patterns, in the text since the last match and in new text. If
    /// a match is there already, [`Engine::take_found`] returns it at once.
    pub(super) fn begin(&mut self, patterns: &[Pattern]) {
        self.found = None;
        self.wait = Some(Searches::new(patterns, self.view().from));
        if let Some((index, hit)) = self.search() {
            self.take(index, hit);
        }
    }

    /// Keeps the match for the waiting task, and moves behind it.
    fn take(&mut self, index: usize, hit: Hit) {
        let Some(waiting) = self.wait.take() else { return };
        let view = View {
            text: &self.track.text,
            from: waiting.from(),
            end: self.track.text.end(),
            window: self.window,
        };
        let pattern = waiting.patterns().nth(index);
        let found = pattern.and_then(|pattern| Match::of(pattern, hit, view, self.seen.text));
        let Some(mut found) = found else {
            // The search reports only matches whose groups are kept.
            self.wait = Some(waiting);
            return;
        };
        let end = self.track.position_of_text(hit.end);
        let from = self.seen.raw.max(end.raw.saturating_sub(self.window));
        found.raw = self.track.raw.slice(from, end.raw).to_vec();
        self.before = self.seen;
        self.seen = end;
        self.watch.alive_at(hit.end);
        self.found = Some((index, found));
    }

    /// Begins to search for a pattern in the kept text since `from` and in new text. It runs beside any wait
    /// until [`Observers::end`].
    pub(super) fn observe_from(&mut self, from: u64, pattern: &Pattern) -> u64 {
        let id = self.observers.begin(from.max(self.track.text.start()), pattern);
        self.observers.scan(&self.track.text, self.window);
        id
    }

    /// Returns the position of the oldest kept text.
    pub(super) fn kept_from(&self) -> u64 {
        self.track.text.start()
    }

    /// Takes the result of the wait.
    pub(super) fn take_found(&mut self) -> Option<(usize, Match)> {
        self.found.take()
    }

    /// Ends the wait or the tap without a result. A match that was not taken counts as not found.
    pub(super) fn abandon(&mut self) {
        self.wait = None;
        if self.found.take().is_some() {
            self.seen = self.before;
        }
        self.tap = None;
    }

    /// Opens a tap, which gets the raw bytes since the last match. Returns the number of lost bytes as an
    /// error if more came since then than is kept.
    pub(super) fn begin_tap(&mut self, mut tap: Tap) -> Result<(), u64> {
        let lost = self.track.raw.start().saturating_sub(self.seen.raw);
        if lost > 0 {
            return Err(lost);
        }
        let waiting = self.track.raw.slice(self.seen.raw, self.track.raw.end());
        if !waiting.is_empty()
            && let ControlFlow::Break(used) = tap(waiting)
        {
            let used = used.min(waiting.len()) as u64;
            self.seen = self.track.position_of_raw(self.seen.raw + used);
            return Ok(());
        }
        self.seen = self.end();
        self.tap = Some(tap);
        Ok(())
    }

    /// Whether the tap is still open.
    pub(super) fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// Returns how many bytes are held in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.track.raw.held() + self.track.text.held()
    }

    /// Returns the present end of the stream.
    pub(super) fn end(&self) -> Position {
        self.track.end()
    }

    /// Returns the end of the last match.
    pub(super) fn seen(&self) -> Position {
        self.seen
    }

    /// Skips the text that no wait has examined.
    pub(super) fn skip(&mut self) {
        self.seen = self.end();
    }

    /// Returns the condition that makes waiting pointless, if one occurred.
    pub(super) fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    /// Returns a fatal condition that silence would confirm.
    pub(super) fn suspicion(&self) -> Option<Fatal> {
        self.watch.suspicion(&self.track.text)
    }

    /// Records that silence has confirmed the condition.
    pub(super) fn confirm(&mut self, fatal: Fatal) {
        self.fatal.get_or_insert(fatal);
    }

    /// Sets why the guest is stopped, or that it runs again.
    pub(super) fn halt(&mut self, why: Option<Error>) {
        self.halted = why;
    }

    /// Returns why the guest is stopped, if it is and this is watched for.
    pub(super) fn halted(&self) -> Option<&Error> {
        self.halted.as_ref().filter(|_| self.watch.mode != Watch::Off)
    }

    /// Sets what is watched for. A new boot clears earlier conditions.
    pub(super) fn set_watch(&mut self, watch: Watch) {
        self.watch.mode = watch;
        if watch == Watch::Boot {
            self.fatal = None;
            self.watch.alive_at(u64::MAX);
        }
    }

    /// Returns the line at a position of the text, masked and safe to print, and whether it is complete.
    pub(super) fn line_at(&self, position: u64) -> (String, bool) {
        let before = self.track.text.slice(position.saturating_sub(200), position);
        let start = position - before.iter().rev().take_while(|&&byte| byte != b'\n').count() as u64;
        let rest = self.track.text.slice(start, position + 300);
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let masked = self.masked(&self.track.text, start, start + line.len() as u64);
        let shown = secrets::line(&String::from_utf8_lossy(&masked));
        (shown, line.len() < rest.len())
    }

    /// Returns a range of `ring` with passwords masked, including a password at the edge of the range.
    fn masked(&self, ring: &Ring, from: u64, to: u64) -> Vec<u8> {
        let margin = MARGIN as u64;
        let begin = from.saturating_sub(margin).max(ring.start());
        let around = ring.slice(begin, to.saturating_add(margin));
        let place = |position: u64| (position.saturating_sub(begin) as usize).min(around.len());
        secrets::bytes::part_without_words(around, place(from)..place(to.max(from)))
    }

    /// Records that the line is closed. `why` is what is known about the reason.
    pub(super) fn close(&mut self, why: String) {
        self.closed = Some(why);
        if let Some(transcript) = &mut self.transcript {
            let outcome = transcript.finish();
            self.note_trouble(outcome);
        }
    }

    /// Returns why the line is closed, if it is.
    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Returns when the guest last printed something.
    pub(super) fn heard(&self) -> stopped::Instant {
        self.heard
    }

    /// Returns the kept text since a position, and the number of bytes that are not kept.
    pub(super) fn text_since(&self, from: u64) -> (&[u8], u64) {
        let end = self.track.text.end();
        let start = from.max(end.saturating_sub(self.window));
        (self.track.text.slice(start, end), start - from.min(start))
    }

    /// Returns the kept bytes since a raw position, with escape sequences.
    pub(super) fn raw_since(&self, from: u64) -> &[u8] {
        self.track.raw.slice(from, self.track.raw.end())
    }

    /// Returns the last lines since a raw position, rendered, masked and safe to print.
    pub(super) fn last_lines(&self, since: u64, count: usize) -> String {
        let from = since.max(self.track.raw.end().saturating_sub(RENDERED)).max(self.track.raw.start());
        let parser = self.track.parser_at(from);
        let masked = self.masked(&self.track.raw, from, self.track.raw.end());
        // Masked again after rendering, because the letters of a secret may have been apart in the raw bytes.
        secrets::words(&render::last_lines(parser, &masked, count).join("\n"))
    }

    /// Takes the terminal's answers that are to be sent.
    pub(super) fn take_answers(&mut self) -> Vec<u8> {
        self.terminal.take_answers()
    }

    fn write_down(&mut self, piece: &[u8]) {
        self.beyond += piece.len() as u64;
        if let Some(transcript) = &mut self.transcript {
            let outcome = transcript.write(piece, self.came, &self.secrets);
            self.beyond = transcript.written();
            self.note_trouble(outcome);
        }
    }

    /// Whether the transcript has unflushed bytes.
    pub(super) fn is_dirty(&self) -> bool {
        self.transcript.as_ref().is_some_and(Transcript::is_dirty)
    }

    /// Returns the length of the transcript in bytes, or the length that it would have if it had not ended.
    pub(super) fn written(&self) -> u64 {
        self.transcript.as_ref().map_or(self.beyond, Transcript::written)
    }

    /// Returns the start time of the transcript's times.
    pub(super) fn transcript_began(&self) -> Option<std::time::Instant> {
        self.transcript.as_ref().map(Transcript::began)
    }

    /// Makes the transcript at `path` be written to two other files, too.
    pub(super) fn copy_transcript(
        &mut self,
        path: &std::path::Path,
        files: (std::fs::File, std::fs::File),
        most: u64,
    ) -> std::io::Result<()> {
        match &mut self.transcript {
            Some(transcript) => transcript.copy_to(path, files.0, files.1, most),
            None => Ok(()),
        }
    }

    /// Writes the transcript to its file.
    pub(super) fn flush(&mut self) {
        if let Some(transcript) = &mut self.transcript {
            let outcome = transcript.flush();
            self.note_trouble(outcome);
        }
    }

    /// Stops the transcript after an error. A full disk must not end the run: it continues without a
    /// transcript, and a note says so once. Readers of the transcript get an error each time.
    fn note_trouble(&mut self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.transcript = None;
            self.trouble = Some(error.to_string());
            self.note_gap(format!("it could not be written: {error}"));
        }
    }

    /// Records why a part of the output is missing from the transcript. The first reason counts.
    pub(super) fn note_gap(&mut self, why: String) {
        self.incomplete.get_or_insert(why);
    }

    /// Returns why a part of the output is missing from the transcript, if so.
    pub(super) fn incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    /// Returns the end of the output that is not written yet, because it may be the beginning of a secret.
    pub(super) fn held_back(&self) -> &[u8] {
        self.transcript.as_ref().map_or(&[], Transcript::held_back)
    }

    /// Takes the reason why the transcript ended.
    pub(super) fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}
