//! The serial console of a machine: what comes is matched, kept and written down; what is typed is
//! sent.
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
//! A task of its own reads the line at all times, whether somebody waits or not, so that the guest never
//! blocks on us. Each chunk goes through a synchronous engine, in one pass:
//!
//! 1. The raw bytes go to the **transcript** (`FILE`, with the times of arrival in `FILE.times`), to an open
//!    [tap](Console::tap), and into a ring of bounded size.
//! 2. Escape sequences and control characters are **stripped**, so that what is matched is what a person
//!    would read: `\r\n` and `\r\r\n` are `\n`; a lone `\r` begins a line as well; backspaces are dropped and
//!    take nothing back. A sequence that never ends costs at most the rest of its line, or 4 KiB.
//! 3. The text goes into a second ring, and the pending wait looks at it **from where it stopped**: literals
//!    by a substring search, regular expressions by a lazy automaton whose state is kept from chunk to
//!    chunk. No byte is looked at twice, and 50 MB of output cost a wait no more memory than 10.
//! 4. The text is **watched** for what makes waiting pointless ([`Watch`]): kernel panic, a dialog at which a boot stops.
//!    These, and QEMU's end, fail every pending and later wait at once.
//!
//! What a wait finds does not depend on how the bytes were cut into chunks: see [`Pattern`] for the rule.
//! A wait sees everything since the end of the previous match. Several waits on one console take turns in
//! the order in which they were begun. While nothing comes, nothing runs.
//!
//! # Limits
//! A match, with what lies between its ends, must fit into what is kept (1 MiB of text, and of raw bytes);
//! [`Match::before`] is cut to that, too, and says so. A regular expression with a Unicode `\b` or `\B` falls
//! back to looking at the whole window for each chunk once a character comes that is not ASCII:
//! `(?-u:\b)` avoids that.
//!
//! # Secrets
//! What [`Console::send_secret`] typed is masked in the transcript (every occurrence), in [`Console::tail`] and in every
//! error (whole words).

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
pub(crate) use plain::shown;
pub use watch::Watch;
