//! The transcript of a console with its times.

use std::io;
use std::path::{Path, PathBuf};

use crate::beneath::Beneath;

/// A transcript in the record, with its times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tape {
    bytes: Vec<u8>,
    /// Seconds since the console was attached, and the offset of the bytes that arrived then.
    times: Vec<(f64, usize)>,
}

impl Tape {
    /// Reads the transcript `name` of a record, and the times beside it, each at most 64 MiB, which is the limit of a
    /// record. Without times, all bytes have the same time.
    ///
    /// # Errors
    /// When the transcript can't be read, or is larger.
    pub fn read(record: &Beneath, name: &Path) -> io::Result<Self> {
        let bytes = record.read(name, super::keep::MOST)?;
        let times = match record.read(times_of(name), super::keep::MOST) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            times => times.unwrap_or_default(),
        };
        Ok(Self::new(bytes, &String::from_utf8_lossy(&times)))
    }

    /// Creates a tape from bytes, and lines of microseconds and offsets.
    pub fn new(bytes: Vec<u8>, times: &str) -> Self {
        let (mut read, mut last): (Vec<(f64, usize)>, _) = (Vec::new(), (0.0, 0));
        for line in times.lines() {
            let parsed = line.split_once(' ').and_then(|(time, offset)| {
                Some((time.parse::<u64>().ok()? as f64 / 1e6, offset.parse::<usize>().ok()?))
            });
            // A cut line is invalid, or its time is too early.
            if let Some(mark) = parsed.filter(|mark| mark.0 >= last.0 && mark.1 >= last.1)
                && mark.1 < bytes.len()
            {
                last = mark;
                read.push(mark);
            }
        }
        if read.first().is_none_or(|first| first.1 > 0) && !bytes.is_empty() {
            read.insert(0, (0.0, 0));
        }
        Self { bytes, times: read }
    }

    /// Returns the output piece by piece: seconds since the console was attached, and bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (f64, &[u8])> {
        self.times.iter().enumerate().map(|(index, (time, from))| {
            let to = self.times.get(index + 1).map_or(self.bytes.len(), |next| next.1);
            (*time, &self.bytes[*from..to])
        })
    }

    /// Returns the time of the last bytes, in seconds.
    pub fn length(&self) -> f64 {
        self.times.last().map_or(0.0, |last| last.0)
    }

    /// Returns all bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the time of the byte at `offset`, in seconds.
    pub fn time_of(&self, offset: usize) -> f64 {
        let after = self.times.partition_point(|(_, from)| *from <= offset);
        after.checked_sub(1).map_or(0.0, |index| self.times[index].0)
    }
}

/// Returns the path of the file with the times of a transcript.
pub fn times_of(transcript: &Path) -> PathBuf {
    let mut name = transcript.as_os_str().to_owned();
    name.push(".times");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_times_and_broken_lines_are_passed_over() {
        let tape =
            Tape::new(b"abcdef".to_vec(), "1000 0\n2000000 2\nnonsense\n1 1\n3000000 4\n4000000 99\n50");
        let pieces: Vec<_> = tape.pieces().collect();
        assert_eq!(pieces, [(0.001, &b"ab"[..]), (2.0, b"cd"), (3.0, b"ef")]);
        assert_eq!((tape.time_of(0), tape.time_of(3), tape.time_of(5)), (0.001, 2.0, 3.0));
        assert_eq!(Tape::new(b"x".to_vec(), "").pieces().count(), 1);
        assert_eq!(Tape::new(Vec::new(), "").pieces().count(), 0);
    }
}
