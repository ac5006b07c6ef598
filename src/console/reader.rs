//! The task that reads the line all the time, even if nothing waits for output.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::stopped::timeout;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::engine::Pushed;
use super::line::{FAREWELL, SerialLine, Stream};
use super::options::Closed;
use crate::{Error, Events};

/// The size of a read, in bytes. A QEMU socket returns what it has; a PTY at most 4 KiB.
const READ: usize = 64 << 10;
/// After this time without a byte, the transcript is written to its file.
const IDLE: Duration = Duration::from_millis(50);

/// The limit for reading what a guest printed before it was stopped.
const PATIENCE: Duration = Duration::from_millis(250);

/// A thread that waits for a reader to run.
pub(super) struct ReaderThread {
    /// The handle of the thread's runtime.
    pub(super) handle: Handle,
    reader: mpsc::Sender<JoinHandle<()>>,
}

/// Starts a thread with a runtime for one reader. The runtime is created and dropped on that thread, because
/// it must not be dropped within another runtime, in which the caller may be.
pub(super) fn thread(name: &str) -> io::Result<ReaderThread> {
    let (tell_runtime, runtime) = mpsc::channel();
    let (reader, take_reader) = mpsc::channel();
    std::thread::Builder::new().name(format!("{name} (console)")).spawn(move || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell_runtime.send(Err(error))),
        };
        let _ = tell_runtime.send(Ok(runtime.handle().clone()));
        if let Ok(reader) = take_reader.recv() {
            // Until the line is closed or the last handle of the console is dropped.
            let _ = runtime.block_on::<JoinHandle<()>>(reader);
        }
    })?;
    let handle = runtime.recv().map_err(io::Error::other)??;
    Ok(ReaderThread { handle, reader })
}

impl ReaderThread {
    /// Runs a reader that was spawned on the thread's runtime.
    pub(super) fn run(self, reader: JoinHandle<()>) {
        // The thread is waiting for it.
        let _ = self.reader.send(reader);
    }
}

/// The task that reads the line.
pub(super) struct Reader {
    pub(super) line: Arc<SerialLine>,
    pub(super) events: Events,
    pub(super) closed: Option<Closed>,
    pub(super) halted: Halted,
}

/// Why the guest is stopped. It takes effect when everything that the guest printed before has been read.
pub(super) struct Halted {
    told: Option<watch::Receiver<Option<Error>>>,
    /// When a report arrived that has not taken effect yet.
    since: Option<Instant>,
}

impl Halted {
    pub(super) fn of(told: Option<watch::Receiver<Option<Error>>>) -> Self {
        let stopped = told.as_ref().is_some_and(|told| told.borrow().is_some());
        Self { told, since: stopped.then(Instant::now) }
    }

    /// Waits for the next report.
    async fn wait_until_told(&mut self) {
        if let Some(told) = &mut self.told
            && told.changed().await.is_ok()
        {
            // A report that the guest continues takes effect at once.
            let past = Instant::now().checked_sub(PATIENCE);
            self.since = if told.borrow().is_some() { Some(Instant::now()) } else { past };
            return;
        }
        // There will be no more reports.
        self.told = None;
        std::future::pending().await
    }

    /// Makes the report take effect.
    fn apply(&mut self, line: &SerialLine) {
        if let Some(told) = &mut self.told
            && self.since.take().is_some()
        {
            line.engine().halt(told.borrow_and_update().clone());
            line.bell.notify_one();
            line.news.notify_waiters();
        }
    }
}

impl Reader {
    pub(super) async fn run(self, mut incoming: ReadHalf<Box<dyn Stream>>) {
        let Self { line, events, closed, mut halted } = self;
        let mut closed = closed.unwrap_or_else(|| Box::pin(std::future::pending()));
        let farewell = line.speed.scale(FAREWELL);
        let mut why = None;
        tokio::select! {
            () = drain(&line, &events, &mut incoming, &mut halted) => {}
            known = &mut closed => {
                // QEMU's last output is still in the socket.
                let _ = timeout(farewell, drain(&line, &events, &mut incoming, &mut halted)).await;
                why = Some(known);
            }
        }
        if why.is_none() {
            why = timeout(farewell, closed).await.ok();
        }
        line.engine().close(why.unwrap_or_else(|| "the line was closed".to_owned()));
        note_trouble(&line, &events);
        line.bell.notify_one();
        line.news.notify_waiters();
    }
}

/// Reads until the end of the line.
async fn drain(
    line: &Arc<SerialLine>,
    events: &Events,
    incoming: &mut ReadHalf<Box<dyn Stream>>,
    halted: &mut Halted,
) {
    let mut buffer = vec![0; READ];
    let mut dirty = false;
    loop {
        // A guest in a boot loop may print something all the time.
        if halted.since.is_some_and(|told| told.elapsed() >= PATIENCE) {
            halted.apply(line);
        }
        let wakes = dirty || halted.since.is_some();
        let read = tokio::select! {
            biased;
            read = incoming.read(&mut buffer) => read,
            () = sleep(IDLE), if wakes => {
                line.engine().flush();
                note_trouble(line, events);
                dirty = false;
                halted.apply(line);
                continue;
            }
            () = halted.wait_until_told() => continue,
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            Ok(_) => return,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // A PTY returns EIO when its other end is closed.
            Err(error) => {
                tracing::debug!(console = line.name, %error, "the line ended");
                return;
            }
        };
        let (pushed, observed, answers) = {
            let mut engine = line.engine();
            let pushed = engine.push(&buffer[..count]);
            dirty = engine.is_dirty();
            (pushed, engine.told || !engine.observers.is_empty(), engine.take_answers())
        };
        if observed {
            line.news.notify_waiters();
        }
        if pushed == Pushed::Wake {
            line.bell.notify_one();
        }
        if !answers.is_empty() {
            // In a task, because a guest that sends questions but does not read must not block the reader.
            let line = line.clone();
            tokio::spawn(async move { line.write(&answers).await });
        }
    }
}

fn note_trouble(line: &SerialLine, events: &Events) {
    let trouble = line.engine().take_trouble();
    if let Some(trouble) = trouble {
        events.note(format!("{}: the transcript ends here: {trouble}", line.name));
    }
}
