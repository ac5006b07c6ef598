//! Searches in the whole output of a console, independently of waits.
//!
//! Waits with [`Console::expect`] take turns, and skip what they have matched. The functions here do neither.
//! A session may run commands on the console at the same time, and the output that they matched still counts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::stopped::Instant;

use super::engine::Engine;
use super::failure::Wait;
use super::found::Match;
use super::line::{Console, Mark, SerialLine};
use super::pattern::Pattern;
use super::strip::{Sink, Stripper};
use super::track::{PIECE, Position};
use super::turn::{FOR_EVER, Vigil};
use super::watch::Watch;
use crate::{Error, ErrorKind, Event, Events, Result, secrets};

const START: Position = Position { raw: 0, text: 0 };

/// After this time without a byte, a line without an end is shown.
const SILENCE: std::time::Duration = std::time::Duration::from_millis(700);

/// How many bytes of a line without an end are shown.
const BEGUN: usize = 4 << 10;

/// A line that has no end yet, as it is shown: a password is masked, and one that has not come completely is left out.
fn begun(line: &[u8]) -> String {
    let from = line.len().saturating_sub(BEGUN);
    let margin = from.saturating_sub(secrets::bytes::MARGIN);
    let to = line.len() - secrets::bytes::begun_at_end(line);
    let shown = secrets::bytes::part_without_words(&line[margin..], from.min(to) - margin..to - margin);
    String::from_utf8_lossy(&shown).into_owned()
}

/// # Search in the whole output
impl Console {
    /// Waits until `pattern` is in the console's output since `since`, at most `limit` (which is not scaled).
    /// `None` means since its very first byte. It takes no turn and skips nothing: waits and sessions on the
    /// same console are not affected.
    ///
    /// Output that the console no longer keeps is searched for in the transcript, where secrets are masked.
    ///
    /// # Errors
    /// Those of [`Console::expect`]; [`crate::ErrorKind::Io`] when the transcript can't be read;
    /// [`ErrorKind::Incomplete`] instead of a timeout when the pattern was not found and a part of the output
    /// is lost, which may have contained it.
    pub async fn find(
        &self,
        pattern: impl Into<Pattern>,
        since: Option<Mark>,
        limit: Duration,
    ) -> Result<Match> {
        let line = &*self.0.line;
        let patterns = [pattern.into()];
        line.check_length(&patterns)?;
        let began = Instant::now();
        let from = since.map_or(START, |mark| mark.0);
        // The observer begins before older output is searched, so that nothing is missed in between.
        let (observer, kept_from) = {
            let mut engine = line.engine();
            let kept_from = engine.kept_from();
            let id = engine.observe_from(from.text, &patterns[0]);
            (Observing { line, id }, kept_from)
        };
        let mut lost = (from.text < kept_from)
            .then(|| format!("{} earlier bytes are no longer kept", kept_from - from.text));
        if lost.is_some() && since.is_none() && line.transcript.is_some() {
            if let Some(found) = line.find_in_transcript(&patterns[0])? {
                return Ok(found);
            }
            lost = line
                .engine()
                .incomplete()
                .map(|why| format!("the console's transcript is incomplete: {why}"));
        }
        let limit = limit.min(FOR_EVER);
        let vigil = Vigil { line, patterns: &patterns, began, from, limit };
        let found = vigil.until(&line.news, |engine| engine.observers.take(observer.id)).await;
        match (found, lost) {
            (Err(error), Some(lost)) if error.kind() == ErrorKind::Timeout => {
                Err(error.because_incomplete(&lost))
            }
            (found, _) => found,
        }
    }

    /// From now on sends every new line as an [`Event::ConsoleLine`] of `machine`, until the console is
    /// closed or dropped. A line without an end, such as a question, is sent after a short silence, and again
    /// if it continues. If more comes than is kept, the rest is omitted, and a line says so.
    pub(crate) fn tell_lines(&self, machine: &str, events: &Events) {
        let line = std::sync::Arc::clone(&self.0.line);
        let (machine, events) = (machine.to_owned(), events.clone());
        let mut from = {
            let mut engine = line.engine();
            engine.told = true;
            engine.end().text
        };
        tokio::spawn(async move {
            // The shown part of the line that has no end yet.
            let mut shown = String::new();
            loop {
                let news = line.news.notified();
                tokio::pin!(news);
                // Enabled before the check, so that no notification is missed.
                news.as_mut().enable();
                let (dropped, lines, begun, over) = {
                    let engine = line.engine();
                    let (text, dropped) = engine.text_since(from);
                    let whole = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
                    let whole = if engine.closed().is_some() { text.len() } else { whole };
                    let lines =
                        String::from_utf8_lossy(&secrets::bytes::without_words(&text[..whole])).into_owned();
                    let begun = begun(&text[whole..]);
                    from += dropped + whole as u64;
                    (dropped, lines, begun, engine.closed().is_some())
                };
                if dropped > 0 {
                    let text =
                        format!("({dropped} bytes of the console are omitted here: more came than is kept)");
                    events.send(Event::ConsoleLine { machine: machine.clone(), text });
                }
                let tell = |text: &str| {
                    events.send(Event::ConsoleLine { machine: machine.clone(), text: text.to_owned() });
                };
                for text in lines.lines() {
                    if std::mem::take(&mut shown).trim_end() != text.trim_end() || text.trim().is_empty() {
                        tell(text);
                    }
                }
                if over {
                    return;
                }
                if begun.trim().is_empty() || begun == shown {
                    news.await;
                } else if tokio::time::timeout(SILENCE, news).await.is_err() {
                    tell(&begun);
                    shown = begun;
                }
            }
        });
    }

    /// Returns why it is pointless to wait for `pattern` elsewhere (such as on the screen), if it is: a
    /// panic, emergency mode, a stopped guest, QEMU's end.
    pub(crate) fn hopeless(&self, pattern: &Pattern) -> Option<Error> {
        let line = &*self.0.line;
        let engine = line.engine();
        let wait = Wait::on(&line.name, &engine, std::slice::from_ref(pattern));
        match (engine.fatal(), engine.closed(), engine.halted()) {
            (Some(fatal), ..) => Some(wait.fatal(&engine, fatal)),
            (None, Some(why), _) => Some(wait.closed(&engine, why)),
            (None, None, Some(why)) => Some(wait.halted(&engine, why)),
            (None, None, None) => None,
        }
    }

    /// Returns the console's whole output since its first byte as text: without escape sequences, with `\n`
    /// at the end of lines, and with secrets masked.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] when a part of it is lost: the transcript could not be written or is shorter
    /// than what was written to it, or there is none and more came than is kept. [`ErrorKind::Io`] when the
    /// transcript can't be read.
    pub fn log(&self) -> Result<String> {
        match self.log_that_is_left()? {
            (text, None) => Ok(text),
            (_, Some(why)) => Err(Error::new(
                ErrorKind::Incomplete,
                format!("{}: the console's transcript is incomplete: {why}", self.0.line.name),
            )
            .likely_cause("the disk with the machines' run directories is full")
            .next_step("free some space, or set TMPDIR to a folder on another disk")),
        }
    }

    /// Returns what is left of [`Console::log`], and why it is incomplete, if it is.
    pub(crate) fn log_that_is_left(&self) -> Result<(String, Option<String>)> {
        let line = &*self.0.line;
        let Some(path) = &line.transcript else {
            let engine = line.engine();
            let (text, dropped) = engine.text_since(0);
            let text = engine.secrets.mask_text(String::from_utf8_lossy(text).into_owned());
            let why = || {
                format!("there is no file for it, and {dropped} bytes at its beginning are no longer kept")
            };
            return Ok((text, (dropped > 0).then(why)));
        };
        let (written, held_back, mut why) = {
            let mut engine = line.engine();
            engine.flush();
            (engine.written(), engine.held_back().to_vec(), engine.incomplete().map(str::to_owned))
        };
        // Reads no more than was written, even if the file has grown by now.
        let mut raw = Vec::new();
        let read = File::open(path).and_then(|file| file.take(written).read_to_end(&mut raw));
        read.map_err(|error| cannot_read(path, &error))?;
        if why.is_none() && (raw.len() as u64) < written {
            why = Some(format!(
                "{} has {} of {written} bytes that were written to it",
                path.display(),
                raw.len()
            ));
        }
        if raw.len() as u64 == written {
            raw.extend(held_back);
        }
        let mut text = Text(Vec::with_capacity(raw.len()));
        Stripper::new().read(&raw, &mut text);
        // Masked again after stripping, because escape sequences may have been between the letters of a
        // secret.
        let text = line.engine().secrets.mask_text(String::from_utf8_lossy(&text.0).into_owned());
        Ok((text, why))
    }

    /// Returns why a part of the output is missing from the transcript, if so.
    pub(crate) fn incomplete(&self) -> Option<String> {
        self.0.line.engine().incomplete().map(str::to_owned)
    }

    /// Waits after QEMU's end until its whole output is read, at most `limit` (which is not scaled).
    pub(crate) async fn read_to_the_end(&self, limit: Duration) {
        self.0.line.until_closed(limit).await;
    }
}

struct Text(Vec<u8>);

impl Sink for Text {
    fn text(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn sequence(&mut self, _: u8, _: &[u8]) {}
}

/// Ends the observer together with the wait.
struct Observing<'a> {
    line: &'a SerialLine,
    id: u64,
}

impl Drop for Observing<'_> {
    fn drop(&mut self) {
        self.line.engine().observers.end(self.id);
    }
}

impl SerialLine {
    /// Searches the transcript as if its bytes came again. Returns `None` also if there is no transcript.
    fn find_in_transcript(&self, pattern: &Pattern) -> Result<Option<Match>> {
        let Some(path) = &self.transcript else { return Ok(None) };
        let written = {
            let mut engine = self.engine();
            engine.flush();
            engine.written()
        };
        let mut engine = Engine::new(self.window, Watch::Off, None);
        engine.begin(std::slice::from_ref(pattern));
        let mut feed = || -> io::Result<Option<Match>> {
            let mut file = File::open(path)?.take(written);
            let mut piece = vec![0; PIECE];
            loop {
                if let Some((_, found)) = engine.take_found() {
                    return Ok(Some(found));
                }
                match file.read(&mut piece)? {
                    0 => return Ok(None),
                    count => engine.push(&piece[..count]),
                };
            }
        };
        feed().map_err(|error| cannot_read(path, &error))
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    Error::io(format_args!("read the transcript {}", path.display()), error)
}
