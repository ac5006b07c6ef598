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

/// The longest text of a command. More than this is data, and goes over stdin.
const LONGEST_TEXT: usize = 16 << 20;

/// A clock that was set may be so wrong.
const CLOCK_ERROR: Duration = Duration::from_millis(25);

/// So often the clock is set, on a host where it never is as right as that.
const CLOCK_TRIES: u32 = 8;

/// An open channel; a clone of it is the same channel. It is closed when the last clone is dropped and
/// no command of it is running.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Open>);

/// Closes the channel when dropped.
struct Open {
    shared: Arc<OpenChannel>,
    way: Way,
}

/// What outlives a channel's process, for the one that takes the channel up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    way: Way,
    /// Numbers of commands are not used twice.
    last_id: u32,
}

/// A command to be run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What the shell evaluates. No NUL, at most 16 MiB.
    pub(crate) text: String,
    /// Which shell.
    pub(crate) shell: Shell,
    /// Whether its stdin is written to. Otherwise it is /dev/null.
    pub(crate) stdin: bool,
    /// Whether the guest is to say checksums of what went: see [`Running::sums`]. The shell way can't.
    pub(crate) sum: bool,
}

/// The shell that evaluates a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// bash, with `set -euo pipefail`.
    Bash,
    /// The same. The text is not to be seen in the guest's list of processes: it names what it looks for.
    HiddenBash,
    /// The user's login shell.
    User,
}

/// What callers, the reader and the writer of a channel share.
pub(super) struct OpenChannel {
    name: String,
    outgoing: Outgoing,
    state: Mutex<State>,
    /// Who is told of the kernel's log.
    pub(super) kernel: Listening,
    /// Rings when the channel is to be closed as soon as all that has come is read.
    pub(super) closing: Notify,
}

#[derive(Default)]
struct State {
    commands: HashMap<u32, Arc<Mailbox>>,
    pings: HashMap<u32, oneshot::Sender<()>>,
    last_id: u32,
    lost: Option<String>,
    /// It is about to be lost: nothing can be started any more.
    closing: Option<String>,
    tasks: Vec<AbortHandle>,
}

impl Channel {
    /// Opens a channel on `stream`: waits for the guest's first word, gives it what it needs to serve the
    /// channel ([`Handshake`](super::Handshake)) and waits for its hello. Must be called in a tokio runtime;
    /// reading goes on in a task of it.
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

    /// Takes up a channel where another process left it: the guest goes on from a saved moment. Must be called
    /// in a tokio runtime, as [`Channel::open`].
    pub(crate) fn resume<S>(stream: S, name: String, saved: Saved) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(Box::pin(stream));
        Self::begun(reader, writer, Decoder::new(), name, saved)
    }

    /// What [`Channel::resume`] has to know. Nothing may be running.
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

    /// Starts a command. Others may be running; see [`Way`] for how many at once.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`] when the channel is no more, [`ErrorKind::Usage`] when the text holds a NUL
    /// or is longer than 16 MiB. That the guest could not start it is an error of [`Running::next`].
    pub(crate) async fn run(&self, request: Request) -> Result<Running> {
        if request.text.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, "a command can't hold a NUL character"));
        }
        if request.text.len() > LONGEST_TEXT {
            let length = request.text.len();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a command has {length} bytes; at most {LONGEST_TEXT} are taken"),
            )
            .next_step("give the data on stdin"));
        }
        let shared = &self.0.shared;
        shared.outgoing.wait_for_room().await;
        let (id, mailbox) = shared.enlist()?;
        // From here on, being dropped forgets it again.
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

    /// Asks what takes no program in the guest; see `Q` of the protocol. Only the helper knows an answer.
    pub(crate) async fn ask(&self, question: &[u8]) -> Result<Running> {
        let shared = &self.0.shared;
        shared.outgoing.wait_for_room().await;
        let (id, mailbox) = shared.enlist()?;
        let running = Running::new(self.clone(), id, mailbox, false);
        shared.send(|out| encode(out, b'Q', id, question));
        Ok(running)
    }

    /// Waits for an answer of the guest that has nothing to do with any command, and gives the time it took.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, [`ErrorKind::ChannelLost`] when the channel is no more.
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

    /// Puts right what is wrong in a guest that goes on from a saved moment: its clock, and random numbers that
    /// every clone of that moment would make alike. Commands that are run after this see it done.
    ///
    /// The time was right when it was sent, so it is sent again where the guest took long to take it: on a busy
    /// host, and while a woken guest's code is translated anew.
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

    /// Why the channel is no more, if it is so.
    pub(crate) fn lost(&self) -> Option<String> {
        let state = self.0.shared.state();
        state.lost.clone().or_else(|| state.closing.clone())
    }

    /// What serves it in the guest.
    pub(crate) fn way(&self) -> Way {
        self.0.way
    }

    /// Whether several commands can run at once and their output is seen as it comes.
    pub(crate) fn is_whole(&self) -> bool {
        self.way() == Way::Helper
    }

    /// Closes it for every holder: what is pending fails with `why`, and the guest's side ends.
    pub(crate) fn close(&self, why: &str) {
        self.0.shared.lose(why.to_owned());
    }

    /// [`Channel::close`], but what the guest has said is read before. Nothing can be started from now on.
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
        state.last_id = next.ok_or_else(|| self.lost_error("it has no numbers left for commands"))?;
        Ok(state.last_id)
    }

    /// Writes frames; a stream that can't be written to is the end of the channel.
    pub(super) fn send(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        if let Err(error) = self.outgoing.send(fill) {
            self.lose(unwritable(&error));
        }
    }

    pub(super) fn kill(&self, id: u32, signal: i32) {
        self.send(|out| encode(out, b'K', id, signal.to_string().as_bytes()));
    }

    /// The mailbox of a command that is running.
    pub(super) fn mailbox(&self, id: u32) -> Option<Arc<Mailbox>> {
        self.state().commands.get(&id).cloned()
    }

    /// Takes a command off the list: what comes for it from now on is passed over.
    pub(super) fn forget(&self, id: u32) -> Option<Arc<Mailbox>> {
        self.state().commands.remove(&id)
    }

    pub(super) fn pong(&self, id: u32) {
        if let Some(waiting) = self.state().pings.remove(&id) {
            // Who asked may have gone.
            let _ = waiting.send(());
        }
    }

    /// Keeps the tasks of the channel, to end them with it.
    fn keep(&self, tasks: [AbortHandle; 2]) {
        let mut state = self.state();
        if state.lost.is_some() {
            tasks.iter().for_each(AbortHandle::abort);
        } else {
            state.tasks = tasks.into();
        }
    }

    /// Ends the channel: everything that is pending fails. The first reason counts.
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

    /// Why the channel is to be closed, if it is.
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
