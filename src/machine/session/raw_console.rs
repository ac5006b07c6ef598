//! A console for a person: its bytes as they come, the person's keys as they are typed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nixvm_test_macros::tracked;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Result;
use crate::console::{Console, Watch};
use crate::machine::session::shell_line::INTERRUPT_KEY;
use crate::machine::{Life, Line, Machine, session::shell};
use crate::text::strip_escapes;

/// A task that holds the console's lock for longer is running a command.
const LOCK: Duration = Duration::from_millis(200);
/// Time for the prompt to be complete after an interrupting key.
const QUIET: Duration = Duration::from_millis(400);
/// Maximum number of unread bytes that are kept. Later bytes are discarded.
const UNREAD: usize = 16 << 20;
/// Number of bytes at the end that are searched for a prompt or a marker.
const TAIL: usize = 256;

/// The marker at the end of any command (see `frame`).
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static END: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b_[0-9a-f]{10} E -?\d+ [0-9.]*\x1b\\").expect("a constant pattern"));
/// The end of a shell's prompt.
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static PROMPT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[$#%>❯»λ➜] ?$").expect("a constant pattern"));

/// The state of a console's other end when a person gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// The console is at a login prompt, or its state is unknown.
    AsItIs,
    /// A shell serves commands and is waiting for one.
    Serving,
    /// A shell serves commands and is running one.
    Busy,
}

/// A machine's console as bytes, from [`Machine::raw_console`].
///
/// The bytes are not filtered: a guest can send escape sequences that a terminal acts on.
#[derive(Debug)]
pub struct RawConsole {
    console: Console,
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    unread: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
    giving: Giving,
    /// The end of the output, while a command is awaited.
    tail: Vec<u8>,
    /// There is output that was not searched for a prompt yet.
    fresh: bool,
}

/// How far the shell has been handed over to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giving {
    /// The person has it.
    Given,
    /// A command is running. The serving loop must be ended after it.
    AfterCommand,
    /// The same, and the person has interrupted the command.
    Interrupted,
}

/// # Raw console
impl Machine {
    /// Returns the console as bytes, for a person to work on it. An open session is handed over to them: they see the
    /// shell's own prompt. A running command continues. Once this is dropped, the session serves commands again,
    /// starting with the next one.
    pub async fn raw_console(&self) -> RawConsole {
        let life = self.life();
        let standing = life.standing(true).await;
        RawConsole::open(life.console.clone(), standing).await
    }
}

impl Life {
    /// Returns the state of the console's other end. With `take`, the session looks for its shell again before its next
    /// command.
    pub(crate) async fn standing(&self, take: bool) -> Standing {
        let Ok(mut line) = crate::stopped::timeout(LOCK, self.line.lock()).await else {
            return Standing::Busy;
        };
        line.settle().await;
        let Line::Shell(shell) = &mut *line else { return Standing::AsItIs };
        let standing = if shell.is_busy() { Standing::Busy } else { Standing::Serving };
        if take {
            shell.mark_taken();
        }
        standing
    }
}

impl RawConsole {
    /// Receives the output of `console` from now on.
    pub(crate) async fn open(console: Console, standing: Standing) -> Self {
        // A panic must not end the console, because the person wants to see it. `Boot` clears one that was found
        // before.
        console.set_watch(Watch::Boot);
        console.set_watch(Watch::Off);
        console.skip();
        let (sender, chunks) = mpsc::unbounded_channel();
        let unread = Arc::<AtomicUsize>::default();
        let (waiting, tapped) = (Arc::clone(&unread), console.clone());
        let reader = tokio::spawn(async move {
            let take = move |chunk: &[u8]| {
                if waiting.load(Ordering::Relaxed) < UNREAD {
                    waiting.fetch_add(chunk.len(), Ordering::Relaxed);
                    // An error means that there is no reader any more.
                    let _ = sender.send(chunk.to_vec());
                }
                ControlFlow::Continue(())
            };
            let _ = tapped.tap(Duration::MAX, take).await;
        });
        let giving = match standing {
            Standing::Busy => Giving::AfterCommand,
            Standing::AsItIs | Standing::Serving => Giving::Given,
        };
        let raw = Self { console, chunks, unread, reader, giving, tail: Vec::new(), fresh: false };
        if standing == Standing::Serving {
            // Lets the tap start, which must receive the prompt.
            tokio::task::yield_now().await;
            let _ = raw.console.send(shell::QUIT).await;
        }
        raw
    }

    /// Returns the next output; `None` when the machine is off. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let chunk = if self.giving == Giving::Interrupted && self.fresh {
                match crate::stopped::timeout(QUIET, self.chunks.recv()).await {
                    Ok(chunk) => chunk?,
                    Err(_) => {
                        self.after_interrupt().await;
                        continue;
                    }
                }
            } else {
                self.chunks.recv().await?
            };
            self.unread.fetch_sub(chunk.len(), Ordering::Relaxed);
            if self.giving != Giving::Given {
                self.fresh = true;
                self.look_at(&chunk).await;
            }
            return Some(chunk);
        }
    }

    /// Types `keys`.
    ///
    /// # Errors
    /// Those of [`Console::send`].
    #[tracked]
    pub async fn send(&mut self, keys: &[u8]) -> Result {
        if self.giving == Giving::AfterCommand && keys.contains(&INTERRUPT_KEY[0]) {
            self.giving = Giving::Interrupted;
        }
        self.console.send(keys).await
    }

    /// Ends the serving loop at a command's end, so that the shell's prompt appears.
    async fn look_at(&mut self, chunk: &[u8]) {
        self.tail.extend_from_slice(chunk);
        let ended = END.is_match(&self.tail);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
        if ended {
            self.giving = Giving::Given;
            let _ = self.console.send(shell::QUIT).await;
        }
    }

    /// Hands the shell over at the prompt after an interrupt. The shell has left the loop by itself; the terminal's
    /// echo is still off.
    async fn after_interrupt(&mut self) {
        let text = strip_escapes(&self.tail);
        if PROMPT.is_match(&text) {
            self.giving = Giving::Given;
            let _ = self.console.send(shell::ECHO_AGAIN).await;
        }
        // Otherwise it may still come, because a guest can be slow.
        self.fresh = false;
    }
}

impl Drop for RawConsole {
    fn drop(&mut self) {
        self.reader.abort();
        self.console.set_watch(Watch::Session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_end_and_a_prompt_are_known() {
        assert!(END.is_match(b"text\x1b_0123456789 E 0 123.45\x1b\\"));
        assert!(!END.is_match(b"text\x1b_0123456789 S\x1b\\"));
        let prompt = b"^C\r\n\x1b[1;32m[\x1b]0;alice@nixos: ~\x07alice@nixos:~]$\x1b[0m ";
        assert!(PROMPT.is_match(&strip_escapes(prompt)));
        assert!(!PROMPT.is_match(b"counting: 17"));
    }
}
