//! Conditions that make waiting pointless: a kernel panic, or a dialog at which a boot stops.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use super::dialogs::{DIALOGS, Dialog};
use super::ring::Ring;
use crate::ErrorKind;

/// What a console watches for during a wait. QEMU's end is always watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Watch {
    /// The machine boots: a kernel panic fails every wait at once, and so does a dialog at which a boot stops
    /// (emergency mode, rescue mode, the menu of NixOS's stage 1). Questions of systemd to the terminal are
    /// answered.
    #[default]
    Boot,
    /// A user is logged in, and commands may print anything. Only a kernel panic counts, and only as a record
    /// with the kernel's time stamp, or as the last line before a silence of a second.
    Session,
    /// Nothing is watched for.
    Off,
}

/// Why waiting is pointless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fatal {
    pub(super) kind: ErrorKind,
    /// The dialog, if it is one.
    pub(super) dialog: Option<&'static Dialog>,
    /// How much text was needed to decide it.
    pub(super) decided: u64,
    /// Where the message begins.
    pub(super) at: u64,
}

const PANIC: &[u8] = b"Kernel panic - not syncing";
/// Made once, because every chunk of a flood is searched.
static FIND_PANIC: LazyLock<Finder> = LazyLock::new(|| Finder::new(PANIC));
static FIND_DIALOGS: LazyLock<Vec<(&Dialog, Finder)>> = LazyLock::new(|| {
    let finders =
        |dialog: &'static Dialog| dialog.words.iter().map(move |words| (dialog, Finder::new(*words)));
    DIALOGS.iter().flat_map(finders).collect()
});
/// How far before the message a kernel time stamp can begin.
const STAMP: u64 = 64;

#[derive(Debug)]
pub(super) struct FatalWatch {
    pub(super) mode: Watch,
    scanned: u64,
    /// A message at the start of a line, as a kernel without time stamps prints it. But a user is logged in,
    /// and a command may have printed it.
    suspicion: Option<Fatal>,
}

impl FatalWatch {
    pub(super) fn new(mode: Watch) -> Self {
        Self { mode, scanned: 0, suspicion: None }
    }

    /// Searches the text that has come since the last call.
    pub(super) fn scan(&mut self, text: &Ring) -> Option<Fatal> {
        let from = std::mem::replace(&mut self.scanned, text.end());
        if self.mode == Watch::Off {
            return None;
        }
        let panic = self.find(text, from, &FIND_PANIC, ErrorKind::KernelPanic, None);
        if self.mode == Watch::Session {
            return panic;
        }
        let find = |(dialog, words): &(&'static Dialog, Finder)| {
            self.find(text, from, words, dialog.kind, Some(dialog))
        };
        FIND_DIALOGS.iter().filter_map(find).chain(panic).min_by_key(|fatal| fatal.decided)
    }

    fn find(
        &mut self,
        text: &Ring,
        from: u64,
        words: &Finder<'_>,
        kind: ErrorKind,
        dialog: Option<&'static Dialog>,
    ) -> Option<Fatal> {
        let length = words.needle().len() as u64;
        let from = from.saturating_sub(length - 1).max(text.start());
        for offset in words.find_iter(text.slice(from, text.end())) {
            let at = from + offset as u64;
            let fatal = Fatal { kind, dialog, decided: at + length, at };
            match record(text.slice(at.saturating_sub(STAMP), at), at) {
                Record::Stamped => return Some(fatal),
                Record::LineStart if self.mode == Watch::Boot => return Some(fatal),
                Record::LineStart => {
                    self.suspicion.get_or_insert(fatal);
                }
                Record::No => {}
            }
        }
        None
    }

    /// Returns the suspicion, if only more of the panic has come since. Silence then confirms it.
    pub(super) fn suspicion(&self, text: &Ring) -> Option<Fatal> {
        let fatal = self.suspicion?;
        let since = text.slice(fatal.at, text.end()).trim_ascii_end();
        let last_line = since.rsplit(|&byte| byte == b'\n').next()?;
        memmem::find(last_line, PANIC).map(|_| fatal)
    }

    /// Drops the suspicion if a match came after the message, because then the guest lives.
    pub(super) fn alive_at(&mut self, position: u64) {
        self.suspicion.take_if(|fatal| fatal.decided < position);
    }
}

enum Record {
    /// After a kernel time stamp, anywhere in the line, because kernel messages appear in the middle of
    /// lines.
    Stamped,
    LineStart,
    No,
}

/// Decides what kind of record the message is, from the bytes before it. `at` is where the message begins.
fn record(before: &[u8], at: u64) -> Record {
    match before.last() {
        None if at == 0 => return Record::LineStart,
        Some(b'\n') => return Record::LineStart,
        _ => {}
    }
    // printk.c: "[%5lu.%06lu]", then with CONFIG_PRINTK_CALLER "[%*s]" of T<pid> or C<cpu>, then a space.
    let Some(stamp) = before.strip_suffix(b" ").and_then(|rest| rest.strip_suffix(b"]")) else {
        return Record::No;
    };
    let caller = stamp
        .iter()
        .rposition(|&byte| byte == b'[')
        .filter(|&open| {
            let id = stamp[open + 1..].trim_ascii_start();
            matches!(id.first(), Some(b'T' | b'C')) && id.len() > 1 && id[1..].iter().all(u8::is_ascii_digit)
        })
        .and_then(|open| stamp[..open].strip_suffix(b"]"));
    let stamp = caller.unwrap_or(stamp);
    let digits = |bytes: &[u8]| bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let micros = digits(stamp);
    let Some(seconds) = stamp[..stamp.len() - micros].strip_suffix(b".") else { return Record::No };
    let whole = digits(seconds);
    let open = seconds[..seconds.len() - whole].trim_ascii_end();
    if micros == 6 && whole > 0 && open.last() == Some(&b'[') { Record::Stamped } else { Record::No }
}
