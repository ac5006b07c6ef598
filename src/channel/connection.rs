//! A channel: any number of commands in flight over one stream.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::frame::{Decoder, encode};
use super::handshake::{ChannelOptions, Way, begin};
use super::kernel::Listening;
use super::mailbox::{End, Mailbox};
use super::outgoing::Outgoing;
use super::reader::Reader;
use super::running::Running;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// The longest text of a command, in bytes. Longer data has to go over stdin.
const LONGEST_TEXT: usize = 16 << 20;

/// The accepted error of a clock that was set.
const CLOCK_ERROR: Duration = Duration::from_millis(25);

/// How often the clock is set on a host that never reaches that accuracy.
const CLOCK_TRIES: u32 = 8;

/// An open channel. Clones share the same channel. It is closed when the last clone is dropped and none of
/// its commands is running.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Open>);

/// Closes the channel when dropped.
struct Open {
    shared: Arc<OpenChannel>,
    way: Way,
}

/// What a process leaves of a channel to the process that resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    way: Way,
    /// The last number of a command, so that no number is used twice.
    last_id: u32,
}

/// A command to run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What the shell evaluates: no NUL, and at most 16 MiB.
    pub(crate) text: String,
    /// The shell that evaluates it.
    pub(crate) shell: Shell,
    /// Whether its stdin is written to. Otherwise stdin is /dev/null.
    pub(crate) stdin: bool,
    /// Whether the guest computes checksums of the data: see [`Running::sums`]. The shell server can't.
    pub(crate) sum: bool,
}

/// The shell that evaluates a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// bash, with `set -euo pipefail`.
    Bash,
    /// Does the same as `Bash`, but the text does not appear in the guest's list of processes, because the
    /// command searches that list for words that the text contains.
    HiddenBash,
    /// The user's login shell.
    User,
}

/// What a channel's callers, reader and writer share.
pub(super) struct OpenChannel {
    name: String,
    outgoing: Outgoing,
    state: Mutex<State>,
    /// Receivers of the kernel's log.
    pub(super) kernel: Listening,
    /// Notified when the channel is to be closed after everything that has arrived was read.
    pub(super) closing: Notify,
}

#[derive(Default)]
struct State {
    commands: HashMap<u32, Arc<Mailbox>>,
    pings: HashMap<u32, oneshot::Sender<()>>,
    last_id: u32,
    lost: Option<String>,
    /// Why the channel is about to be lost, so that no command can be started any more.
    closing: Option<String>,
    tasks: Vec<AbortHandle>,
}

impl Channel {
    /// Opens a channel on `stream`: waits for the guest's first word, sends it what it needs to serve the
    /// channel ([`Handshake`](super::Handshake)), and waits for its hello. Must be called in a tokio runtime,
    /// in which a task then reads the stream.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when this takes longer than [`ChannelOptions::limit`],
    /// [`ErrorKind::ChannelLost`] when the guest closes the stream or does not speak the protocol.
    pub(crate) async fn open<S>(stream: S, options: ChannelOptions) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(Box::pin(stream));
        let mut decoder = Decoder::new();
        let way = begin(&mut reader, &mut writer, &mut decoder, &options).await?;
        tracing::debug!(channel = options.name, ?way, "control channel open");
        Ok(Self::begun(reader, writer, decoder, options.name, Saved { way, last_id: 0 }))
    }

    /// Resumes a channel where another process left it, after the guest was restored from a saved moment.
    /// Must be called in a tokio runtime, like [`Channel::open`].
    pub(crate) fn resume<S>(stream: S, name: String, saved: Saved) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(Box::pin(stream));
        Self::begun(reader, writer, Decoder::new(), name, saved)
    }

    /// Returns what [`Channel::resume`] needs. No command may be running.
    pub(crate) fn saved(&self) -> Saved {
        Saved { way: self.0.way, last_id: self.0.shared.state().last_id }
    }

    fn begun<S>(
        reader: ReadHalf<S>,
        writer: WriteHalf<S>,
        decoder: Decoder,
        name: String,
        saved: Saved,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Saved { way, last_id } = saved;
        let shared = Arc::new(OpenChannel {
            name,
            outgoing: Outgoing::new(Box::new(writer)),
            state: Mutex::new(State { last_id, ..State::default() }),
            kernel: Listening::default(),
            closing: Notify::new(),
        });
        let reading = tokio::spawn(Reader::new(Arc::clone(&shared), decoder).run(reader));
        let for_writer = Arc::clone(&shared);
        let writing = tokio::spawn(async move {
            let error = for_writer.outgoing.finish().await;
            for_writer.lose(unwritable(&error));
        });
        shared.keep([reading.abort_handle(), writing.abort_handle()]);
        Self(Arc::new(Open { shared, way }))
    }

    /// Starts a command. Others may be running; [`Way`] says how many can run at once.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`] when the channel is lost, [`ErrorKind::Usage`] when the text holds a NUL or
    /// is longer than 16 MiB. If the guest can't start the command, [`Running::next`] returns that error.
    pub(crate) async fn run(&self, request: Request) -> Result<Running> {
        if request.text.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, "a command can't contain a NUL character"));
        }
        if request.text.len() > LONGEST_TEXT {
            let length = request.text.len();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a command has {length} bytes, and the limit is {LONGEST_TEXT}"),
            )
            .next_step("give the data on stdin"));
        }
        let shared = &self.0.shared;
        shared.outgoing.wait_for_room().await;
        let (id, mailbox) = shared.enlist()?;
        // From here on, dropping this future removes the command from the list.
        let running = Running::new(self.clone(), id, Arc::clone(&mailbox), request.stdin);
        shared.send(|out| {
            encode(out, b'T', id, request.text.as_bytes());
            let mut how = Vec::from(match request.shell {
                Shell::Bash => &b"shell bash\n"[..],
                Shell::HiddenBash => b"shell bash\nhidden 1\n",
                Shell::User => b"shell user\n",
            });
            if request.stdin {
                how.extend_from_slice(b"stdin 1\n");
            }
            if request.sum {
                how.extend_from_slice(b"sum 1\n");
            }
            encode(out, b'R', id, &how);
        });
        Ok(running)
    }

    /// Sends a question that the guest answers without starting a program; see `Q` in the protocol. Only the
    /// helper can answer.
    pub(crate) async fn ask(&self, question: &[u8]) -> Result<Running> {
        let shared = &self.0.shared;
        shared.outgoing.wait_for_room().await;
        let (id, mailbox) = shared.enlist()?;
        let running = Running::new(self.clone(), id, mailbox, false);
        shared.send(|out| encode(out, b'Q', id, question));
        Ok(running)
    }

    /// Waits for an answer of the guest that is independent of any command, and returns the time it took.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, [`ErrorKind::ChannelLost`] when the channel is lost.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<Duration> {
        let started = tokio::time::Instant::now();
        let shared = &self.0.shared;
        let (sender, answer) = oneshot::channel();
        let id = shared.enlist_ping(sender)?;
        let _entry = Ping { shared, id };
        shared.send(|out| encode(out, b'P', id, b""));
        match crate::stopped::timeout(limit, answer).await {
            Ok(Ok(())) => Ok(started.elapsed()),
            Ok(Err(_)) => Err(shared.lost_error(&self.lost().unwrap_or_default())),
            Err(_) => {
                let what = format!("{}: the control channel did not answer", shared.name);
                Err(Error::new(ErrorKind::Timeout, what).took(started.elapsed(), limit))
            }
        }
    }

    /// Corrects the clock of a guest that was restored from a saved moment, and seeds its random number
    /// generator, which would otherwise give the same numbers in each clone. Commands that are started later
    /// see the result.
    ///
    /// The time was correct when it was sent. If the guest was slow to set it, it is sent again. That happens
    /// on a busy host, and while QEMU translates a restored guest's code again.
    ///
    /// # Errors
    /// Those of [`Channel::ping`].
    pub(crate) async fn awaken(&self, seed: &[u8; 32], limit: Duration) -> Result {
        let mut seed = crate::digest::hex(seed, seed.len());
        for _ in 0..CLOCK_TRIES {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let text = format!("{}.{:09} {seed}", now.as_secs(), now.subsec_nanos());
            self.0.shared.send(|out| encode(out, b'C', 0, text.as_bytes()));
            if self.ping(limit).await? <= CLOCK_ERROR {
                break;
            }
            seed.clear();
        }
        Ok(())
    }

    /// Returns why the channel is lost, or `None` if it is open.
    pub(crate) fn lost(&self) -> Option<String> {
        let state = self.0.shared.state();
        state.lost.clone().or_else(|| state.closing.clone())
    }

    /// Returns what serves the channel in the guest.
    pub(crate) fn way(&self) -> Way {
        self.0.way
    }

    /// Whether several commands can run at once and their output arrives as it is printed.
    pub(crate) fn is_whole(&self) -> bool {
        self.way() == Way::Helper
    }

    /// Closes the channel for every holder. Everything pending fails with `why`, and the guest's side ends.
    pub(crate) fn close(&self, why: &str) {
        self.0.shared.lose(why.to_owned());
    }

    /// Does the same as [`Channel::close`], but reads first what the guest has sent. No command can be
    /// started from now on.
    pub(crate) fn close_when_read(&self, why: &str) {
        self.0.shared.state().closing.get_or_insert_with(|| why.to_owned());
        self.0.shared.closing.notify_one();
    }

    pub(super) fn shared(&self) -> &OpenChannel {
        &self.0.shared
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.lose("it was closed".to_owned());
    }
}

struct Ping<'a> {
    shared: &'a OpenChannel,
    id: u32,
}

impl Drop for Ping<'_> {
    fn drop(&mut self) {
        self.shared.pong(self.id);
    }
}

impl OpenChannel {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives a new command its number and its mailbox.
    fn enlist(&self) -> Result<(u32, Arc<Mailbox>)> {
        let mailbox = Arc::new(Mailbox::default());
        let mut state = self.state();
        let id = self.next_id(&mut state)?;
        state.commands.insert(id, Arc::clone(&mailbox));
        Ok((id, mailbox))
    }

    fn enlist_ping(&self, sender: oneshot::Sender<()>) -> Result<u32> {
        let mut state = self.state();
        let id = self.next_id(&mut state)?;
        state.pings.insert(id, sender);
        Ok(id)
    }

    fn next_id(&self, state: &mut State) -> Result<u32> {
        if let Some(why) = state.lost.as_ref().or(state.closing.as_ref()) {
            return Err(self.lost_error(why));
        }
        let next = state.last_id.checked_add(1);
        state.last_id = next.ok_or_else(|| self.lost_error("it has used up its numbers for commands"))?;
        Ok(state.last_id)
    }

    /// Writes frames. If the stream can't be written to, the channel is lost.
    pub(super) fn send(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        if let Err(error) = self.outgoing.send(fill) {
            self.lose(unwritable(&error));
        }
    }

    pub(super) fn kill(&self, id: u32, signal: i32) {
        self.send(|out| encode(out, b'K', id, signal.to_string().as_bytes()));
    }

    /// Returns the mailbox of a running command.
    pub(super) fn mailbox(&self, id: u32) -> Option<Arc<Mailbox>> {
        self.state().commands.get(&id).cloned()
    }

    /// Removes a command from the list. Frames that arrive for it later are ignored.
    pub(super) fn forget(&self, id: u32) -> Option<Arc<Mailbox>> {
        self.state().commands.remove(&id)
    }

    pub(super) fn pong(&self, id: u32) {
        if let Some(waiting) = self.state().pings.remove(&id) {
            // The caller may have given up.
            let _ = waiting.send(());
        }
    }

    /// Registers the tasks of the channel, which end with it.
    fn keep(&self, tasks: [AbortHandle; 2]) {
        let mut state = self.state();
        if state.lost.is_some() {
            tasks.iter().for_each(AbortHandle::abort);
        } else {
            state.tasks = tasks.into();
        }
    }

    /// Ends the channel, so that everything pending fails. The first reason counts.
    pub(super) fn lose(&self, why: String) {
        let (commands, pings, tasks) = {
            let mut state = self.state();
            if state.lost.is_some() {
                return;
            }
            tracing::debug!(channel = self.name, why, "control channel lost");
            state.lost = Some(why.clone());
            (
                std::mem::take(&mut state.commands),
                std::mem::take(&mut state.pings),
                std::mem::take(&mut state.tasks),
            )
        };
        self.outgoing.close();
        for mailbox in commands.into_values() {
            mailbox.end(End::Lost(why.clone()));
        }
        drop(pings);
        self.kernel.end();
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub(super) fn lost_error(&self, why: &str) -> Error {
        Error::new(ErrorKind::ChannelLost, format!("{}: the control channel is lost: {why}", self.name))
    }

    /// Returns why the channel is about to be closed, if it is.
    pub(super) fn why_closing(&self) -> Option<String> {
        self.state().closing.clone()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn unwritable(error: &io::Error) -> String {
    format!("it can't be written to: {error}")
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("name", &self.0.shared.name).finish_non_exhaustive()
    }
}
