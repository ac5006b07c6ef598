//! Collects the output of one command, byte for byte.

use std::ops::{ControlFlow, RangeInclusive};

use crate::machine::checks::kernel_clock::KernelClock;
use crate::machine::session::elevation::{Asked, Reply, asked, conversation, is_complete_at, says_try_again};
use crate::machine::session::frame::{Marker, Nonce, Piece, Scanner};
use crate::machine::session::noise::remove_records;
use crate::machine::session::notices::Jobs;
use crate::machine::session::question::{last_line, without_notices};
use crate::secrets::bytes::{MARGIN, part_without_words};

/// Maximum number of bytes kept of one command's output. A larger output is a mistake in the test, and the guest must
/// not fill the host's memory.
const LARGEST: usize = 256 << 20;
/// The part of the output that is searched for sudo's question: kernel records may follow it.
const TAIL: usize = 4096;

/// Collects the bytes between a command's two markers.
#[derive(Debug)]
pub(crate) struct Collector {
    scanner: Scanner,
    user: String,
    /// The question that a program of our own uses to ask for the password.
    agreed: Option<String>,
    /// The command's text; empty if there is none.
    command: String,
    /// The shell's jobs when the command started.
    jobs: Option<Jobs>,
    printed: Vec<u8>,
    /// Number of bytes printed beyond [`LARGEST`].
    lost: usize,
    /// The guest's uptime when the command was typed, as far as it is known.
    since: f64,
    /// The clock that the times of kernel records are compared with.
    clock: KernelClock,
    started: bool,
    status: Option<i32>,
    /// The guest's uptime in the last marker; NaN before.
    uptime: f64,
    damaged: bool,
    /// Number of confirmations by the shell.
    taken: usize,
    /// The shell that reported that it is ready.
    shell: String,
    /// The question at the end of the output, if it can be answered.
    asked: Option<Asked>,
    /// The length of the output when the last question was answered.
    answered: Option<usize>,
    /// Number of times the password was given.
    passwords: usize,
    /// The user was chosen from a list, so the next question is for their password.
    chosen: bool,
}

/// Maximum number of times the password is given for one command when it is unknown whether it was wrong: sudo asks
/// three times.
const PASSWORDS: usize = 3;

impl Collector {
    /// Creates a collector for a command with this nonce. `user` typed it when the guest had been up for `since`
    /// seconds; the guest's kernel has this `clock`.
    pub(crate) fn new(nonce: Nonce, user: &str, since: f64, clock: KernelClock) -> Self {
        Self {
            scanner: Scanner::new(nonce),
            user: user.to_owned(),
            agreed: None,
            command: String::new(),
            jobs: None,
            printed: Vec::new(),
            lost: 0,
            since,
            clock,
            started: false,
            status: None,
            uptime: f64::NAN,
            damaged: false,
            taken: 0,
            shell: String::new(),
            asked: None,
            answered: None,
            passwords: 0,
            chosen: false,
        }
    }

    /// Sets the question that a program of our own uses to ask for the password.
    pub(crate) fn agree(&mut self, question: Option<&str>) {
        self.agreed = question.map(str::to_owned);
    }

    /// Sets the command that is collected.
    pub(crate) fn runs(&mut self, command: &str) {
        command.clone_into(&mut self.command);
    }

    /// Takes the next bytes from the console. Breaks when the shell is ready or the command starts, asks or ends, with
    /// the number of bytes that were used.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> ControlFlow<usize> {
        let Self { scanner, jobs, printed, lost, started, status, uptime, damaged, taken, shell, .. } = self;
        let mut wake = false;
        let flow = scanner.push(chunk, |piece| {
            match piece {
                Piece::Bytes(bytes) if *started => {
                    let room = LARGEST.saturating_sub(printed.len()).min(bytes.len());
                    printed.extend_from_slice(&bytes[..room]);
                    *lost += bytes.len() - room;
                }
                Piece::Bytes(bytes) => {
                    // The echo of the typed line and a prompt come before the list.
                    if let Some(jobs) = jobs {
                        jobs.add(bytes);
                    }
                }
                Piece::Marker(Marker::Jobs) => *jobs = Some(Jobs::default()),
                Piece::Marker(Marker::Start) => {
                    *started = true;
                    wake = true;
                }
                Piece::Marker(Marker::End(code, at)) => {
                    *status = Some(code);
                    *uptime = at;
                    return ControlFlow::Break(());
                }
                Piece::Marker(Marker::Damaged) => {
                    *damaged = true;
                    return ControlFlow::Break(());
                }
                Piece::Marker(Marker::Taken) => {
                    *taken += 1;
                    wake = true;
                }
                Piece::Marker(Marker::Ready(at, which)) => {
                    *uptime = at;
                    *shell = which;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        match flow {
            ControlFlow::Continue(()) if self.begins_to_ask() || wake => ControlFlow::Break(chunk.len()),
            flow => flow,
        }
    }

    /// Returns the nonce of the command's markers.
    pub(crate) fn nonce(&self) -> &Nonce {
        self.scanner.nonce()
    }

    /// Returns how many batches of typed lines the shell has confirmed.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Returns the number of bytes printed so far.
    pub(crate) fn printed(&self) -> usize {
        self.printed.len() + self.lost
    }

    /// Returns the end of the output as text, without lines of the kernel and of systemd.
    pub(crate) fn end_of_text(&self) -> String {
        self.words(self.printed.len().saturating_sub(TAIL))
    }

    /// Returns what came after so many bytes.
    pub(crate) fn text_since(&self, printed: usize) -> String {
        self.words(printed.max(self.printed.len().saturating_sub(TAIL)))
    }

    /// Returns whether the command has started.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Returns whether the command arrived damaged and was not run.
    pub(crate) fn damaged(&self) -> bool {
        self.damaged
    }

    /// Returns the exit status, if the command has ended.
    pub(crate) fn status(&self) -> Option<i32> {
        self.status
    }

    /// Returns the guest's uptime when the shell got ready or the command ended; NaN before, and without /proc.
    pub(crate) fn uptime(&self) -> f64 {
        self.uptime
    }

    /// Returns the shell that got ready: its process and its user.
    pub(crate) fn shell(&self) -> &str {
        &self.shell
    }

    /// Returns how many bytes were printed beyond what is kept.
    pub(crate) fn lost(&self) -> usize {
        self.lost
    }

    /// Returns the question at the end of the output, if it can be answered.
    pub(crate) fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// Returns the text after the last newline.
    pub(crate) fn last_words(&self) -> String {
        last_line(&self.words(self.from())).trim().to_owned()
    }

    /// Returns the end of the output.
    pub(crate) fn last_lines(&self) -> String {
        self.words(self.from())
    }

    /// Returns the answer to the question, and notes that it is being answered. Returns `None` when the same question
    /// is asked again after an answer, which means that the answer was not accepted.
    pub(crate) fn answer(&mut self) -> Option<Reply> {
        let asked = self.asked.take()?;
        let is_password = asked.reply == Reply::Password;
        let refused = is_password
            && self.passwords > 0
            && (asked.is_sure || self.passwords >= PASSWORDS || says_try_again(&self.words(self.from())));
        let from = self.printed.len().saturating_sub(TAIL);
        let mut tail = self.without_records(from);
        // The conversation is not part of the command's output. After the user's choice it consists of the number, if
        // it is shown, and the question.
        let since_choice = || {
            let at = self.answered.filter(|_| self.chosen)?.max(from);
            let window = self.clock.window(self.since, f64::INFINITY);
            Some(remove_records(self.printed.get(from..at)?, window).len())
        };
        let start = since_choice().or_else(|| conversation(&tail));
        if !refused && let Some(start) = start {
            tail.truncate(start);
            self.printed.truncate(from);
            self.printed.append(&mut tail);
        }
        self.answered = Some(self.printed.len());
        self.passwords += usize::from(is_password);
        self.chosen = !is_password;
        (!refused).then_some(asked.reply)
    }

    /// Returns the end of the last answer, or the start of the searched part.
    fn from(&self) -> usize {
        self.answered.unwrap_or(0).max(self.printed.len().saturating_sub(TAIL))
    }

    /// Returns what was printed since `from`, without escape sequences and without anything that looks like a kernel
    /// record. A question is recognised for any time in the kernel's timestamps.
    fn words(&self, from: usize) -> String {
        without_notices(self.printed.get(from..).unwrap_or_default())
    }

    fn begins_to_ask(&mut self) -> bool {
        // A question ends in a colon; a blank, escapes and kernel lines may follow it.
        let may_ask = matches!(self.printed.last(), Some(b' ' | b'\n' | b':' | b'm' | 0x9a | 0x96));
        let asked = if self.started && may_ask {
            asked(&self.words(self.from()), &self.user, self.agreed.as_deref(), self.chosen)
        } else {
            None
        };
        let begins = asked.is_some() && asked != self.asked;
        if let (true, Some(at)) = (begins, self.answered) {
            // The newline of the last answer is not output. It is removed before its position is forgotten.
            remove_answer_newline(&mut self.printed, at);
        }
        self.asked = asked;
        begins
    }

    /// Returns what was printed since `from`, without kernel records since the command began.
    fn without_records(&self, from: usize) -> Vec<u8> {
        let window = self.clock.window(self.since, f64::INFINITY);
        remove_records(self.printed.get(from..).unwrap_or_default(), window)
    }

    /// Returns the output of a command that prints no kernel records itself: everything that looks like one is removed,
    /// for any timestamp.
    pub(crate) fn into_answer(self) -> Vec<u8> {
        self.without(f64::NEG_INFINITY..=f64::INFINITY)
    }

    /// Returns the end of the output of a command that was broken off: as much as messages show, whatever a flood printed
    /// before. A password at the cut is masked whole.
    pub(crate) fn into_last_bytes(mut self) -> Vec<u8> {
        let cut = self.printed.len().saturating_sub(crate::console::SHOWN);
        if cut > 0 {
            let around = &self.printed[cut.saturating_sub(MARGIN)..];
            self.printed = part_without_words(around, cut.min(MARGIN)..around.len());
            self.answered = None;
        }
        self.into_bytes()
    }

    /// Returns exactly what the command printed: without kernel records, and with the newlines that it wrote (the
    /// terminal puts a carriage return before each).
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let until = if self.status.is_some() { self.uptime } else { f64::INFINITY };
        let window = self.clock.window(self.since, until);
        self.without(window)
    }

    fn without(self, window: RangeInclusive<f64>) -> Vec<u8> {
        let mut bytes = remove_records(&self.printed, window.clone());
        if let Some(at) = self.answered {
            // Removing records moves the end of the answer.
            let at = remove_records(&self.printed[..at], window).len();
            remove_answer_newline(&mut bytes, at);
        }
        if let Some(jobs) = &self.jobs {
            jobs.remove_notices(&self.command, &mut bytes);
        }
        let mut kept = 0;
        for at in 0..bytes.len() {
            if bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n') {
                continue;
            }
            bytes[kept] = bytes[at];
            kept += 1;
        }
        bytes.truncate(kept);
        bytes
    }
}

/// Removes the newline after an answer: sudo ends the line of its question after the hidden answer, and polkit reports
/// success.
fn remove_answer_newline(bytes: &mut Vec<u8>, at: usize) {
    if bytes.get(at..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        bytes.drain(at..at + 2);
    }
    if let Some(length) = bytes.get(at..).and_then(is_complete_at) {
        bytes.drain(at..at + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector() -> Collector {
        Collector::new(
            Nonce { first: "0123abcd".into(), second: "4567cdef".into() },
            "alice",
            12.5,
            KernelClock::default(),
        )
    }

    /// Returns the collector of a command that begins with sudo's question, which was answered.
    fn answered() -> Collector {
        let mut collector = collector();
        assert!(collector.push(b"\x1b_0123abcd4567cdef S\x1b\\[sudo] password for alice: ").is_break());
        assert_eq!(collector.answer(), Some(Reply::Password));
        collector
    }

    fn framed(output: &[u8]) -> Vec<u8> {
        [b"echo\x1b_0123abcd4567cdef S\x1b\\", output, b"\x1b_0123abcd4567cdef E 3 12.61\x1b\\prompt"]
            .concat()
    }

    fn bytes_of(output: &[u8]) -> Vec<u8> {
        let mut collector = collector();
        let stream = framed(output);
        assert_eq!(collector.push(&stream), ControlFlow::Break(stream.len() - 6));
        assert_eq!(collector.status(), Some(3));
        collector.into_bytes()
    }

    #[test]
    fn the_end_of_a_flood_is_kept_and_a_password_at_the_cut_is_masked_whole() {
        crate::secrets::know("Qu0ted-Pw");
        let mut collector = collector();
        assert!(collector.push(b"\x1b_0123abcd4567cdef S\x1b\\").is_break());
        for _ in 0..100 {
            let _ = collector.push(&b"Qu0ted-Pw ".repeat(10_000));
        }
        let last = String::from_utf8(collector.into_last_bytes()).unwrap();
        assert!(last.len() <= crate::console::SHOWN + 16, "{}", last.len());
        assert!(last.split(' ').all(|word| matches!(word, "" | "****")), "{last:.200}");
    }

    #[test]
    fn output_is_exact_whatever_it_is() {
        for output in [
            "",
            "no newline",
            "a\n\nb\n",
            "\u{1b}_0123abcd4567cdee E 0 1\u{1b}\\",
            "[alice@nixos:~]$ ",
            "a\r\n",
            "\r",
        ] {
            let on_the_line = output.replace('\n', "\r\n");
            assert_eq!(bytes_of(on_the_line.as_bytes()), output.as_bytes());
        }
    }

    #[test]
    fn kernel_lines_of_the_commands_time_are_taken_out() {
        assert_eq!(
            bytes_of(b"co[   12.550000] usb 1-1: new\r\nw\r\n[    3.000000] old\r\n"),
            b"cow\n[    3.000000] old\n"
        );
    }

    #[test]
    fn sudos_conversation_is_answered_once_and_is_no_output() {
        let mut collector = collector();
        let lecture = b"\x1b_0123abcd4567cdef S\x1b\\before\r\n\r\nWe trust you have received the usual lecture from the local System\r\nAdministrator. It usually boils down to these three things:\r\n\r\n    #1) Respect the privacy of others.\r\n    #2) Think before you type.\r\n    #3) With great power comes great responsibility.\r\n\r\nFor security reasons, the password you type will not be visible.\r\n\r\n[sudo] password for alice: ";
        assert!(collector.push(lecture).is_break());
        assert!(collector.asked().is_some());
        assert_eq!(collector.answer(), Some(Reply::Password));
        assert!(collector.asked().is_none());
        assert_eq!(
            collector.push(b"\r\nroot\r\n\x1b_0123abcd4567cdef E 0 12.61\x1b\\"),
            ControlFlow::Break(38)
        );
        assert_eq!(collector.into_bytes(), b"before\nroot\n");
    }

    #[test]
    fn kernel_lines_long_before_sudos_question_do_not_bring_its_newline_back() {
        let mut collector = collector();
        let long =
            [b"\x1b_0123abcd4567cdef S\x1b\\[   12.550000] usb\r\n".as_slice(), &b"x".repeat(2 * TAIL)]
                .concat();
        assert!(collector.push(&long).is_break());
        assert!(collector.push(b"[sudo] password for alice: ").is_break());
        assert_eq!(collector.answer(), Some(Reply::Password));
        assert!(collector.push(b"\r\nroot\r\n\x1b_0123abcd4567cdef E 0 12.61\x1b\\").is_break());
        assert_eq!(collector.into_bytes(), [b"x".repeat(2 * TAIL), b"root\n".to_vec()].concat());
    }

    #[test]
    fn sudo_that_asks_again_for_another_command_is_answered_and_leaves_no_newline() {
        let mut collector = answered();
        assert!(collector.push(b"\r\none\r\n[sudo] password for alice: ").is_break());
        assert_eq!(collector.answer(), Some(Reply::Password));
        assert!(collector.push(b"\r\ntwo\r\n\x1b_0123abcd4567cdef E 0 12.61\x1b\\").is_break());
        assert_eq!(collector.into_bytes(), b"one\ntwo\n");
    }

    #[test]
    fn sudo_that_did_not_take_the_password_is_not_answered_again() {
        let mut collector = answered();
        assert!(collector.push(b"\r\nSorry, try again.\r\n[sudo] password for alice: ").is_break());
        assert_eq!(collector.answer(), None);
    }

    #[test]
    fn sudos_question_is_seen_with_kernel_lines_in_and_after_it() {
        let mut collector = collector();
        assert!(collector.push(b"\x1b_0123abcd4567cdef S\x1b\\").is_break());
        assert!(
            collector
                .push(b"[sudo] pass[   12.600000] usb\r\nword for alice: [   12.700000] usb\r\n")
                .is_break()
        );
        assert!(collector.asked().is_some());
    }
}
