//! What the run script and QEMU write to stdout and stderr: bounded, and fit to be shown.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::causes::about_kvm_in;
use crate::{host_limits, text};

/// How much of the end stays in memory, for error texts.
const TAIL: usize = 16 * 1024;
/// How many of the last lines of the run script are shown.
const SCRIPT: usize = 12;
/// How a line of QEMU's own begins. Its tools, which run scripts use, have other names.
const QEMU: [&str; 3] = ["qemu-system-", "qemu-kvm: ", "qemu: "];
/// How much of the beginning goes to the file; a QEMU that complains for ever must not fill the disk.
const FILE: usize = 1024 * 1024;

/// So much of a line is looked at for words about KVM, in bytes: they stand at its beginning.
const LINE: usize = 400;

/// Takes the output as it comes.
#[derive(Debug)]
pub(super) struct Output {
    tail: VecDeque<u8>,
    /// What the run script had printed when QEMU ran, and that it did.
    script: Option<String>,
    file: Option<File>,
    room: usize,
    /// The beginning of the line that is not at its end yet.
    line: Vec<u8>,
    /// The first line about a failure of KVM. What QEMU says after it, its dump of the processors, is long.
    kvm: Option<String>,
    /// The last lines, in which a refused process is looked for.
    recent: VecDeque<String>,
    /// The first words that say that a process or a thread was refused. A stack trace may follow them.
    refused: Option<String>,
}

impl Output {
    /// Output that goes to `path` as well, if the file can be made: what it holds is a convenience.
    pub(super) fn new(path: &Path) -> Self {
        let file =
            File::create(path).map_err(|error| tracing::debug!(%error, "no file for QEMU's output")).ok();
        Self {
            tail: VecDeque::new(),
            script: None,
            file,
            room: FILE,
            line: Vec::new(),
            kvm: None,
            recent: VecDeque::new(),
            refused: None,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.room);
        if let Some(file) = &mut self.file {
            let cut = if fits < bytes.len() { "\n(the rest is left out)\n" } else { "" };
            let written = file.write_all(&bytes[..fits]).and_then(|()| file.write_all(cut.as_bytes()));
            if written.is_err() || !cut.is_empty() {
                self.file = None;
            }
        }
        self.room -= fits;
        self.look_at_lines(bytes);
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
        self.tail.drain(..excess);
        self.tail.extend(bytes);
    }

    fn look_at_lines(&mut self, bytes: &[u8]) {
        if self.kvm.is_some() && self.refused.is_some() {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = neutralise(&line);
                if self.kvm.is_none() && about_kvm_in(&line).is_some() {
                    self.kvm = Some(line.clone());
                }
                if self.refused.is_none() {
                    self.recent.push_back(line);
                    self.recent.drain(..self.recent.len().saturating_sub(host_limits::NEAR));
                    self.refused =
                        host_limits::refused_process(self.recent.make_contiguous().join("\n").as_str());
                }
            }
        }
    }

    /// The first line in which QEMU said that KVM fails, safe to print.
    pub(super) fn kvm(&self) -> Option<&str> {
        self.kvm.as_deref()
    }

    /// QEMU runs: what came so far is the run script's, but for QEMU's own first lines.
    pub(super) fn qemu_runs(&mut self) {
        if self.script.is_none() {
            let bytes: Vec<u8> = self.tail.drain(..).collect();
            let begin = where_qemu_begins(&bytes);
            self.script = Some(neutralise(&bytes[..begin]));
            self.tail.extend(&bytes[begin..]);
        }
    }

    /// The last lines, safe to print.
    pub(super) fn said(&self) -> Said {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let (script, qemu) = match &self.script {
            Some(script) => (script.clone(), neutralise(&bytes)),
            None => {
                let (script, qemu) = bytes.split_at(where_qemu_begins(&bytes));
                (neutralise(script), neutralise(qemu))
            }
        };
        Said { script, qemu, runs: self.script.is_some(), refused: self.refused.clone() }
    }
}

/// What was printed last, safe to print.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// By the run script, before QEMU.
    script: String,
    /// By QEMU, and by helpers beside it.
    qemu: String,
    /// QEMU has run.
    runs: bool,
    /// By either, of a process or a thread that was refused.
    refused: Option<String>,
}

impl Said {
    /// QEMU's words.
    pub(super) fn qemu(&self) -> &str {
        &self.qemu
    }

    /// The words of a refused process or thread, however long ago they were printed.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Whether QEMU has answered.
    pub(super) fn has_run(&self) -> bool {
        self.runs
    }

    /// The run script's last words.
    pub(super) fn script(&self) -> String {
        let lines: Vec<&str> = self.script.lines().collect();
        lines[lines.len().saturating_sub(SCRIPT)..].join("\n")
    }

    /// What can say why there is no QEMU: all of it, until QEMU has run.
    pub(super) fn telling(&self) -> String {
        match (self.runs, self.script.is_empty(), self.qemu.is_empty()) {
            (true, ..) | (_, true, _) => self.qemu.clone(),
            (_, _, true) => self.script.clone(),
            _ => format!("{}\n{}", self.script, self.qemu),
        }
    }
}

/// Where QEMU's first line begins.
fn where_qemu_begins(bytes: &[u8]) -> usize {
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if QEMU.iter().any(|name| line.starts_with(name.as_bytes())) {
            return at;
        }
        at += line.len();
    }
    at
}

/// Text that does nothing to a terminal: lines of at most 400 characters, the last 40 lines.
pub(super) fn neutralise(bytes: &[u8]) -> String {
    let text = text::lines(&String::from_utf8_lossy(bytes));
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().take(400).collect())
        .filter(|line: &String| !line.trim().is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(40));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_direction_marks_do_not_get_through() {
        let shown = neutralise(b"qemu: \x1b[2Jbad\x07\r\n\n\xe2\x80\xaeoption\xff");
        assert_eq!(shown, "qemu: bad\n\u{fffd}option\u{fffd}");
    }

    #[test]
    fn a_flood_is_bounded_in_memory_and_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stderr");
        let mut output = Output::new(&path);
        for number in 0..200_000 {
            output.push(format!("line {number} of the flood\n").as_bytes());
        }
        assert!(output.tail.len() <= TAIL);
        output.qemu_runs();
        assert!(output.said().script().ends_with("line 199999 of the flood"));
        let size = std::fs::metadata(path).unwrap().len() as usize;
        assert!((FILE..FILE + 100).contains(&size), "{size}");
    }

    #[test]
    fn what_the_run_script_printed_is_told_from_qemus_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(&folder.path().join("stderr"));
        for number in 0..60 {
            output.push(format!("Processing store path {number}\n").as_bytes());
        }
        output.push(b"qemu-img: warning of a tool\nqemu-system-x86_64: warning: no KVM\n");
        // Until QEMU has run, any of it can be why it does not.
        assert!(output.said().telling().contains("qemu-img: warning"));
        assert_eq!(output.said().qemu(), "qemu-system-x86_64: warning: no KVM");
        output.qemu_runs();
        output.push(b"Processing by a helper\n");
        let said = output.said();
        assert_eq!(said.qemu(), "qemu-system-x86_64: warning: no KVM\nProcessing by a helper");
        assert_eq!(said.telling(), said.qemu());
        assert!(said.script().ends_with("qemu-img: warning of a tool"));
        assert_eq!(said.script().lines().count(), SCRIPT);
    }

    #[test]
    fn a_refused_thread_is_known_behind_any_number_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(&folder.path().join("stderr"));
        output.push(
            b"thread 'main' panicked at a.rs:1\ncalled `unwrap()`: Os { code: 11, message: \"Resource tem",
        );
        assert_eq!(output.said().refused(), None);
        output.push(b"porarily unavailable\" }\n");
        (0..1000).for_each(|number| output.push(format!("{number}: frame\n").as_bytes()));
        let said = output.said();
        assert!(said.refused().unwrap().starts_with("thread 'main' panicked"), "{said:?}");
        assert!(!said.telling().contains("Resource"));
    }

    #[test]
    fn one_long_line_is_cut() {
        assert_eq!(neutralise(&vec![b'x'; 100_000]).len(), 400);
    }
}
