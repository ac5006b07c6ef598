//! Sends the kernel's log to the host as it is written, so that the host has the log of a machine that crashes.
//!
//! Records that exist when a command ends are sent before the command's status. So a host that has received the status
//! has also received everything that the kernel logged before it.

use crate::bytes::Bytes;
use crate::clocks::Mark;
use crate::frame::{self, LONGEST, ShortText};
use crate::serve::Server;
use crate::sys::{self, EAGAIN, EPIPE, Fd, POLLOUT, Watched};

pub const DEVICE: &[u8] = b"/dev/kmsg\0";
/// The maximum length of a record, from the kernel (CONSOLE_EXT_LOG_MAX, PRINTK_MESSAGE_MAX).
const RECORD: usize = 8192;
/// Maximum number of records that are read at once, more than the kernel keeps. A kernel that logs faster than this is
/// read must not block everything else.
const AT_ONCE: usize = 1 << 16;
/// Time limit for the host to take the last messages, in seconds.
const FAREWELL: usize = 2;

/// The state of reading the kernel's log.
pub struct Kernel {
    device: Option<Fd>,
    /// Whether frames are held back because the host saves the machine, which must not cut a frame in two.
    held: bool,
    /// The number of the next record.
    next: u32,
    /// The host already has records with lower numbers.
    from: u32,
    /// The records of the next frame.
    records: Bytes,
    /// A line for comparing the clocks, until it is read.
    pub mark: Option<Mark>,
    /// The result of the comparison.
    pub compared: Option<ShortText>,
}

impl Kernel {
    pub const fn new() -> Kernel {
        Kernel {
            device: None,
            held: false,
            next: 0,
            from: 0,
            records: Bytes::new(),
            mark: None,
            compared: None,
        }
    }

    /// Returns the descriptor to wait for, if the host requests the log.
    pub fn number(&self) -> Option<i32> {
        self.device.as_ref().filter(|_| !self.held).map(Fd::number)
    }

    /// Reads from the oldest record on, but sends only those from `from` on.
    fn open(&mut self, from: u32) -> Result<(), isize> {
        let device = sys::open(DEVICE, false)?;
        device.never_wait()?;
        self.device = Some(device);
        self.from = from;
        self.next = from;
        Ok(())
    }

    /// Reads a record. Returns whether there may be more, or the kernel's error.
    fn read(&mut self) -> Result<bool, isize> {
        let Some(device) = &self.device else { return Ok(false) };
        let room = self.records.room(RECORD);
        match device.read(&mut room[..RECORD]) {
            Ok(0) | Err(EAGAIN) => Ok(false),
            Ok(length) => {
                let record = &room[..length];
                let number = number_of(record);
                if let Some(told) = self.mark.as_ref().and_then(|mark| mark.told(record)) {
                    // Only the first match counts: another process may have copied the line after reading it.
                    self.mark = None;
                    self.compared = Some(told);
                }
                if number.is_none_or(|number| number >= self.from) {
                    self.records.filled(length);
                    self.next = number.map_or(self.next, |number| number.wrapping_add(1));
                }
                Ok(true)
            }
            // Records were overwritten; the next record's number tells the host how many.
            Err(EPIPE) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Returns the number of a record: `PRIORITY,NUMBER,TIME,FLAGS;TEXT`.
fn number_of(record: &[u8]) -> Option<u32> {
    frame::number(record.split(|&byte| byte == b',').nth(1)?)
}

impl Server {
    /// Handles the host's request: to send nothing for now, or all records from this number on; all records if it has
    /// no number.
    pub fn follow_kernel(&mut self, content: &[u8]) {
        self.kernel.held = content == b"hold";
        if self.kernel.held {
            return;
        }
        let from = frame::number(content);
        // A guest that continues from a saved moment is at the position of that moment.
        if self.kernel.device.is_none() || from != Some(self.kernel.next) {
            self.kernel.device = None;
            if let Err(error) = self.kernel.open(from.unwrap_or(0)) {
                return self.kernel_is_unreadable(error);
            }
        }
        self.tell_kernel();
    }

    /// Sends all existing records.
    pub fn tell_kernel(&mut self) {
        if self.kernel.held {
            return;
        }
        for _ in 0..AT_ONCE {
            match self.kernel.read() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.tell_records();
                    self.kernel.device = None;
                    return self.kernel_is_unreadable(error);
                }
            }
            if self.kernel.records.len() + RECORD > LONGEST {
                self.tell_records();
            }
        }
        self.tell_records();
        self.tell_clocks();
    }

    fn tell_records(&mut self) {
        let length = self.kernel.records.len();
        if length > 0 {
            frame::append(&mut self.out, b'M', 0, self.kernel.records.front());
            self.kernel.records.consume(length);
        }
    }

    fn kernel_is_unreadable(&mut self, error: isize) {
        let line = ShortText::new().text(b"unreadable ").number(error.unsigned_abs() as u32);
        frame::append(&mut self.out, b'N', 0, line.bytes());
    }

    /// Sends the remaining records when this process was asked to end, as in a shutdown.
    pub fn take_leave(&mut self, output: &Fd) {
        if self.kernel.device.is_some() {
            self.tell_kernel();
            frame::append(&mut self.out, b'N', 0, b"ended");
        }
        while self.flush(output) && !self.out.is_empty() {
            let mut watched = [Watched { fd: output.number(), events: POLLOUT, seen: 0 }];
            if !matches!(sys::wait_for(&mut watched, Some(FAREWELL)), Ok(true)) {
                return;
            }
        }
    }
}
