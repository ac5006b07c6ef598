//! The transcript: every byte of a console in a file, and beside it when each came.
//!
//! `FILE` has the bytes as they came, escape sequences included (secrets are masked). `FILE.times`
//! has lines of two decimal numbers: microseconds since the console was attached, and the offset in
//! `FILE` from which on bytes came at that time. Bytes that came within a millisecond share a line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::secret::Secrets;

const COALESCED: Duration = Duration::from_millis(1);

pub(super) struct Transcript {
    bytes: BufWriter<File>,
    times: BufWriter<File>,
    began: Instant,
    noted: Option<Instant>,
    offset: u64,
    /// What may be the beginning of a secret, held back until more has come.
    held: Vec<u8>,
    dirty: bool,
}

impl Transcript {
    /// Starts the two files anew.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            bytes: BufWriter::with_capacity(64 << 10, File::create(path)?),
            times: BufWriter::new(File::create(times_path(path))?),
            began: Instant::now(),
            noted: None,
            offset: 0,
            held: Vec::new(),
            dirty: false,
        })
    }

    /// Adds bytes that came at `now`.
    pub(super) fn write(&mut self, raw: &[u8], now: Instant, secrets: &Secrets) -> io::Result<()> {
        self.dirty = true;
        if self.noted.is_none_or(|noted| now.duration_since(noted) >= COALESCED) {
            self.noted = Some(now);
            writeln!(self.times, "{} {}", now.duration_since(self.began).as_micros(), self.offset)?;
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
        self.bytes.write_all(bytes)
    }

    /// Whether there is something to flush.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// From when on its times count.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// How many bytes it has, those included that are not in the file yet.
    pub(super) fn written(&self) -> u64 {
        self.offset
    }

    /// What may be the beginning of a secret, and is not in the file.
    pub(super) fn held_back(&self) -> &[u8] {
        &self.held
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.dirty = false;
        self.bytes.flush()?;
        self.times.flush()
    }

    /// Writes what was held back: nothing more comes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.put(&held)?;
        self.flush()
    }
}

/// Where the times of the transcript at `path` are.
pub(super) fn times_path(path: &Path) -> PathBuf {
    let mut times = path.as_os_str().to_owned();
    times.push(".times");
    times.into()
}
