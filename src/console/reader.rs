//! The task that drains the line: it reads at all times, whether somebody waits or not.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::engine::Pushed;
use super::line::{FAREWELL, Line, Stream};
use super::options::Closed;
use crate::Events;

/// As much is read at once. A QEMU socket gives what it has; a PTY at most 4 KiB.
const READ: usize = 64 << 10;
/// After so long without a byte the transcript goes to the file.
const IDLE: Duration = Duration::from_millis(50);

/// A thread that waits for a reader to run.
pub(super) struct ReaderThread {
    /// Of the thread's runtime.
    pub(super) handle: Handle,
    reader: mpsc::Sender<JoinHandle<()>>,
}

/// Starts a thread with a runtime for one reader. The runtime is made and dropped there: within another
/// runtime, where the caller may be, it must not be dropped.
pub(super) fn thread(name: &str) -> io::Result<ReaderThread> {
    let (tell_runtime, runtime) = mpsc::channel();
    let (reader, take_reader) = mpsc::channel();
    std::thread::Builder::new().name(format!("{name} (console)")).spawn(move || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = tell_runtime
            .send(built.as_ref().map(|runtime| runtime.handle().clone()).map_err(io::Error::kind));
        if let (Ok(runtime), Ok(reader)) = (built, take_reader.recv()) {
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
        // The thread waits for it.
        let _ = self.reader.send(reader);
    }
}

/// The task that drains the line.
pub(super) struct Reader {
    pub(super) line: Arc<Line>,
    pub(super) events: Events,
    pub(super) closed: Option<Closed>,
}

impl Reader {
    pub(super) async fn run(self, mut incoming: ReadHalf<Box<dyn Stream>>) {
        let Self { line, events, closed } = self;
        let mut closed = closed.unwrap_or_else(|| Box::pin(std::future::pending()));
        let farewell = line.speed.scale(FAREWELL);
        let mut why = None;
        tokio::select! {
            () = drain(&line, &events, &mut incoming) => {}
            known = &mut closed => {
                // What QEMU said last is still in the socket.
                let _ = timeout(farewell, drain(&line, &events, &mut incoming)).await;
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
async fn drain(line: &Arc<Line>, events: &Events, incoming: &mut ReadHalf<Box<dyn Stream>>) {
    let mut buffer = vec![0; READ];
    let mut dirty = false;
    loop {
        let read = if dirty {
            match timeout(IDLE, incoming.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    line.engine().flush();
                    note_trouble(line, events);
                    dirty = false;
                    continue;
                }
            }
        } else {
            incoming.read(&mut buffer).await
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            Ok(_) => return,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // A PTY says EIO when its other end is closed.
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
            // Not here: a guest that asks but does not read must not keep us from reading.
            let line = line.clone();
            tokio::spawn(async move { line.write(&answers).await });
        }
    }
}

fn note_trouble(line: &Line, events: &Events) {
    let trouble = line.engine().take_trouble();
    if let Some(trouble) = trouble {
        events.note(format!("{}: no transcript from here on: {trouble}", line.name));
    }
}
