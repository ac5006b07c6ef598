//! The public handle of a console: a thin asynchronous layer around the engine.

use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::stopped::{Instant, timeout};
use nixvm_test_macros::tracked;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

use super::engine::Engine;
use super::failure;
use super::found::Match;
use super::options::ConsoleOptions;
use super::pattern::Pattern;
use super::reader::{self, Halted, Reader};
use super::track::Position;
use super::transcript::Transcript;
use super::turn::Turn;
use super::watch::Watch;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result, Speed, secrets};

/// The limit of a write. A guest that reads nothing for this long is not going to.
const WRITE: Duration = Duration::from_secs(10);
/// How long the line may stay open after QEMU's end, and how late the report of QEMU's end may be after the
/// line's end.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// A serial console. Clones share the same console. The line is closed when the last one is dropped.
#[derive(Clone)]
pub struct Console(pub(super) Arc<Held>);

/// Ends the reader when the last handle is dropped.
pub(super) struct Held {
    pub(super) line: Arc<SerialLine>,
    reader: AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.reader.abort();
        self.line.engine().close("the console was dropped".to_owned());
        self.line.news.notify_waiters();
    }
}

/// What all handles of a console share.
pub(super) struct SerialLine {
    pub(super) name: String,
    engine: Mutex<Engine>,
    /// Notified when a wait is over, or may be over soon.
    pub(super) bell: Notify,
    /// Notified for observers when something has arrived.
    pub(super) news: Notify,
    /// Held by the task that waits. Others get it in the order of their requests.
    pub(super) turn: tokio::sync::Mutex<()>,
    writer: tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>,
    pub(super) speed: Speed,
    pub(super) window: usize,
    pub(super) transcript: Option<PathBuf>,
    /// How many lines were checked for trouble before this machine began: see [`Console::judged`].
    pub(super) judged: AtomicUsize,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A position in a console's text, from [`Console::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub(super) Position);

impl Mark {
    /// The position before the first byte.
    pub(crate) const BEGINNING: Self = Self(Position { raw: 0, text: 0 });
}

/// The text since a [`Mark`].
#[derive(Debug, Clone)]
pub struct Since {
    /// The text, without escape sequences.
    pub text: String,
    /// How many bytes at its start are no longer kept.
    pub dropped: u64,
}

/// A handle that does not keep the console open.
pub(crate) struct WeakConsole(Weak<Held>);

impl WeakConsole {
    /// Returns the console, unless it was dropped.
    pub(crate) fn upgrade(&self) -> Option<Console> {
        self.0.upgrade().map(Console)
    }
}

impl SerialLine {
    /// Checks that a match of each pattern would fit into what is kept.
    pub(super) fn check_length(&self, patterns: &[Pattern]) -> Result {
        let too_long = |pattern: &&Pattern| pattern.literal().is_some_and(|text| text.len() > self.window);
        let Some(pattern) = patterns.iter().find(too_long) else { return Ok(()) };
        let length = pattern.literal().unwrap_or_default().len();
        let summary =
            format!("a literal of {length} bytes can't be found: only the last {} are kept", self.window);
        Err(Error::new(ErrorKind::Usage, summary))
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.engine)
    }
}

impl Console {
    /// Takes over the line. From now on all output is read at once, even if nothing waits for it, so that the
    /// guest never blocks.
    ///
    /// A task of the caller's runtime reads the line. If code that does not await keeps every thread of the
    /// runtime busy, nothing is read. [`Console::attach_on_a_thread`] does not have this limit.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the transcript can't be created, [`ErrorKind::Usage`] outside of a tokio
    /// runtime.
    #[doc(hidden)]
    pub fn attach(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        options: ConsoleOptions,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Usage, "a console needs a tokio runtime"))?;
        Ok(Self::attach_to(&runtime, stream, options)?.0)
    }

    /// Does the same as [`Console::attach`], but a thread of its own reads the line. The guest is read even
    /// if the caller's runtime is busy, and the transcript's times are exact. A flood of output also costs
    /// less than on a runtime with several threads, where each chunk wakes one more thread.
    ///
    /// `connect` makes the stream. It is called in that thread's runtime, where the stream has to be
    /// registered:
    ///
    /// ```no_run
    /// # use nixvm_test::console::{Console, ConsoleOptions};
    /// # fn example(line: std::os::unix::net::UnixStream) -> nixvm_test::Result {
    /// line.set_nonblocking(true)?;
    /// let connect = || tokio::net::UnixStream::from_std(line);
    /// let console = Console::attach_on_a_thread(connect, ConsoleOptions::default())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the transcript or the thread can't be created or `connect` fails.
    #[doc(hidden)]
    pub fn attach_on_a_thread<S: AsyncRead + AsyncWrite + Send + 'static>(
        connect: impl FnOnce() -> std::io::Result<S>,
        options: ConsoleOptions,
    ) -> Result<Self> {
        let fail = |error: std::io::Error| {
            Error::io("start the reader of a console", &error).because_of_a_limit(&error)
        };
        let runtime = reader::thread(&options.name).map_err(fail)?;
        let (console, reader) = {
            let _inside = runtime.handle.enter();
            Self::attach_to(&runtime.handle, connect().map_err(fail)?, options)?
        };
        runtime.run(reader);
        Ok(console)
    }

    fn attach_to(
        runtime: &tokio::runtime::Handle,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        options: ConsoleOptions,
    ) -> Result<(Self, JoinHandle<()>)> {
        let create = |path: &PathBuf| {
            Transcript::create(path)
                .map_err(|error| Error::io(format_args!("create the transcript {}", path.display()), &error))
        };
        let transcript = options.transcript.as_ref().map(create).transpose()?;
        let stream: Box<dyn Stream> = Box::new(Box::pin(stream));
        let (incoming, writer) = tokio::io::split(stream);
        let window = options.window.max(4 << 10);
        let mut engine = Engine::new(window, options.watch, transcript);
        if !options.past.is_empty() {
            engine.push(&options.past);
            // Its questions to the terminal were answered at that time.
            engine.take_answers();
            engine.skip();
        }
        let line = Arc::new(SerialLine {
            name: options.name,
            engine: Mutex::new(engine),
            bell: Notify::new(),
            news: Notify::new(),
            transcript: options.transcript,
            judged: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            writer: tokio::sync::Mutex::new(writer),
            speed: options.speed,
            window,
        });
        let reader = Reader {
            line: line.clone(),
            events: options.events,
            closed: options.closed,
            halted: Halted::of(options.halted),
        };
        let reader = runtime.spawn(reader.run(incoming));
        Ok((Self(Arc::new(Held { line, reader: reader.abort_handle() })), reader))
    }

    /// Returns a handle that does not keep it open.
    pub(crate) fn downgrade(&self) -> WeakConsole {
        WeakConsole(Arc::downgrade(&self.0))
    }

    /// Waits until `pattern` has come, at most `limit` (which is not scaled). Everything since the last match
    /// counts. Waits on the same console take turns.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, with what came instead and the nearest miss; at once
    /// [`ErrorKind::KernelPanic`], [`ErrorKind::EmergencyMode`] (see [`Watch`]) and [`ErrorKind::QemuGone`];
    /// [`ErrorKind::Usage`] for a literal longer than what is kept.
    #[tracked]
    pub async fn expect(&self, pattern: impl Into<Pattern>, limit: Duration) -> Result<Match> {
        Ok(self.wait(&[pattern.into()], limit).await?.1)
    }

    /// Waits for the first of several patterns: the one whose match is known first. If several match at the
    /// same byte, the first one in `patterns` wins. Also returns its index in `patterns`.
    ///
    /// # Errors
    /// Those of [`Console::expect`]; [`ErrorKind::Usage`] if there is no pattern.
    #[tracked]
    pub async fn expect_any(&self, patterns: &[Pattern], limit: Duration) -> Result<(usize, Match)> {
        if patterns.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a wait without a pattern can't end"));
        }
        self.wait(patterns, limit).await
    }

    async fn wait(&self, patterns: &[Pattern], limit: Duration) -> Result<(usize, Match)> {
        let line = &*self.0.line;
        line.check_length(patterns)?;
        let turn = Turn::take(line, patterns, limit).await?;
        turn.line.engine().begin(patterns);
        turn.until(|engine| engine.take_found()).await
    }

    /// Passes the raw bytes to `tap`, from the end of the last match on, until it breaks. `Break(n)` says
    /// that `n` bytes of this chunk were used, and the rest goes to the next wait. `tap` is called by the
    /// reader under the console's lock, so it must not use the console or block. Tapped bytes are also in the
    /// transcript and the tail.
    ///
    /// # Errors
    /// Those of [`Console::expect`]; [`ErrorKind::Other`] when more has come since the last match than is
    /// kept, so that the tap would miss bytes.
    #[tracked]
    pub async fn tap(
        &self,
        limit: Duration,
        tap: impl FnMut(&[u8]) -> ControlFlow<usize> + Send + 'static,
    ) -> Result<()> {
        let turn = Turn::take(&self.0.line, &[], limit).await?;
        turn.line.engine().begin_tap(Box::new(tap)).map_err(|lost| {
            let summary =
                format!("{}: {lost} bytes of output were lost before they were read", turn.line.name);
            Error::new(ErrorKind::Other, summary)
        })?;
        turn.until(|engine| (!engine.is_tapped()).then_some(())).await
    }

    /// Sends bytes unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the guest did not read them within 10 s (scaled), [`ErrorKind::QemuGone`]
    /// when the line is closed.
    #[tracked]
    pub async fn send(&self, bytes: &[u8]) -> Result<()> {
        if tracing::enabled!(tracing::Level::TRACE) {
            let shown = self.0.line.engine().secrets.mask(bytes);
            tracing::trace!(console = self.0.line.name, bytes = %shown.escape_ascii(), "send");
        }
        self.0.line.write(bytes).await
    }

    /// Types a line: `text` and the Enter key, which sends a carriage return. The guest's terminal driver
    /// turns it into a newline.
    ///
    /// # Errors
    /// Those of [`Console::send`].
    #[tracked]
    pub async fn send_line(&self, text: &str) -> Result<()> {
        self.send(format!("{text}\r").as_bytes()).await
    }

    /// Types a line that must stay secret. It is never logged. If the guest echoes it, it is replaced by
    /// `****` in the transcript, the tail and errors, from now on and at every occurrence. The result of a
    /// match that is returned to the scenario is not masked.
    ///
    /// # Errors
    /// Those of [`Console::send`].
    #[tracked]
    pub async fn send_secret(&self, secret: &str) -> Result<()> {
        self.0.line.engine().secrets.add(secret.as_bytes());
        self.0.line.write(format!("{secret}\r").as_bytes()).await
    }

    /// Sets what is watched for from now on. [`Watch::Boot`] also forgets an earlier panic or emergency mode,
    /// because the machine boots again.
    pub fn set_watch(&self, watch: Watch) {
        self.0.line.engine().set_watch(watch);
    }

    /// Answers the guest's questions to its terminal, as during a boot, until the guard is dropped.
    pub(crate) fn while_a_shell_starts(&self) -> impl Drop + use<> {
        let line = Arc::clone(&self.0.line);
        line.engine().shells_that_start += 1;
        Answering(line)
    }

    /// Returns `text` without the secrets that were typed here.
    pub(crate) fn masked(&self, text: String) -> String {
        secrets::words(&text)
    }

    /// Masks a secret that was typed before this console was attached.
    pub(crate) fn mask(&self, secret: &str) {
        self.0.line.engine().secrets.add(secret.as_bytes());
    }

    /// Returns how many lines at the beginning were checked for trouble when a template was made of the
    /// machine that printed them.
    pub(crate) fn judged(&self) -> usize {
        self.0.line.judged.load(Ordering::Relaxed)
    }

    /// Sets [`Console::judged`].
    pub(crate) fn set_judged(&self, lines: usize) {
        self.0.line.judged.store(lines, Ordering::Relaxed);
    }

    /// Makes the transcript be written to two other files, too: its bytes and its times, both present and
    /// future, at most `most` bytes.
    ///
    /// # Errors
    /// Those of copying the present content.
    pub(crate) fn copy_transcript(&self, files: (File, File), most: u64) -> std::io::Result<()> {
        let Some(path) = self.transcript() else { return Ok(()) };
        self.0.line.engine().copy_transcript(path, files, most)
    }

    /// Returns the path of the transcript.
    pub(crate) fn transcript(&self) -> Option<&Path> {
        self.0.line.transcript.as_deref()
    }

    /// Returns the last `lines` lines as a terminal would show them, with secrets masked. They have no
    /// control characters, escape sequences, invisible characters or changes of direction, and at most 200
    /// characters each. They are safe to print.
    pub fn tail(&self, lines: usize) -> String {
        self.0.line.engine().last_lines(0, lines)
    }

    /// Returns the present end of the text.
    pub fn mark(&self) -> Mark {
        Mark(self.0.line.engine().end())
    }

    /// Returns the kept text since a mark, whether it was matched or not.
    pub fn text_since(&self, mark: Mark) -> Since {
        let engine = self.0.line.engine();
        let (text, dropped) = engine.text_since(mark.0.text);
        Since { text: String::from_utf8_lossy(text).into_owned(), dropped }
    }

    /// Returns whether a line editor waits for input, by what has come since a mark. Shells that have one turn the pasting
    /// of texts on at their prompt, and off again behind it (`ESC [ ? 2004 h`, `l`).
    pub(crate) fn is_at_an_editor(&self, mark: Mark) -> bool {
        const PASTING: &[u8] = b"\x1b[?2004";
        let engine = self.0.line.engine();
        let raw = engine.raw_since(mark.0.raw);
        let last = memchr::memmem::rfind(raw, PASTING);
        last.is_some_and(|at| raw.get(at + PASTING.len()) == Some(&b'h'))
    }

    /// Skips everything that has come so far. The next wait sees only new output.
    pub fn skip(&self) {
        self.0.line.engine().skip();
    }

    /// Whether the other end is still open.
    pub fn is_open(&self) -> bool {
        self.0.line.engine().closed().is_none()
    }

    /// Returns how long nothing has come.
    pub fn quiet_for(&self) -> Duration {
        self.0.line.engine().heard().elapsed()
    }

    /// Writes the transcript to its file now. This also happens at every failure, when the guest is quiet,
    /// and at the end.
    pub fn flush(&self) {
        self.0.line.engine().flush();
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("name", &self.0.line.name).finish_non_exhaustive()
    }
}

impl SerialLine {
    /// Writes everything, or fails after a limit.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<()> {
        let limit = self.speed.scale(WRITE);
        let mut written = 0;
        let write = async {
            let mut writer = self.writer.lock().await;
            while written < bytes.len() {
                match writer.write(&bytes[written..]).await? {
                    0 => return Err(std::io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            writer.flush().await
        };
        let written_or_not = tokio::select! {
            biased;
            written = timeout(limit, write) => written,
            why = self.until_halted() => {
                return Err(failure::halted(&self.name, &self.engine(), "typing", &why));
            }
        };
        match written_or_not {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(console = self.name, %error, "the line accepts no input");
                self.until_closed(limit.min(self.speed.scale(FAREWELL) * 2)).await;
                let engine = self.engine();
                let why = engine.closed().map_or_else(|| error.to_string(), str::to_owned);
                Err(failure::gone(&self.name, &engine, "typing", &why))
            }
            Err(_) => {
                let all = bytes.len();
                let summary = format!("{}: the guest read {written} of {all} bytes of input", self.name);
                let mut engine = self.engine();
                engine.flush();
                Err(Error::new(ErrorKind::Timeout, summary)
                    .took(limit, limit)
                    .section("last lines of the console", engine.last_lines(0, 25))
                    .likely_cause("no program in the guest reads its serial console now"))
            }
        }
    }

    /// Waits until the guest is stopped.
    async fn until_halted(&self) -> Error {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Enabled before the check, so that no notification is missed.
            news.as_mut().enable();
            if let Some(why) = self.engine().halted().cloned() {
                return why;
            }
            news.await;
        }
    }

    /// Gives the reader time to find out why the line is closed.
    pub(super) async fn until_closed(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.engine().closed().is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A caller that has the guest's questions to its terminal answered.
struct Answering(Arc<SerialLine>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut engine = self.0.engine();
        engine.shells_that_start = engine.shells_that_start.saturating_sub(1);
    }
}
