//! Answers questions of the host without starting a program, which would take longer than the answer.

use crate::bytes::Bytes;
use crate::frame::{self, ShortText};
use crate::serve::Server;
use crate::socket::listens;
use crate::sys::{self, Fd, POLLIN, Watched};

/// Maximum length of a service's answer.
const ANSWER: usize = 1 << 16;
/// Time limit for a service to continue its answer, in milliseconds.
const PATIENCE: usize = 1000;
/// The end of the handshake. systemd drops calls that arrive with it, so the call waits for the reply.
const BEGIN: &[u8] = b"BEGIN\r\n";
/// The fixed part of a D-Bus message.
const HEADER: usize = 16;

impl Server {
    /// Answers like a command: output, then a status.
    pub fn take_question(&mut self, id: u32, content: &[u8]) {
        let mut answer = Bytes::new();
        let done = match content.strip_prefix(b"dbus ") {
            Some(question) => dbus(question, &mut answer),
            None => match content.strip_prefix(b"connect ") {
                Some(path) => listens(path, &mut answer),
                None => false,
            },
        };
        while !answer.is_empty() {
            let piece = answer.len().min(frame::LONGEST);
            frame::append(&mut self.out, b'O', id, &answer.front()[..piece]);
            answer.consume(piece);
        }
        self.tell_kernel();
        let status = ShortText::new().text(b"status ").number(u32::from(!done)).text(b"\n");
        frame::append(&mut self.out, b'X', id, status.bytes());
    }
}

/// Handles `PATH`, a NUL, and the bytes for the socket at PATH: see [`call`].
fn dbus(question: &[u8], answer: &mut Bytes) -> bool {
    let Some(end) = question.iter().position(|&byte| byte == 0) else { return false };
    call(&question[..end], &question[end + 1..], PATIENCE, answer).is_some()
}

/// Sends the handshake and calls to the socket at a path. The received messages are the answer, up to the reply to the
/// last call. Returns whether that reply is not an error; `None` if it does not come. `patience` is the time limit for
/// each part of the answer, in milliseconds.
pub fn call(path: &[u8], question: &[u8], patience: usize, answer: &mut Bytes) -> Option<bool> {
    let socket = sys::connect(path).ok()?;
    let begun = question.windows(BEGIN.len()).position(|window| window == BEGIN)?;
    let (hello, call) = question.split_at(begun + BEGIN.len());
    if !written(&socket, hello) {
        return None;
    }
    let calls = of_kinds(call, &[1]).0.max(1);
    let mut greeted = false;
    while answer.len() < ANSWER {
        let mut watched = [Watched { fd: socket.number(), events: POLLIN, seen: 0 }];
        if !matches!(sys::wait_for(&mut watched, Some(patience)), Ok(true)) {
            return None;
        }
        match socket.read(&mut answer.room(ANSWER)[..4096]) {
            Ok(0) | Err(_) => return None,
            Ok(count) => answer.filled(count),
        }
        if !greeted && let Some(end) = answer.front().iter().position(|&byte| byte == b'\n') {
            // `OK` and the server's identity.
            answer.consume(end + 1);
            greeted = true;
            if !written(&socket, call) {
                return None;
            }
        }
        let (answers, last) = of_kinds(answer.front(), &[2, 3]);
        if greeted && answers >= calls {
            return Some(last == 2);
        }
    }
    None
}

fn written(socket: &Fd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return false,
        }
    }
    true
}

/// Counts the complete messages of some kinds, and returns the kind of the last of them: 1 is a call, 2 a reply, 3 an
/// error.
fn of_kinds(mut messages: &[u8], kinds: &[u8]) -> (usize, u8) {
    let mut found = (0, 0);
    while messages.len() >= HEADER {
        let number = |at: usize| {
            u32::from_le_bytes([messages[at], messages[at + 1], messages[at + 2], messages[at + 3]]) as usize
        };
        let (body, fields) = (number(4), number(12));
        if body > ANSWER || fields > ANSWER {
            break;
        }
        let whole = (HEADER + fields).next_multiple_of(8) + body;
        if messages.len() < whole {
            break;
        }
        if kinds.contains(&messages[1]) {
            found = (found.0 + 1, messages[1]);
        }
        messages = &messages[whole..];
    }
    found
}
