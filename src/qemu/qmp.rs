//! A small client of QEMU's control protocol (QMP): JSON objects, one a line.
//!
//! Ten commands are used here; a client for them is smaller than generated bindings of all of QEMU's
//! schema, and holds for QEMU 7.2 to 11, since the protocol itself has not changed since QEMU 2.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::output::neutralise;
use crate::{Error, ErrorKind, Result};

/// The longest answer that is taken; the largest known, of `query-qmp-schema`, has 0.2 MB.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// Events that a slow receiver may lag behind before it loses the oldest.
const EVENTS_KEPT: usize = 256;

/// A connection to the control socket of a running QEMU.
///
/// Commands may be in flight together; each gets its own answer.
#[derive(Debug)]
pub struct Qmp {
    to_writer: mpsc::Sender<Vec<u8>>,
    line: Arc<Line>,
    next_id: AtomicU64,
}

/// Something that QEMU reports by itself, such as `SHUTDOWN` or `STOP`.
#[derive(Debug, Clone, Deserialize)]
pub struct QmpEvent {
    /// The name in capitals, as in QEMU's documentation.
    #[serde(rename = "event")]
    pub name: String,
    /// What comes with it; `null` when nothing does.
    #[serde(default)]
    pub data: Value,
}

/// What the reader shares with callers.
#[derive(Debug)]
struct Line {
    pending: Mutex<Pending>,
    events: broadcast::Sender<QmpEvent>,
    greeted: watch::Sender<Greeting>,
}

#[derive(Debug, Default)]
struct Pending {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Greeting {
    Awaited,
    Came(String),
    Closed,
}

type Answer = std::result::Result<Value, Refusal>;

#[derive(Debug, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

/// Any line from QEMU. What it is shows by which field it has.
#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    id: Option<u64>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    answer: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

/// Keeps `"return": null` apart from no `return` at all.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Qmp {
    /// Talks on `stream`: waits for the greeting and enters command mode. Must be called in a tokio
    /// runtime; reading and writing go on in tasks of it.
    ///
    /// # Errors
    /// [`ErrorKind::QemuGone`] when the other end closes before the greeting, [`ErrorKind::Timeout`]
    /// when it says nothing within `limit`, [`ErrorKind::Qmp`] when it refuses.
    pub async fn connect<S>(stream: S, limit: Duration) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let started = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let line = Arc::new(Line {
            pending: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            greeted: watch::Sender::new(Greeting::Awaited),
        });
        let for_reader = Arc::clone(&line);
        tokio::spawn(async move {
            for_reader.read_all(&mut reader).await;
            for_reader.close();
        });
        // A task of its own writes: a caller that gives up in the middle must not tear a line.
        let (to_writer, mut commands) = mpsc::channel::<Vec<u8>>(64);
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                if let Err(error) = writer.write_all(&command).await {
                    tracing::debug!(%error, "QMP can't be written to");
                    break;
                }
            }
        });
        let qmp = Self { to_writer, line, next_id: AtomicU64::new(1) };
        let mut greeted = qmp.line.greeted.subscribe();
        let greeting = greeted.wait_for(|greeting| *greeting != Greeting::Awaited);
        let greeting = match tokio::time::timeout(limit, greeting).await {
            Ok(Ok(greeting)) => greeting.clone(),
            Ok(Err(_)) => Greeting::Closed,
            Err(_) => {
                return Err(Error::new(ErrorKind::Timeout, "QEMU's control protocol did not greet")
                    .took(started.elapsed(), limit));
            }
        };
        match greeting {
            Greeting::Came(version) => tracing::debug!(version, "QMP greeted"),
            _ => return Err(gone("the greeting")),
        }
        qmp.execute("qmp_capabilities", None, limit.saturating_sub(started.elapsed())).await?;
        Ok(qmp)
    }

    /// Runs `command` and returns what it answers.
    ///
    /// A command that is given up by its limit may still take effect later.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's own words when it refuses, [`ErrorKind::Timeout`] when it does
    /// not answer within `limit`, [`ErrorKind::QemuGone`] when it ended.
    ///
    /// ```no_run
    /// # async fn f(qmp: nixvm_test::qemu::Qmp) -> nixvm_test::Result {
    /// let status = qmp.execute("query-status", None, std::time::Duration::from_secs(5)).await?;
    /// assert_eq!(status["status"], "running");
    /// # Ok(()) }
    /// ```
    pub async fn execute(&self, command: &str, arguments: Option<Value>, limit: Duration) -> Result<Value> {
        let started = Instant::now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "execute": command, "id": id });
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        let mut text = request.to_string().into_bytes();
        text.extend_from_slice(b"\r\n");
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.line.pending();
            if pending.closed {
                return Err(gone(command));
            }
            pending.waiting.insert(id, sender);
        }
        // Takes the entry away again, also when the caller drops this future.
        let _entry = Entry { line: &self.line, id };
        let exchange = async {
            self.to_writer.send(text).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(Some(Ok(value))) => Ok(value),
            Ok(Some(Err(refusal))) => {
                let said = neutralise(format!("{}: {}", refusal.class, refusal.desc).as_bytes());
                Err(Error::new(ErrorKind::Qmp, format!("QEMU refused {command}: {said}")))
            }
            Ok(None) => Err(gone(command)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("QEMU did not answer {command}"))
                .took(started.elapsed(), limit)),
        }
    }

    /// Events from now on. A receiver that lags more than 256 events behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.line.events.subscribe()
    }
}

fn gone(waited_for: &str) -> Error {
    Error::new(
        ErrorKind::QemuGone,
        format!("QEMU ended its control connection while {waited_for} was waited for"),
    )
}

struct Entry<'a> {
    line: &'a Line,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.line.pending().waiting.remove(&self.id);
    }
}

impl Line {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what comes until the end of the stream.
    async fn read_all(&self, reader: &mut (impl AsyncRead + Unpin)) {
        let mut line = Vec::new();
        let mut too_long = false;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let mut rest = match reader.read(&mut buffer).await {
                Ok(0) => return,
                Ok(read) => &buffer[..read],
                Err(error) => {
                    tracing::debug!(%error, "QMP can't be read");
                    return;
                }
            };
            while let Some(end) = memchr::memchr(b'\n', rest) {
                line.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                if !std::mem::take(&mut too_long) {
                    self.take(&line);
                }
                line.clear();
            }
            if too_long || line.len() + rest.len() > LONGEST_LINE {
                too_long = true;
                line = Vec::new();
            } else {
                line.extend_from_slice(rest);
            }
        }
    }

    fn take(&self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Ok(incoming) = serde_json::from_slice::<Incoming>(line) else {
            tracing::debug!(line = neutralise(line), "QMP: a line that is no message");
            return;
        };
        if let Some(greeting) = incoming.greeting {
            self.greeted.send_replace(Greeting::Came(greeting["version"]["qemu"].to_string()));
        } else if let Some(name) = incoming.event {
            // Nobody may be listening.
            let _ = self.events.send(QmpEvent { name, data: incoming.data });
        } else if let Some(id) = incoming.id
            && let Some(waiting) = self.pending().waiting.remove(&id)
        {
            let answer = match incoming.error {
                Some(refusal) => Err(refusal),
                None => Ok(incoming.answer.unwrap_or(Value::Null)),
            };
            // The caller may have given up.
            let _ = waiting.send(answer);
        }
    }

    fn close(&self) {
        let mut pending = self.pending();
        pending.closed = true;
        pending.waiting.clear();
        drop(pending);
        self.greeted.send_if_modified(|greeting| {
            let awaited = *greeting == Greeting::Awaited;
            *greeting = Greeting::Closed;
            awaited
        });
    }
}

#[cfg(test)]
mod tests;
