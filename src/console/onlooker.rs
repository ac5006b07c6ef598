//! Looking on: the whole of what a console said, whoever waits on it.
//!
//! [`Console::expect`] takes turns, and passes over what it has matched. What is here does neither: a
//! session may run commands on the console meanwhile, and what they matched still counts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::Engine;
use super::failure::Wait;
use super::found::Match;
use super::line::{Console, Line, Mark};
use super::pattern::Pattern;
use super::strip::{Sink, Stripper};
use super::track::{PIECE, Position};
use super::turn::{FOR_EVER, Vigil};
use super::watch::Watch;
use crate::{Error, Event, Events, Result};

const START: Position = Position { raw: 0, text: 0 };

impl Console {
    /// Waits until `pattern` is in what the console said since `since`, `limit` at most (it is not
    /// scaled); `None` is since its very first byte, however long ago that was. Takes no turn and passes
    /// over nothing: waits and sessions on the same console go on as if this one were not there.
    ///
    /// What is older than the console keeps ([`ConsoleOptions::window`](super::ConsoleOptions::window)) is
    /// looked up in the transcript, where secrets are masked.
    ///
    /// # Errors
    /// As [`Console::expect`]; [`crate::ErrorKind::Io`] when the transcript can't be read.
    pub async fn find(
        &self,
        pattern: impl Into<Pattern>,
        since: Option<Mark>,
        limit: Duration,
    ) -> Result<Match> {
        let line = &*self.0.line;
        let patterns = [pattern.into()];
        line.can_be_found(&patterns)?;
        let began = Instant::now();
        let from = since.map_or(START, |mark| mark.0);
        // Before anything older is looked at, so that nothing comes in between.
        let (observer, kept_from) = {
            let mut engine = line.engine();
            let kept_from = engine.kept_from();
            let id = engine.observe_from(from.text, &patterns[0]);
            (Observing { line, id }, kept_from)
        };
        if from.text < kept_from
            && since.is_none()
            && let Some(found) = line.find_in_transcript(&patterns[0])?
        {
            return Ok(found);
        }
        let limit = limit.min(FOR_EVER);
        let vigil = Vigil { line, patterns: &patterns, began, from, limit };
        vigil.until(&line.news, |engine| engine.observers.take(observer.id)).await
    }

    /// From now on every line that comes is sent as an [`Event::ConsoleLine`] of `machine`, until the console is
    /// closed or let go. Where more comes than is kept, the rest is left out.
    pub(crate) fn tell_lines(&self, machine: &str, events: &Events) {
        let line = std::sync::Arc::clone(&self.0.line);
        let (machine, events) = (machine.to_owned(), events.clone());
        tokio::spawn(async move {
            let mut from = {
                let mut engine = line.engine();
                engine.told = true;
                engine.end().text
            };
            loop {
                let news = line.news.notified();
                tokio::pin!(news);
                // Before it is looked: what comes in between rings, too.
                news.as_mut().enable();
                let (lines, over) = {
                    let engine = line.engine();
                    let (text, dropped) = engine.text_since(from);
                    let whole = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
                    let whole = if engine.closed().is_some() { text.len() } else { whole };
                    let lines = String::from_utf8_lossy(&engine.secrets.mask(&text[..whole])).into_owned();
                    from += dropped + whole as u64;
                    (lines, engine.closed().is_some())
                };
                for text in lines.lines() {
                    events.send(Event::ConsoleLine { machine: machine.clone(), text: text.to_owned() });
                }
                if over {
                    return;
                }
                news.await;
            }
        });
    }

    /// Why it makes no sense to wait for `pattern` elsewhere (on the screen, say), if it makes none: a
    /// panic, emergency mode, QEMU's end.
    pub(crate) fn hopeless(&self, pattern: &Pattern) -> Option<Error> {
        let line = &*self.0.line;
        let engine = line.engine();
        let wait = Wait::on(&line.name, &engine, std::slice::from_ref(pattern));
        match (engine.fatal(), engine.closed()) {
            (Some(fatal), _) => Some(wait.fatal(&engine, fatal)),
            (None, Some(why)) => Some(wait.closed(&engine, why)),
            (None, None) => None,
        }
    }

    /// Everything that the console said since its first byte, as text: no escape sequences, `\n` at the end
    /// of lines, secrets masked. Without a transcript, as much of it as is kept.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the transcript can't be read.
    pub fn log(&self) -> Result<String> {
        let line = &*self.0.line;
        let Some(path) = &line.transcript else {
            let engine = line.engine();
            let text = String::from_utf8_lossy(engine.text_since(0).0).into_owned();
            return Ok(engine.secrets.mask_text(text));
        };
        line.engine().flush();
        let raw = std::fs::read(path).map_err(|error| cannot_read(path, &error))?;
        let mut text = Text(Vec::with_capacity(raw.len()));
        Stripper::new().read(&raw, &mut text);
        Ok(String::from_utf8_lossy(&text.0).into_owned())
    }
}

struct Text(Vec<u8>);

impl Sink for Text {
    fn text(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn sequence(&mut self, _: u8, _: &[u8]) {}
}

/// Ends the observer with the wait.
struct Observing<'a> {
    line: &'a Line,
    id: u64,
}

impl Drop for Observing<'_> {
    fn drop(&mut self) {
        self.line.engine().observers.end(self.id);
    }
}

impl Line {
    /// Looks through the transcript as if its bytes came anew. `None` also where there is no transcript.
    fn find_in_transcript(&self, pattern: &Pattern) -> Result<Option<Match>> {
        let Some(path) = &self.transcript else { return Ok(None) };
        self.engine().flush();
        let mut engine = Engine::new(self.window, Watch::Off, None);
        engine.begin(std::slice::from_ref(pattern));
        let mut feed = || -> io::Result<Option<Match>> {
            let mut file = File::open(path)?;
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
