//! What the run script and QEMU write to stdout and stderr: bounded, and fit to be shown.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::causes::about_kvm_in;
use crate::text;

/// How much of the end stays in memory, for error texts.
const TAIL: usize = 16 * 1024;
/// How much of the beginning goes to the file; a QEMU that complains for ever must not fill the disk.
const FILE: usize = 1024 * 1024;

/// So much of a line is looked at for words about KVM, in bytes: they stand at its beginning.
const LINE: usize = 400;

/// Takes the output as it comes.
pub(super) struct Output {
    tail: VecDeque<u8>,
    file: Option<File>,
    room: usize,
    /// The beginning of the line that is not at its end yet.
    line: Vec<u8>,
    /// The first line about a failure of KVM. What QEMU says after it, its dump of the processors, is long.
    kvm: Option<String>,
}

impl Output {
    /// Output that goes to `path` as well, if the file can be made: what it holds is a convenience.
    pub(super) fn new(path: &Path) -> Self {
        let file =
            File::create(path).map_err(|error| tracing::debug!(%error, "no file for QEMU's output")).ok();
        Self { tail: VecDeque::new(), file, room: FILE, line: Vec::new(), kvm: None }
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
        self.look_for_kvm(bytes);
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
        self.tail.drain(..excess);
        self.tail.extend(bytes);
    }

    fn look_for_kvm(&mut self, bytes: &[u8]) {
        if self.kvm.is_some() {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = neutralise(&line);
                if about_kvm_in(&line).is_some() {
                    self.kvm = Some(line);
                    return;
                }
            }
        }
    }

    /// The first line in which QEMU said that KVM fails, safe to print.
    pub(super) fn kvm(&self) -> Option<&str> {
        self.kvm.as_deref()
    }

    /// The last lines, safe to print.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        neutralise(&bytes)
    }
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
        assert!(output.tail().ends_with("line 199999 of the flood"));
        let size = std::fs::metadata(path).unwrap().len() as usize;
        assert!((FILE..FILE + 100).contains(&size), "{size}");
    }

    #[test]
    fn one_long_line_is_cut() {
        assert_eq!(neutralise(&vec![b'x'; 100_000]).len(), 400);
    }
}
