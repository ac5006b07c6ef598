//! Measures the offset between the kernel's log and the guest's uptime. Writes a line with a word that only the host
//! knows to the log, and reports its time stamp with the uptime before and after it.

use crate::frame::{self, ShortText};
use crate::kmsg::DEVICE;
use crate::serve::Server;
use crate::sys::{self, Fd};

/// Priority for debug messages of a user's program.
const PRIORITY: &[u8] = b"<15>";
/// The text before the word.
const TITLE: &[u8] = b"nixvm-test: clock ";
/// The longest word.
const WORD: usize = 32;

/// A line that was written to the log and not yet read there.
pub struct Mark {
    line: ShortText,
    /// Seconds and nanoseconds of the uptime before and after it was written.
    uptime: [[usize; 2]; 2],
}

impl Mark {
    /// Returns the report of a record, if it is this line: `PRIORITY,NUMBER,TIME,FLAGS;TEXT`.
    pub fn told(&self, record: &[u8]) -> Option<ShortText> {
        let (head, text) = record.split_at(record.iter().position(|&byte| byte == b';')?);
        let text = text[1..].split(|&byte| byte == b'\n').next()?;
        if text != self.line.bytes() {
            return None;
        }
        let mut told = ShortText::new().text(head.split(|&byte| byte == b',').nth(2)?);
        for number in self.uptime.as_flattened() {
            told = told.text(b" ").number(u32::try_from(*number).ok()?);
        }
        Some(told)
    }
}

impl Server {
    /// Starts a comparison of the clocks. Reports nothing without permission to write to the log.
    pub fn compare_clocks(&mut self, word: &[u8]) {
        if word.len() > WORD || !word.iter().all(u8::is_ascii_alphanumeric) {
            return;
        }
        let Ok(log) = sys::open(DEVICE, true) else { return };
        let line = ShortText::new().text(TITLE).text(word);
        let before = sys::uptime();
        if written(&log, &line) {
            self.kernel.mark = Some(Mark { line, uptime: [before, sys::uptime()] });
            self.tell_kernel();
        }
    }

    /// Reports the time stamp of the line.
    pub fn tell_clocks(&mut self) {
        if let Some(told) = self.kernel.compared.take() {
            frame::append(&mut self.out, b'U', 0, told.bytes());
        }
    }
}

fn written(log: &Fd, line: &ShortText) -> bool {
    // In one piece, since each write is a record.
    log.write(ShortText::new().text(PRIORITY).text(line.bytes()).text(b"\n").bytes()).is_ok()
}
