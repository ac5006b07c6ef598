//! The transcript: a file with every byte of a console, and another with the arrival times.
//!
//! `FILE` has the bytes as they came, including escape sequences (secrets are masked). `FILE.times` has lines
//! of two decimal numbers: microseconds since the console was attached, and the offset in `FILE` of the bytes
//! that came at that time. Bytes that came within a millisecond share a line.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::secret::Secrets;
use crate::secrets::bytes::{begun_at_end, mask_in_place};

const COALESCED: Duration = Duration::from_millis(1);

pub(super) struct Transcript {
    bytes: BufWriter<File>,
    times: BufWriter<File>,
    began: Instant,
    noted: Option<Instant>,
    offset: u64,
    /// Bytes that may be the beginning of a secret, which are held back until more has come.
    held: Vec<u8>,
    dirty: bool,
    copy: Option<Copy>,
}

/// A second destination for the output, which may end before the transcript does.
struct Copy {
    bytes: BufWriter<File>,
    times: BufWriter<File>,
    /// How many more bytes may be written to it.
    room: u64,
    /// What may be the beginning of a secret. Unlike the transcript, a copy has no secret of another console either.
    held: Vec<u8>,
}

impl Transcript {
    /// Creates the two files, or overwrites them.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            bytes: BufWriter::with_capacity(64 << 10, File::create(path)?),
            times: BufWriter::new(File::create(times_path(path))?),
            began: Instant::now(),
            noted: None,
            offset: 0,
            held: Vec::new(),
            dirty: false,
            copy: None,
        })
    }

    /// Copies the present content of the transcript, which is at `path`, to two other files, and writes new
    /// output there, too: at most `most` bytes.
    pub(super) fn copy_to(&mut self, path: &Path, bytes: File, times: File, most: u64) -> io::Result<()> {
        self.flush()?;
        let (mut bytes, mut times) = (BufWriter::with_capacity(64 << 10, bytes), BufWriter::new(times));
        let mut before = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut before)?;
        let room = most.saturating_sub(before.len() as u64);
        mask_in_place(&mut before);
        bytes.write_all(&before)?;
        io::copy(&mut File::open(times_path(path))?, &mut times)?;
        let mut copy = Copy { bytes, times, room, held: Vec::new() };
        copy.flush()?;
        self.copy = Some(copy);
        Ok(())
    }

    /// Does something with the copy. If the copy can't be written, it is given up, which the record notes.
    fn with_copy(&mut self, what: impl FnOnce(&mut Copy) -> io::Result<()>) {
        if let Some(copy) = &mut self.copy
            && let Err(error) = what(copy)
        {
            self.copy = None;
            crate::record::incomplete("a console's transcript", &error);
        }
    }

    /// Adds bytes that came at `now`.
    pub(super) fn write(&mut self, raw: &[u8], now: Instant, secrets: &Secrets) -> io::Result<()> {
        self.dirty = true;
        if self.noted.is_none_or(|noted| now.duration_since(noted) >= COALESCED) {
            self.noted = Some(now);
            let line = format!("{} {}\n", now.duration_since(self.began).as_micros(), self.offset);
            self.times.write_all(line.as_bytes())?;
            self.with_copy(|copy| match copy.room {
                0 => Ok(()),
                _ => copy.times.write_all(line.as_bytes()),
            });
        }
        if secrets.is_empty() {
            return self.put(raw);
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(raw);
        let mut masked = secrets.mask(&bytes);
        self.held = masked.split_off(masked.len() - secrets.begun_at_end(&masked));
        self.put(&masked)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.with_copy(|copy| copy.put(bytes));
        self.bytes.write_all(bytes)
    }

    /// Whether there is something to flush.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Returns the start time of its times.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Returns its length in bytes, including what is not in the file yet.
    pub(super) fn written(&self) -> u64 {
        self.offset
    }

    /// Returns what may be the beginning of a secret, and is not in the file.
    pub(super) fn held_back(&self) -> &[u8] {
        &self.held
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.dirty = false;
        self.with_copy(Copy::flush);
        self.bytes.flush()?;
        self.times.flush()
    }

    /// Writes what was held back, because nothing more comes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.put(&held)?;
        self.with_copy(Copy::release);
        self.flush()
    }
}

impl Copy {
    /// Secrets are masked in place, since the times are places in the transcript.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        self.room -= count as u64;
        self.held.extend_from_slice(&bytes[..count]);
        mask_in_place(&mut self.held);
        let rest = self.held.split_off(self.held.len() - begun_at_end(&self.held));
        self.release()?;
        self.held = rest;
        Ok(())
    }

    /// Writes what was held back.
    fn release(&mut self) -> io::Result<()> {
        self.bytes.write_all(&std::mem::take(&mut self.held))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()?;
        self.times.flush()
    }
}

/// Returns the path of the times of the transcript at `path`.
pub(super) fn times_path(path: &Path) -> PathBuf {
    let mut times = path.as_os_str().to_owned();
    times.push(".times");
    times.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_no_secret_of_another_console_and_the_same_places() {
        let folder = tempfile::tempdir().unwrap();
        let [path, bytes, times] = ["transcript", "copy", "times"].map(|name| folder.path().join(name));
        let mut transcript = Transcript::create(&path).unwrap();
        let none = Secrets::default();
        transcript.write(b"S3cr3tPw 1\n", Instant::now(), &none).unwrap();
        crate::secrets::know("S3cr3tPw");
        let files = [&bytes, &times].map(|path| File::create(path).unwrap());
        let [to_bytes, to_times] = files;
        transcript.copy_to(&path, to_bytes, to_times, 1 << 20).unwrap();
        for part in ["S3c", "r3t", "Pw 2\nS3", "c\n", "S"] {
            transcript.write(part.as_bytes(), Instant::now(), &none).unwrap();
            transcript.flush().unwrap();
            let written = std::fs::read_to_string(&bytes).unwrap();
            assert!(!written.ends_with("S3c") && !written.ends_with("S3cr3t"), "{written}");
        }
        transcript.finish().unwrap();
        let copy = std::fs::read_to_string(&bytes).unwrap();
        assert_eq!(copy, "****\0\0\0\0 1\n****\0\0\0\0 2\nS3c\nS");
        assert_eq!(copy.len(), std::fs::read(&path).unwrap().len());
        assert_eq!(std::fs::read(&times).unwrap(), std::fs::read(times_path(&path)).unwrap());
    }
}
