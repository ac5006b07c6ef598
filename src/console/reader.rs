//! The task that drains the line: it reads at all times, whether somebody waits or not.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::timeout;

use super::engine::Pushed;
use super::line::{Closed, FAREWELL, Line, Stream};
use crate::Events;

/// As much is read at once. A QEMU socket gives what it has; a PTY at most 4 KiB.
const READ: usize = 64 << 10;
/// After so long without a byte the transcript goes to the file.
const IDLE: Duration = Duration::from_millis(50);

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
        let (pushed, answers) = {
            let mut engine = line.engine();
            let pushed = engine.push(&buffer[..count]);
            dirty = engine.is_dirty();
            (pushed, engine.take_answers())
        };
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
