//! The serial console of a machine: matches and keeps its output, writes the transcript, and sends what is
//! typed.
//!
//! ```no_run
//! use nixvm_test::console::Pattern;
//! use std::time::Duration;
//! # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
//! let console = machine.console();
//! console.expect("login: ", Duration::from_secs(60)).await?;
//! console.send_line("alice").await?;
//! let uid = Pattern::regex(r"uid=(\d+)\D")?;
//! let found = console.expect(uid, Duration::from_secs(5)).await?;
//! assert_eq!(found.group(1).as_deref(), Some("1000"));
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//! A task of its own reads the line all the time, even if nothing waits for output, so that the guest never
//! blocks. A synchronous engine processes each chunk in one pass:
//!
//! 1. The raw bytes go to the **transcript** (`FILE`, with the times of arrival in `FILE.times`), to an open
//!    [tap](Console::tap), and into a ring of limited size.
//! 2. Escape sequences and control characters are **stripped**, so that patterns match what a person would
//!    read: `\r\n` and `\r\r\n` become `\n`; a lone `\r` also begins a line; backspaces are dropped and erase
//!    nothing. A sequence that never ends costs at most the rest of its line, or 4 KiB.
//! 3. The text goes into a second ring, and the pending wait continues **from where it stopped**: with a
//!    substring search for literals, and with a lazy automaton for regular expressions, whose state is kept
//!    from chunk to chunk. No byte is examined twice, and a wait needs no more memory for 50 MB of output
//!    than for 10.
//! 4. The text is **watched** for what makes waiting pointless ([`Watch`]): a kernel panic, or a dialog at which a
//!    boot stops.
//!    These, and QEMU's end, fail every pending and later wait at once.
//!
//! The result of a wait does not depend on how the bytes were cut into chunks: see [`Pattern`] for the rule.
//! A wait sees everything since the end of the previous match. Several waits on one console take turns in the
//! order in which they began. Nothing runs while no output comes.
//!
//! # Limits
//! A match, including everything between its ends, must fit into what is kept (1 MiB of text, and of raw
//! bytes). [`Match::before`] is limited to that, too, and [`Match::dropped`] returns what is missing. For a
//! regular expression with a Unicode `\b` or `\B`, each chunk makes the search scan the whole window once
//! there is a character that is not ASCII. `(?-u:\b)` avoids that.
//!
//! # Secrets
//! What [`Console::send_secret`] typed is masked in the transcript (every occurrence), in [`Console::tail`]
//! and in every error (whole words).

mod anchors;
mod arrivals;
mod automaton;
mod dialogs;
mod engine;
#[cfg(feature = "expectrl")]
pub mod expectrl;
mod failure;
mod found;
mod line;
mod miss;
mod observers;
mod onlooker;
mod options;
mod pattern;
mod plain;
mod reader;
mod render;
mod replayed;
mod ring;
mod search;
pub(crate) mod secret;
mod slow;
mod strip;
mod terminal;
mod track;
mod transcript;
mod turn;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use arrivals::Arrivals;
pub use found::Match;
pub use line::{Console, Mark, Since};
#[doc(hidden)]
pub use options::{Closed, ConsoleOptions};
pub use pattern::Pattern;
pub(crate) use plain::{SHOWN, shown};
pub use watch::Watch;
