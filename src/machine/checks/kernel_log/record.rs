//! A record in the form of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): `PRIORITY,NUMBER,TIME,FLAGS;TEXT`.

use std::time::Duration;

/// The maximum number of bytes kept per line.
pub(super) const LONGEST: usize = 2048;

/// A record of the kernel's log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    /// Since the boot, in microseconds.
    time: u64,
    text: String,
}

impl Record {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let at = memchr::memchr(b';', line)?;
        let mut fields = std::str::from_utf8(&line[..at]).ok()?.split(',');
        let _priority: u32 = fields.next()?.parse().ok()?;
        let number = fields.next()?.parse().ok()?;
        let time = fields.next()?.parse().ok()?;
        Some(Self { number, time, text: unescaped(&line[at + 1..]) })
    }

    /// Returns when it was logged, since the boot.
    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.time)
    }

    /// Returns its lines as a console shows them: with the time in front of each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let stamp = format!("[{:5}.{:06}] ", self.time / 1_000_000, self.time % 1_000_000);
        self.text.lines().map(move |line| format!("{stamp}{}", cut(line)))
    }
}

/// Decodes `\xNN`, which stands for bytes that are not printable.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text;
    while let [first, rest @ ..] = left {
        let digits = rest.strip_prefix(b"x").filter(|_| *first == b'\\').and_then(|rest| rest.get(..2));
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        left = if byte.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cut(line: &str) -> &str {
    let end = (0..=LONGEST.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    &line[..end.unwrap_or(0)]
}
