//! systemd's D-Bus interface, as used from the host.
//!
//! Every system with systemd has `systemd-stdio-bridge`, which carries a D-Bus connection over stdin and stdout. Here
//! it runs on the control channel and stays open. So a question to systemd does not have to start a `systemctl` (50 ms
//! and more in an emulated guest), and signals arrive as they happen. The bridge connects to the manager's own socket:
//! this needs no bus daemon, and also reaches a user's manager, which may have no bus.
//!
//! The interface is described in org.freedesktop.systemd1(5).

pub(crate) mod dbus;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{broadcast, oneshot};

use crate::channel::{CommandStream, Request, Shell};
use crate::machine::Life;

use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const OF_MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
use dbus::{Call, HELLO, Incoming};

/// The limit for one answer, on a fast host.
const ANSWER: Duration = Duration::from_secs(10);
/// Number of signals that a waiting task may lag behind. After that it asks again.
const SIGNALS: usize = 64;

/// A connection to a service manager: the system's, or a user's. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Bus(Arc<Connection>);

struct Connection {
    name: String,
    limit: Duration,
    writer: tokio::sync::Mutex<WriteHalf<CommandStream>>,
    state: Mutex<State>,
    /// Sends the paths of the objects that signals are about.
    signals: broadcast::Sender<String>,
}

#[derive(Default)]
struct State {
    last: u32,
    waiting: HashMap<u32, oneshot::Sender<Result<String, String>>>,
    closed: bool,
}

/// The state of a unit, from systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub(crate) load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub(crate) active: String,
    /// `running`, `exited`, `dead`, …
    pub(crate) sub: String,
}

impl Life {
    /// Returns the service manager of the system (`root`) or of a user. Returns `None` where no bus is available: a
    /// shell serves the channel, or the guest lacks the bridge.
    pub(crate) async fn bus(&self, user: &str) -> Result<Option<Bus>> {
        let channel = self.channel(user).await?;
        if !channel.is_whole() {
            return Ok(None);
        }
        // Locked after the channels: saving the machine takes the locks in this order.
        let mut buses = self.channels.buses.lock().await;
        if let Some(bus) = buses.get(user).filter(|bus| !bus.0.state().closed) {
            return Ok(Some(bus.clone()));
        }
        let folder = if user == "root" { "/run" } else { "$XDG_RUNTIME_DIR" };
        let text = format!("exec systemd-stdio-bridge --bus-path=unix:path={folder}/systemd/private");
        let running = channel.run(Request { text, shell: Shell::Bash, stdin: true, sum: false }).await?;
        let name = format!("{}: systemd of {user}", self.name);
        let bus = Bus::open(running.into_stream(), name, self.limit(ANSWER)).await?;
        if let Some(bus) = &bus {
            buses.insert(user.to_owned(), bus.clone());
        }
        Ok(bus)
    }
}

impl Bus {
    async fn open(stream: CommandStream, name: String, limit: Duration) -> Result<Option<Self>> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let hello = async {
            writer.write_all(HELLO).await?;
            // The reply is `OK` and the server's id.
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") && line.len() < 256 {
                line.push(reader.read_u8().await?);
            }
            Ok::<_, std::io::Error>(line.starts_with(b"OK "))
        };
        match crate::stopped::timeout(limit, hello).await {
            Ok(Ok(true)) => {}
            Ok(other) => {
                tracing::debug!(?other, name, "no bus");
                return Ok(None);
            }
            Err(_) => return Err(silent(&name, limit)),
        }
        let connection = Arc::new(Connection {
            name,
            limit,
            writer: tokio::sync::Mutex::new(writer),
            state: Mutex::default(),
            signals: broadcast::Sender::new(SIGNALS),
        });
        let weak = Arc::downgrade(&connection);
        tokio::spawn(read_all(reader, weak));
        let bus = Self(connection);
        // systemd sends signals only to subscribers.
        bus.call(MANAGER, OF_MANAGER, "Subscribe", &[]).await?;
        Ok(Some(bus))
    }

    /// Returns the state of a unit. systemd loads the unit for that.
    pub(crate) async fn unit(&self, unit: &str) -> Result<Unit> {
        let path = unit_path(unit);
        let get = |property| {
            let path = path.as_str();
            async move { self.call(path, PROPERTIES, "Get", &[UNIT, property]).await }
        };
        // Sent together; the answers come one after the other.
        let (load, active, sub) = tokio::try_join!(get("LoadState"), get("ActiveState"), get("SubState"))?;
        Ok(Unit { load, active, sub })
    }

    /// Returns the units in a property of a unit, such as `TriggeredBy`. systemd before 249 does not know all of them.
    pub(crate) async fn units_in(&self, unit: &str, property: &str) -> Vec<String> {
        let names = self.call(&unit_path(unit), PROPERTIES, "Get", &[UNIT, property]).await;
        names.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Returns the number of the manager's jobs: units that are starting, stopping or queued. Returns `None` if the
    /// manager does not say.
    pub(crate) async fn jobs(&self) -> Result<Option<u32>> {
        Ok(self.call(MANAGER, PROPERTIES, "Get", &[OF_MANAGER, "NJobs"]).await?.parse().ok())
    }

    /// Returns all signals from now on; see [`Happenings::about`].
    pub(crate) fn happenings(&self) -> Happenings {
        Happenings(self.0.signals.subscribe())
    }

    async fn call(&self, path: &str, interface: &str, member: &str, arguments: &[&str]) -> Result<String> {
        let connection = &self.0;
        let (sender, answer) = oneshot::channel();
        let serial = {
            let mut state = connection.state();
            if state.closed {
                return Err(closed(&connection.name));
            }
            state.last = state.last.wrapping_add(1).max(1);
            let serial = state.last;
            state.waiting.insert(serial, sender);
            serial
        };
        let mut message = Vec::new();
        Call { destination: SYSTEMD, path, interface, member, arguments, flags: &[] }
            .write(serial, &mut message);
        let exchange = async {
            connection.writer.lock().await.write_all(&message).await.ok()?;
            answer.await.ok()
        };
        let answered = crate::stopped::timeout(connection.limit, exchange).await;
        connection.state().waiting.remove(&serial);
        match answered {
            Ok(Some(Ok(text))) => Ok(text),
            Ok(Some(Err(why))) => {
                let why = crate::console::shown(why.as_bytes(), 5);
                Err(Error::new(ErrorKind::UnitFailed, format!("{}: {member}: {why}", connection.name)))
            }
            Ok(None) => Err(closed(&connection.name)),
            Err(_) => Err(silent(&connection.name, connection.limit)),
        }
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn take(&self, incoming: Incoming) {
        let (to, answer) = match incoming {
            Incoming::Answer { to, text } => (to, Ok(text)),
            Incoming::Refusal { to, why } => (to, Err(why)),
            Incoming::Signal { path } => {
                // An error means that no receiver is waiting.
                let _ = self.signals.send(path);
                return;
            }
            Incoming::Other => return,
        };
        let waiting = self.state().waiting.remove(&to);
        if let Some(waiting) = waiting {
            // The caller may have given up.
            let _ = waiting.send(answer);
        }
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bus").field(&self.0.name).finish()
    }
}

/// Signals since a point in time.
pub(crate) struct Happenings(broadcast::Receiver<String>);

impl Happenings {
    /// Returns when something may have happened to a unit, or after `limit`.
    pub(crate) async fn about(&mut self, unit: &str, limit: Duration) {
        let path = unit_path(unit);
        let about = async {
            loop {
                match self.0.recv().await {
                    Ok(other) if other != path => {}
                    // A lagging receiver may have missed the signal.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = crate::stopped::timeout(limit, about).await;
    }
}

/// Distributes received messages while the connection has an owner.
async fn read_all(mut reader: ReadHalf<CommandStream>, connection: std::sync::Weak<Connection>) {
    let mut bytes = Vec::new();
    loop {
        let ended = !matches!(reader.read_buf(&mut bytes).await, Ok(1..));
        let Some(connection) = connection.upgrade() else { return };
        let mut used = 0;
        let malformed = loop {
            match dbus::read(&bytes[used..]) {
                Ok(Some((incoming, length))) => {
                    used += length;
                    connection.take(incoming);
                }
                Ok(None) => break false,
                Err(dbus::Malformed) => break true,
            }
        };
        bytes.drain(..used);
        if ended || malformed {
            tracing::debug!(name = connection.name, malformed, "the bus was closed");
            connection.close();
            return;
        }
    }
}

fn closed(name: &str) -> Error {
    Error::new(ErrorKind::ChannelLost, format!("{name}: the connection was closed"))
}

fn silent(name: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("{name}: it did not answer")).took(limit, limit)
}

/// Returns the path of a unit's object: bytes other than letters and digits, and a leading digit, become `_xx`
/// (sd_bus_path_encode(3)).
fn unit_path(unit: &str) -> String {
    use std::fmt::Write;
    let mut path = format!("{MANAGER}/unit/");
    for (place, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && place > 0) {
            path.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::unit_path;

    #[test]
    fn a_unit_has_the_path_that_systemd_gives_it() {
        assert_eq!(unit_path("nginx.service"), "/org/freedesktop/systemd1/unit/nginx_2eservice");
        assert_eq!(unit_path("9p@a.mount"), "/org/freedesktop/systemd1/unit/_39p_40a_2emount");
    }
}
