//! A small client of QEMU's control protocol (QMP), which sends one JSON object per line.
//!
//! This program uses ten commands. A client for them is smaller than generated bindings of QEMU's schema, and
//! works with QEMU 7.2 to 11, because the protocol itself has not changed since QEMU 2.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::stopped::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::output::neutralise;
use super::plugged::Plugged;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// The longest accepted answer, in bytes. The largest known one, of `query-qmp-schema`, has 0.2 MB.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// How many events a slow receiver may lag behind before it loses the oldest.
const EVENTS_KEPT: usize = 256;

/// A connection to the control socket of a running QEMU.
///
/// Several commands may be in flight at once. Each gets its own answer.
#[derive(Debug)]
pub struct Qmp {
    to_writer: mpsc::Sender<Vec<u8>>,
    line: Arc<QmpLine>,
}

/// Something that QEMU reports by itself, such as `SHUTDOWN` or `STOP`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QmpEvent {
    /// The name in capitals, as in QEMU's documentation.
    #[serde(rename = "event")]
    pub name: String,
    /// The event's data; `null` if there is none.
    #[serde(default)]
    pub data: Value,
    /// When it happened, by QEMU's clock, since 1970.
    #[serde(skip)]
    pub(crate) at: Option<Duration>,
}

/// QEMU's time of an event (`timestamp` in qapi/control.json). It is -1 if the host's clock failed.
#[derive(Deserialize)]
struct Timestamp {
    seconds: i64,
    microseconds: i64,
}

impl Timestamp {
    fn since_1970(&self) -> Option<Duration> {
        let (seconds, microseconds) = (self.seconds.try_into().ok()?, self.microseconds.try_into().ok()?);
        Duration::from_secs(seconds).checked_add(Duration::from_micros(microseconds))
    }
}

/// The state that the reader shares with callers.
#[derive(Debug)]
struct QmpLine {
    next_id: AtomicU64,
    pending: Mutex<Pending>,
    events: broadcast::Sender<QmpEvent>,
    history: Mutex<History>,
    plugged: Mutex<Plugged>,
    greeted: watch::Sender<Greeting>,
    /// Why QEMU ends, once it has said so.
    shutdown: Mutex<Option<Shutdown>>,
}

/// Why QEMU ends (`SHUTDOWN` in qapi/run-state.json).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shutdown {
    /// Whether its guest caused it.
    pub(crate) by_guest: bool,
    /// QEMU's name for the reason, such as `guest-shutdown` or `host-signal`; empty before QEMU 4.0.
    pub(crate) reason: String,
}

#[derive(Debug, Default)]
struct Pending {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// Events that no [`Qmp::wait_for_event`] has examined.
#[derive(Debug, Default)]
struct History {
    events: VecDeque<QmpEvent>,
    /// How many were dropped because no wait took them.
    forgotten: u64,
}

impl History {
    /// Takes the first matching event and everything before it.
    fn take(&mut self, mut wanted: impl FnMut(&QmpEvent) -> bool) -> Option<QmpEvent> {
        let at = self.events.iter().position(&mut wanted)?;
        self.events.drain(..=at).next_back()
    }
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

/// Any line from QEMU. Its fields show what it is.
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
    timestamp: Option<Timestamp>,
}

/// Distinguishes `"return": null` from a missing `return`.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Qmp {
    /// Connects over `stream`: waits for the greeting and enters command mode. It must be called in a tokio
    /// runtime, whose tasks read and write from then on.
    ///
    /// # Errors
    /// [`ErrorKind::QemuGone`] when the other end closes before the greeting, [`ErrorKind::Timeout`] when the
    /// greeting does not come within `limit`, [`ErrorKind::Qmp`] when QEMU refuses.
    pub async fn connect<S>(stream: S, limit: Duration) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let started = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let line = Arc::new(QmpLine {
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            history: Mutex::default(),
            plugged: Mutex::default(),
            greeted: watch::Sender::new(Greeting::Awaited),
            shutdown: Mutex::default(),
        });
        let for_reader = Arc::clone(&line);
        tokio::spawn(async move {
            for_reader.read_all(&mut reader).await;
            for_reader.close();
        });
        // A separate task writes, so that a caller that is dropped can't tear a line.
        let (to_writer, mut commands) = mpsc::channel::<Vec<u8>>(64);
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                if let Err(error) = writer.write_all(&command).await {
                    tracing::debug!(%error, "can't write to QMP");
                    break;
                }
            }
        });
        let qmp = Self { to_writer, line };
        let mut greeted = qmp.line.greeted.subscribe();
        let greeting = greeted.wait_for(|greeting| *greeting != Greeting::Awaited);
        let greeting = match crate::stopped::timeout(limit, greeting).await {
            Ok(Ok(greeting)) => greeting.clone(),
            Ok(Err(_)) => Greeting::Closed,
            Err(_) => {
                return Err(Error::new(ErrorKind::Timeout, "QEMU's control protocol sent no greeting")
                    .took(started.elapsed(), limit));
            }
        };
        match greeting {
            Greeting::Came(version) => tracing::debug!(version, "QMP greeting received"),
            _ => return Err(gone("the greeting")),
        }
        qmp.execute("qmp_capabilities", None, limit.saturating_sub(started.elapsed())).await?;
        Ok(qmp)
    }

    /// Returns another handle of the same connection.
    pub(super) fn another(&self) -> Self {
        Self { to_writer: self.to_writer.clone(), line: Arc::clone(&self.line) }
    }

    /// Runs `command` and returns its answer.
    ///
    /// A command that exceeds its limit may still take effect later.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's own message when it refuses, [`ErrorKind::Timeout`] when it does not
    /// answer within `limit`, [`ErrorKind::QemuGone`] when it has ended.
    pub async fn execute(&self, command: &str, arguments: Option<Value>, limit: Duration) -> Result<Value> {
        let started = Instant::now();
        let id = self.line.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "execute": command, "id": id });
        if let Some(arguments) = &arguments {
            request["arguments"] = arguments.clone();
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
        // Removes the entry again, also if the caller drops this future.
        let _entry = Entry { line: &self.line, id };
        let exchange = async {
            self.to_writer.send(text).await.ok()?;
            answer.await.ok()
        };
        match crate::stopped::timeout(limit, exchange).await {
            Ok(Some(Ok(value))) => {
                lock(&self.line.plugged).done(command, arguments.as_ref().unwrap_or(&Value::Null));
                Ok(value)
            }
            Ok(Some(Err(refusal))) => {
                let said = neutralise(format!("{}: {}", refusal.class, refusal.desc).as_bytes());
                Err(Error::new(ErrorKind::Qmp, format!("QEMU refused {command}: {said}")))
            }
            Ok(None) => Err(gone(command)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("QEMU did not answer {command}"))
                .took(started.elapsed(), limit)),
        }
    }

    /// Returns what was plugged in on this connection and is still there.
    pub(super) fn plugged(&self) -> Plugged {
        lock(&self.line.plugged).clone()
    }

    /// Returns why a QEMU that has ended did so, if it said so: waits at most `limit` until all that it wrote is read.
    pub(super) async fn shutdown(&self, limit: Duration) -> Option<Shutdown> {
        let mut greeted = self.line.greeted.subscribe();
        let read = greeted.wait_for(|greeting| *greeting == Greeting::Closed);
        if crate::stopped::timeout(limit, read).await.is_err() {
            tracing::debug!("QEMU has ended, and its control connection is still open");
        }
        self.said_of_its_end()
    }

    /// Returns why QEMU ends, if it has said so.
    pub(super) fn said_of_its_end(&self) -> Option<Shutdown> {
        lock(&self.line.shutdown).clone()
    }

    /// Subscribes to events from now on. A receiver that lags more than 256 events behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.line.events.subscribe()
    }

    /// Waits for the first event that `wanted` accepts, at most `limit`. Events count from the one that the
    /// previous such wait found, up to the last 256. So an event that came before this call is not missed.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, with the names of the events that came instead,
    /// [`ErrorKind::QemuGone`] at once when QEMU ends.
    pub async fn wait_for_event(
        &self,
        what: &str,
        mut wanted: impl FnMut(&QmpEvent) -> bool,
        limit: Duration,
    ) -> Result<QmpEvent> {
        let started = Instant::now();
        // Subscribes before the first look, so that an event in between wakes this wait.
        let mut news = self.line.events.subscribe();
        let mut greeted = self.line.greeted.subscribe();
        let look = async {
            loop {
                if let Some(event) = self.line.history().take(&mut wanted) {
                    return Some(event);
                }
                tokio::select! {
                    biased;
                    _ = news.recv() => {}
                    _ = greeted.wait_for(|greeting| *greeting == Greeting::Closed) => {
                        return self.line.history().take(&mut wanted);
                    }
                }
            }
        };
        match crate::stopped::timeout(limit, look).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(gone(what)),
            Err(_) => {
                let (came, forgotten) = {
                    let history = self.line.history();
                    let names: Vec<_> = history.events.iter().map(|event| event.name.clone()).collect();
                    (names.join("\n"), history.forgotten)
                };
                let forgotten = if forgotten == 0 { String::new() } else { format!("{forgotten} events") };
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!("QEMU did not report {}", neutralise(what.as_bytes())),
                )
                .took(started.elapsed(), limit)
                .section("it reported", came)
                .section("dropped, because no wait took them", forgotten))
            }
        }
    }
}

fn gone(waited_for: &str) -> Error {
    Error::new(
        ErrorKind::QemuGone,
        format!("QEMU closed its control connection before {waited_for} was answered"),
    )
}

struct Entry<'a> {
    line: &'a QmpLine,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.line.pending().waiting.remove(&self.id);
    }
}

impl QmpLine {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Reads and dispatches messages until the end of the stream.
    async fn read_all(&self, reader: &mut (impl AsyncRead + Unpin)) {
        let mut line = Vec::new();
        let mut too_long = false;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let mut rest = match reader.read(&mut buffer).await {
                Ok(0) => return,
                Ok(read) => &buffer[..read],
                Err(error) => {
                    tracing::debug!(%error, "can't read from QMP");
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
            tracing::debug!(line = neutralise(line), "QMP: ignoring a line that is not a message");
            return;
        };
        if let Some(greeting) = incoming.greeting {
            self.greeted.send_replace(Greeting::Came(greeting["version"]["qemu"].to_string()));
        } else if let Some(name) = incoming.event {
            let at = incoming.timestamp.and_then(|timestamp| timestamp.since_1970());
            let event = QmpEvent { name, data: incoming.data, at };
            if event.name == "DEVICE_DELETED" {
                lock(&self.plugged).deleted(&event.data["device"]);
            }
            if event.name == "SHUTDOWN" {
                *lock(&self.shutdown) = Some(Shutdown {
                    by_guest: event.data["guest"] != false,
                    reason: neutralise(event.data["reason"].as_str().unwrap_or_default().as_bytes()),
                });
            }
            {
                let mut history = self.history();
                if history.events.len() == EVENTS_KEPT {
                    history.events.pop_front();
                    history.forgotten += 1;
                }
                history.events.push_back(event.clone());
            }
            // There may be no receiver.
            let _ = self.events.send(event);
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
        self.greeted.send_replace(Greeting::Closed);
    }
}

#[cfg(test)]
mod tests;
