//! The errors of a console: what was expected, what came instead, and the likely cause.

use std::fmt::Write as _;
use std::time::Duration;

use super::engine::Engine;
use super::miss;
use super::pattern::Pattern;
use super::track::Position;
use super::watch::Fatal;
use crate::{Error, ErrorKind, secrets};

/// How many of the last lines are shown.
const LINES: usize = 25;

/// A failed wait, for the report.
pub(super) struct Wait<'a> {
    pub(super) console: &'a str,
    pub(super) patterns: &'a [Pattern],
    pub(super) began: Position,
    pub(super) elapsed: Duration,
    pub(super) limit: Duration,
}

impl<'a> Wait<'a> {
    /// Makes a wait that begins now.
    pub(super) fn on(console: &'a str, engine: &Engine, patterns: &'a [Pattern]) -> Self {
        let (elapsed, limit) = (Duration::ZERO, Duration::ZERO);
        Self { console, patterns, began: engine.end(), elapsed, limit }
    }

    /// Returns the error of a wait that timed out.
    pub(super) fn timed_out(&self, engine: &Engine) -> Error {
        let summary = format!("{}: {} did not come", self.console, self.wanted());
        let mut error = Error::new(ErrorKind::Timeout, summary).took(self.elapsed, self.limit);
        if engine.end().raw == self.began.raw {
            error = error
                .section("came since the wait began", "(nothing at all)")
                .section("before that", engine.last_lines(0, LINES));
        } else {
            error = error.section("came since the wait began", self.came(engine));
        }
        let mut misses = String::new();
        let (text, _) = engine.text_since(self.began.text);
        for pattern in self.patterns {
            if let Some(miss) = miss::nearest(pattern, text) {
                let _ = writeln!(misses, "{}", shown(&miss));
            }
        }
        // Patterns of the library itself get no hint.
        self.patterns.iter().fold(error.section("nearest miss", misses), |error, pattern| pattern.hint(error))
    }

    /// Returns the error of a wait after something that makes waiting pointless.
    pub(super) fn fatal(&self, engine: &Engine, fatal: Fatal) -> Error {
        let (line, _) = engine.line_at(fatal.at);
        let what = fatal.dialog.map_or("the guest's kernel panicked", |dialog| dialog.what);
        let summary = format!("{}: {what} while waiting for {}", self.console, self.wanted());
        let error = Error::new(fatal.kind, summary)
            .took(self.elapsed, self.limit)
            .section("the guest said", line)
            .section("last lines of the console", engine.last_lines(0, LINES));
        match fatal.dialog {
            Some(dialog) => error.likely_cause(dialog.cause).next_step(dialog.next),
            None => panic_advice(error, &engine.last_lines(0, LINES)),
        }
    }

    /// Returns the error of a wait when the guest is stopped.
    pub(super) fn halted(&self, engine: &Engine, why: &Error) -> Error {
        let doing = format!("waiting for {}", self.wanted());
        halted(self.console, engine, &doing, why).took(self.elapsed, self.limit)
    }

    /// Returns the error of a wait when the line is closed.
    pub(super) fn closed(&self, engine: &Engine, why: &str) -> Error {
        let doing = format!("waiting for {}", self.wanted());
        gone(self.console, engine, &doing, why).took(self.elapsed, self.limit)
    }

    /// Describes the patterns in one line.
    fn wanted(&self) -> String {
        let mut patterns: Vec<String> = self.patterns.iter().map(ToString::to_string).collect();
        // Several patterns may have the same name.
        patterns.dedup();
        let wanted = match &patterns[..] {
            [] => "the end of the output".to_owned(),
            [one] => one.clone(),
            several => format!("one of {}", several.join(", ")),
        };
        shown(&wanted)
    }

    fn came(&self, engine: &Engine) -> String {
        engine.last_lines(self.began.raw, LINES)
    }
}

/// Adds the known meaning of a panic's message.
fn panic_advice(error: Error, said: &str) -> Error {
    let known = [
        (
            "Unable to mount root fs",
            "the kernel has no driver for the disk or the file system of /, or the disk is missing",
            "check boot.initrd.availableKernelModules and fileSystems.\"/\"",
        ),
        (
            "No working init found",
            "the program of init= is not on the disk, or can't be run",
            "build the VM again; a kept disk may belong to another configuration",
        ),
        (
            "Out of memory",
            "the machine has too little memory",
            "give it more: virtualisation.memorySize, or `#[scenario(memory = …)]`",
        ),
        (
            "sysrq triggered crash",
            "something in the machine triggered it: echo c > /proc/sysrq-trigger",
            "to do it on purpose, use `machine.crash()`",
        ),
        (
            "Attempted to kill init",
            "process 1 (systemd, or the init of the initial ramdisk) ended, and the kernel can't run without it",
            "its exit code is in that line; its output is above it",
        ),
    ];
    match known.into_iter().find(|(words, ..)| said.contains(words)) {
        Some((_, cause, next)) => error.likely_cause(cause).next_step(next),
        None => error.next_step("the kernel names the cause in the lines above its call trace"),
    }
}

/// Returns the error if the line was closed during an operation.
pub(super) fn gone(console: &str, engine: &Engine, doing: &str, why: &str) -> Error {
    Error::new(ErrorKind::QemuGone, format!("{console}: QEMU ended while {doing}"))
        .section("what is known about its end", shown_lines(why))
        .section("last lines of the console", engine.last_lines(0, LINES))
        .next_step("QEMU's last output is above; a guest that powers off by itself also ends QEMU")
        .because_of_words(why)
}

/// Returns the error if the guest was stopped during an operation.
pub(super) fn halted(console: &str, engine: &Engine, doing: &str, why: &Error) -> Error {
    why.clone()
        .with_summary(format!("{console}: {} (while {doing})", why.summary()))
        .section("last lines of the console", engine.last_lines(0, LINES))
}

/// Masks a text, and makes it one line without control characters.
fn shown(text: &str) -> String {
    secrets::line(text)
}

/// Masks a text, and removes control characters line by line.
fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}
