//! The simplest console there can be: bytes out, bytes expected.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nixvm_fake_guest::{FakeLine, FakeVm};

#[path = "../../../../src/hang.rs"]
mod hang;
pub use hang::HANG;

pub const ALICE: &str = "\x1b[?2004h\r\r\n\x1b[1;32m[\x1b]0;alice@nixos: ~\x07alice@nixos:~]$\x1b[0m ";
pub const ROOT: &str = "\x1b[?2004h\r\r\n\x1b[1;31m[\x1b]0;root@nixos: ~\x07root@nixos:~]#\x1b[0m ";
pub const LOGIN: &str = "nixos login: ";

pub struct Typist {
    line: UnixStream,
    /// What came after the last hit.
    rest: Vec<u8>,
    /// How many bytes each read gave.
    pub reads: Vec<usize>,
}

impl Typist {
    pub fn new(line: UnixStream) -> Self {
        Self { line, rest: Vec::new(), reads: Vec::new() }
    }

    pub fn keys(&mut self, text: &str) {
        self.line.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for `wanted` and gives everything up to its end.
    pub fn until(&mut self, wanted: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = find(&self.rest, wanted.as_bytes()) {
                let text: Vec<u8> = self.rest.drain(..at + wanted.len()).collect();
                return String::from_utf8_lossy(&text).into_owned();
            }
            let left = HANG.saturating_sub(start.elapsed());
            if left.is_zero() || !self.more(left) {
                panic!("{wanted:?} did not come, but {:?}", String::from_utf8_lossy(&self.rest));
            }
        }
    }

    /// Everything that comes within `time`.
    pub fn within(&mut self, time: Duration) -> String {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            if !self.more(left) {
                break;
            }
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }

    fn more(&mut self, limit: Duration) -> bool {
        self.line.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 65536];
        match self.line.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.reads.push(read);
                self.rest.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    pub fn log_in(&mut self) {
        self.until(LOGIN);
        self.keys("alice\r");
        self.until("Password: ");
        self.keys("test\r");
        self.until(ALICE);
    }

    /// Types a command and gives its output.
    pub fn run(&mut self, command: &str) -> String {
        self.keys(&format!("{command}\r"));
        self.until("\x1b[?2004l\r");
        let text = self.until(ALICE);
        text[..text.len() - ALICE.len()].to_owned()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub fn start(vm: &FakeVm) -> (FakeLine, Typist) {
    let mut line = vm.start();
    let typist = Typist::new(line.take_console());
    (line, typist)
}

pub fn logged_in(vm: &FakeVm) -> (FakeLine, Typist) {
    let (line, mut typist) = start(vm);
    typist.log_in();
    (line, typist)
}
