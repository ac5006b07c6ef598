//! When the parts of a transcript arrived.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::line::Console;
use super::transcript::times_path;

/// How many texts may be missing before the search gives up, because each search for a missing text scans the
/// whole transcript.
const MISSES: usize = 50;

/// The arrival times of a console's transcript. Texts have to be requested in the order of their arrival.
pub(crate) struct Arrivals {
    began: Instant,
    raw: Vec<u8>,
    /// Times since the beginning, each with the offset of the first byte that arrived then, in order.
    times: Vec<(Duration, usize)>,
    from: usize,
    misses: usize,
}

impl Console {
    /// Returns the arrival times, or `None` if there is no transcript with times.
    pub(crate) fn arrivals(&self) -> Option<Arrivals> {
        let line = &*self.0.line;
        let path = line.transcript.as_deref()?;
        let (began, written) = {
            let mut engine = line.engine();
            engine.flush();
            (engine.transcript_began()?, engine.written())
        };
        Arrivals::read(path, began, written)
    }
}

impl Arrivals {
    fn read(path: &Path, began: Instant, written: u64) -> Option<Self> {
        let mut raw = Vec::new();
        // Reads no more than was written, even if the file has grown by now.
        File::open(path).and_then(|file| file.take(written).read_to_end(&mut raw)).ok()?;
        let times = BufReader::new(File::open(times_path(path)).ok()?);
        let times = times.lines().map_while(|line| {
            let line = line.ok()?;
            let (at, offset) = line.split_once(' ')?;
            Some((Duration::from_micros(at.parse().ok()?), offset.parse().ok()?))
        });
        let times = times.collect();
        Some(Self { began, raw, times, from: 0, misses: 0 })
    }

    /// Returns when the next occurrence of `text` arrived. There may be no escape sequence within it.
    pub(crate) fn of(&mut self, text: &str) -> Option<Instant> {
        if self.misses >= MISSES {
            return None;
        }
        let Some(at) = memchr::memmem::find(&self.raw[self.from..], text.as_bytes()) else {
            self.misses += 1;
            return None;
        };
        self.from += at;
        let next = self.times.partition_point(|(_, offset)| *offset <= self.from);
        let (since, _) = self.times.get(next.checked_sub(1)?)?;
        self.began.checked_add(*since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_came_when_its_first_byte_did() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript");
        std::fs::write(&path, "one two\r\nthree two\r\n").unwrap();
        std::fs::write(times_path(&path), "1000 0\n2000 4\n5000 15\nnonsense\n9000 1\n").unwrap();
        let began = Instant::now();
        let mut arrivals = Arrivals::read(&path, began, 1000).unwrap();
        let mut after = |text| arrivals.of(text).map(|at| (at - began).as_millis());
        assert_eq!([after("one"), after("two"), after("hree"), after("two")], [1, 2, 2, 5].map(Some));
        assert_eq!((after("one"), after("two\r")), (None, Some(5)));
        for _ in 0..MISSES {
            assert_eq!(after("four"), None);
        }
        assert_eq!(after("two"), None, "the looks at the whole are bounded");
        let mut none = Arrivals { began, raw: b"x".to_vec(), times: Vec::new(), from: 0, misses: 0 };
        assert_eq!(none.of("x"), None);
        let cut = Arrivals::read(&path, began, 3).unwrap().of("two");
        assert_eq!(cut, None, "the transcript may be another's by now");
    }
}
