//! The kernel's log, told to the host as it is written: what a machine that crashes has logged is known by then.
//!
//! A record that is there when a command ends goes out before the word of that end, so whoever has seen a command's
//! status has been told of all that the kernel logged up to then.

use crate::bytes::Bytes;
use crate::clocks::Mark;
use crate::frame::{self, LONGEST, ShortText};
use crate::serve::Server;
use crate::sys::{self, EAGAIN, EPIPE, Fd, POLLOUT, Watched};

pub const DEVICE: &[u8] = b"/dev/kmsg\0";
/// The longest record, as the kernel itself has it (CONSOLE_EXT_LOG_MAX, PRINTK_MESSAGE_MAX).
const RECORD: usize = 8192;
/// So many records are read at once, more than the kernel keeps; a kernel that logs faster than this is read must not hold up everything else.
const AT_ONCE: usize = 1 << 16;
/// For the host to take what is said last, in seconds.
const FAREWELL: usize = 2;

/// What is known of the kernel's log.
pub struct Kernel {
    device: Option<Fd>,
    /// The host saves the machine: a frame must not be cut in two by that.
    held: bool,
    /// The number of the record that is read next.
    next: u32,
    /// Records of lower numbers are known to the host.
    from: u32,
    /// Records that make up the next frame.
    records: Bytes,
    /// A line by which the clocks are compared, until it is read.
    pub mark: Option<Mark>,
    /// What it said.
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

    /// The descriptor to wait for, where the host wants to be told.
    pub fn number(&self) -> Option<i32> {
        self.device.as_ref().filter(|_| !self.held).map(Fd::number)
    }

    /// Reads from the oldest record on, but tells only those from `from` on.
    fn open(&mut self, from: u32) -> Result<(), isize> {
        let device = sys::open(DEVICE, false)?;
        device.never_wait()?;
        self.device = Some(device);
        self.from = from;
        self.next = from;
        Ok(())
    }

    /// Reads a record. Whether there may be more, or the kernel's error.
    fn read(&mut self) -> Result<bool, isize> {
        let Some(device) = &self.device else { return Ok(false) };
        let room = self.records.room(RECORD);
        match device.read(&mut room[..RECORD]) {
            Ok(0) | Err(EAGAIN) => Ok(false),
            Ok(length) => {
                let record = &room[..length];
                let number = number_of(record);
                if let Some(told) = self.mark.as_ref().and_then(|mark| mark.told(record)) {
                    // The first is the one: who else writes the same has read it there.
                    self.mark = None;
                    self.compared = Some(told);
                }
                if number.is_none_or(|number| number >= self.from) {
                    self.records.filled(length);
                    self.next = number.map_or(self.next, |number| number.wrapping_add(1));
                }
                Ok(true)
            }
            // Records were overwritten; the next one's number tells the host how many.
            Err(EPIPE) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// The number of a record: `PRIORITY,NUMBER,TIME,FLAGS;TEXT`.
fn number_of(record: &[u8]) -> Option<u32> {
    frame::number(record.split(|&byte| byte == b',').nth(1)?)
}

impl Server {
    /// The host wants to be told nothing for now, or from the record with this number on; of all records if it names none.
    pub fn follow_kernel(&mut self, content: &[u8]) {
        self.kernel.held = content == b"hold";
        if self.kernel.held {
            return;
        }
        let from = frame::number(content);
        // A guest that goes on from a saved moment is where it was then.
        if self.kernel.device.is_none() || from != Some(self.kernel.next) {
            self.kernel.device = None;
            if let Err(error) = self.kernel.open(from.unwrap_or(0)) {
                return self.kernel_is_unreadable(error);
            }
        }
        self.tell_kernel();
    }

    /// Tells all records that are there.
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

    /// This process was asked to end, as when the machine goes down: says what there is to say.
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
