//! Makes a film of a console: the pictures of its screen as text, so that the page does not need an emulator.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::screen::{Row, Screen};
use super::tape::Tape;

/// Interval between two pictures, in seconds.
const INTERVAL: f64 = 0.04;

/// Maximum number of bytes between two pictures that are parsed; only the end of more is. It fills the screen many
/// times.
const LOOKED_AT: usize = 64 << 10;

/// Time limit for making a film. The rest of a longer one is left out, except its end.
const LONGEST: Duration = Duration::from_secs(3);

/// A film of a console. If it is too large, its beginning is left out, since the end matters most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Film {
    /// Its end, in seconds since the machine's start.
    pub length: f64,
    /// Its start, if its beginning is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// Its pictures.
    pub frames: Vec<Frame>,
}

/// The changes from one picture to the next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frame {
    /// Its time, in seconds since the machine's start, to the hundredth.
    #[serde(rename = "t", serialize_with = "hundredths")]
    pub time: f64,
    /// Lines that changed.
    #[serde(rename = "r")]
    pub rows: Vec<(usize, Row)>,
    /// Line and column of the cursor.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub cursor: Option<(u16, u16)>,
}

impl Film {
    /// Makes the film of a tape, with about `most` bytes of text.
    pub fn of(tape: &Tape, most: usize) -> Self {
        Self::of_within(tape, most, LONGEST)
    }

    fn of_within(tape: &Tape, most: usize, limit: Duration) -> Self {
        let mut film = Cutter { most, ..Cutter::default() };
        let (mut screen, mut pieces) = (Screen::new(), tape.pieces().peekable());
        let mut pending: Vec<u8> = Vec::new();
        let begun = Instant::now();
        while let Some((time, bytes)) = pieces.next() {
            if begun.elapsed() >= limit {
                // The end matters most.
                screen.write(last_lines(tape.bytes()));
                film.take(tape.length(), &screen);
                break;
            }
            pending.extend_from_slice(bytes);
            let slot = |time: f64| (time / INTERVAL).floor();
            if pieces.peek().is_some_and(|(next, _)| slot(*next) == slot(time)) {
                continue;
            }
            screen.write(last_lines(&pending));
            pending.clear();
            film.take(time, &screen);
        }
        let from = film.from;
        Self { length: tape.length(), from, frames: film.frames.into() }
    }
}

/// Collects pictures and drops the first ones if there are too many.
#[derive(Default)]
struct Cutter {
    most: usize,
    /// The current picture, and the one before the first frame that is kept.
    shown: Vec<Row>,
    before: Vec<Row>,
    frames: VecDeque<Frame>,
    size: usize,
    from: Option<f64>,
}

impl Cutter {
    fn take(&mut self, time: f64, screen: &Screen) {
        let rows = screen.rows();
        self.shown.resize(rows.len(), Row::new());
        let mut changed = Vec::new();
        for (index, row) in rows.into_iter().enumerate() {
            if self.shown[index] != row {
                self.shown[index] = row.clone();
                changed.push((index, row));
            }
        }
        let frame = Frame { time, rows: changed, cursor: screen.cursor() };
        let moved = self.frames.back().is_none_or(|last| last.cursor != frame.cursor);
        if frame.rows.is_empty() && !moved {
            return;
        }
        self.size += weight(&frame);
        self.frames.push_back(frame);
        while self.size > self.most && self.frames.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops the first frame, and makes the second one a complete picture.
    fn drop_first(&mut self) {
        let Some(first) = self.frames.pop_front() else { return };
        self.size -= weight(&first);
        self.before.resize(self.shown.len(), Row::new());
        for (index, row) in first.rows {
            self.before[index] = row;
        }
        if let Some(next) = self.frames.front_mut() {
            self.size -= weight(next);
            for (index, row) in self.before.iter().enumerate() {
                if !row.is_empty() && !next.rows.iter().any(|(changed, _)| *changed == index) {
                    next.rows.push((index, row.clone()));
                }
            }
            self.size += weight(next);
            self.from = Some(next.time);
        }
    }
}

/// Returns the approximate size of a frame in a page, in bytes.
fn weight(frame: &Frame) -> usize {
    let row = |row: &Row| 8 + row.iter().map(|span| span.text.len() + 16).sum::<usize>();
    24 + frame.rows.iter().map(|(_, cells)| row(cells)).sum::<usize>()
}

/// Returns the end of a flood of output, from the start of a line.
pub(super) fn last_lines(bytes: &[u8]) -> &[u8] {
    let end = &bytes[bytes.len().saturating_sub(LOOKED_AT)..];
    if end.len() == bytes.len() {
        return bytes;
    }
    &end[memchr::memchr(b'\n', end).unwrap_or(0)..]
}

fn hundredths<S: serde::Serializer>(time: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_that_takes_too_long_to_make_shows_how_it_ended() {
        let text = b"begun\r\nin the middle\r\nthe end";
        let tape = Tape::new(text.to_vec(), "0 0\n2000000 7\n4000000 22\n");
        let film = Film::of_within(&tape, 1 << 20, Duration::ZERO);
        let shown = format!("{:?}", film.frames.last());
        assert!(shown.contains("the end"), "{shown}");
        assert_eq!((film.frames.len(), film.length), (1, 4.0));
    }

    fn tape(pieces: &[(u64, &str)]) -> Tape {
        let (mut bytes, mut times) = (Vec::new(), String::new());
        for (micros, text) in pieces {
            times.push_str(&format!("{micros} {}\n", bytes.len()));
            bytes.extend_from_slice(text.as_bytes());
        }
        Tape::new(bytes, &times)
    }

    fn shown(film: &Film) -> Vec<String> {
        let mut rows = vec![Row::new(); 24];
        for frame in &film.frames {
            frame.rows.iter().for_each(|(index, row)| rows[*index] = row.clone());
        }
        rows.iter().map(|row| row.iter().map(|span| span.text.as_str()).collect()).collect()
    }

    /// A film that may take any time to make, because a test does not depend on the speed of the host.
    fn film_of(tape: &Tape, most: usize) -> Film {
        Film::of_within(tape, most, Duration::MAX)
    }

    #[test]
    fn a_frame_has_what_changed_and_bytes_of_one_moment_are_one_frame() {
        let film =
            film_of(&tape(&[(1_000, "a"), (2_000, "b\r\n"), (900_000, "c"), (2_000_000, "\x07")]), 1 << 20);
        assert_eq!(
            serde_json::to_string(&film).unwrap(),
            r#"{"length":2.0,"frames":[{"t":0.0,"r":[[0,[["ab"]]]],"c":[1,0]},{"t":0.9,"r":[[1,[["c"]]]],"c":[1,1]}]}"#
        );
    }

    #[test]
    fn of_a_film_that_is_too_long_the_end_is_kept_and_it_begins_with_a_whole_picture() {
        let pieces: Vec<(u64, String)> =
            (0..500).map(|n: u64| (n * 100_000, format!("\x1b[{};1Hline {n}", n % 20 + 1))).collect();
        let pieces: Vec<(u64, &str)> = pieces.iter().map(|(time, text)| (*time, text.as_str())).collect();
        let (whole, cut) = (film_of(&tape(&pieces), 1 << 20), film_of(&tape(&pieces), 4_000));
        assert_eq!(whole.frames.len(), 500);
        assert!(cut.frames.len() < 120 && cut.from.unwrap() > 30.0, "{:?}", cut.from);
        assert!(serde_json::to_string(&cut).unwrap().len() < 8_000);
        assert_eq!(shown(&whole), shown(&cut));
    }

    #[test]
    fn a_flood_in_one_moment_costs_one_screen() {
        let flood = format!("{}the end", "0123456789abcdef\r\n".repeat(300_000));
        let film = film_of(&tape(&[(0, "login:"), (1_000_000, &flood)]), 1 << 20);
        assert_eq!(film.frames.len(), 2);
        assert!(shown(&film).contains(&"the end".to_owned()));
    }
}
