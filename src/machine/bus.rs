//! systemd's D-Bus interface, seen from the host.
//!
//! `systemd-stdio-bridge`, which every system with systemd has, carries a D-Bus connection over stdin and
//! stdout; run on the control channel and kept open it makes a question to systemd cost what the bus costs,
//! not the start of a `systemctl` (50 ms and more in an emulated guest), and its signals arrive as they
//! happen.
//!
//! The interface is that of org.freedesktop.systemd1(5).

use std::collections::HashMap;
use std::time::Duration;

use tokio::net::UnixStream;
use zbus::message::Type;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, MatchRule, MessageStream};

use super::Life;
use crate::control::{Request, Shell};
use crate::{Error, ErrorKind, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// For one answer, on a fast host.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a service manager: the system's, or a user's.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    connection: Connection,
    name: String,
    limit: Duration,
}

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub(super) load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub(super) active: String,
    /// `running`, `exited`, `dead`, …
    pub(super) sub: String,
}

impl Life {
    /// The service manager of the system (`root`) or of a user. `None` where nothing carries a bus: the
    /// channel is served by a shell, or the guest lacks the bridge.
    pub(super) async fn bus(&self, user: &str) -> Result<Option<Bus>> {
        let mut buses = self.control.buses.lock().await;
        let channel = self.channel(user).await?;
        if !super::control::is_whole(&channel) {
            return Ok(None);
        }
        if let Some(bus) = buses.get(user).filter(|bus| bus.is_alive()) {
            return Ok(Some(bus.clone()));
        }
        // The managers' own sockets, beside any bus daemon: root's and that of the user's runtime directory.
        let folder = if user == "root" { "/run" } else { "$XDG_RUNTIME_DIR" };
        let text = format!("exec systemd-stdio-bridge --bus-path=unix:path={folder}/systemd/private");
        let running = channel.run(Request { text, shell: Shell::Bash, stdin: true }).await?;
        let (ours, mut theirs) =
            UnixStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        let mut carrier = Box::pin(running.into_stream());
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut carrier, &mut theirs).await });
        let limit = self.limit(ANSWER);
        let name = format!("{}: systemd of {user}", self.name);
        let connect = async {
            let connection = zbus::connection::Builder::unix_stream(ours).p2p().build().await?;
            // Signals are sent only to those who asked.
            connection.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), "Subscribe", &()).await?;
            Ok::<_, zbus::Error>(connection)
        };
        match tokio::time::timeout(limit, connect).await {
            Ok(Ok(connection)) => {
                let bus = Bus { connection, name, limit };
                buses.insert(user.to_owned(), bus.clone());
                Ok(Some(bus))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, user, "no bus");
                Ok(None)
            }
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("{name}: the bus did not answer"))
                    .took(limit, limit))
            }
        }
    }
}

const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

impl Bus {
    fn is_alive(&self) -> bool {
        !self.connection.is_closed()
    }

    /// What systemd says of a unit; it loads the unit for that.
    pub(super) async fn unit(&self, unit: &str) -> Result<Unit> {
        let path = unit_path(unit);
        let call =
            self.connection.call_method(Some(SYSTEMD), path.as_str(), Some(PROPERTIES), "GetAll", &UNIT);
        let answer = match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error))?,
            Err(_) => {
                let what = format!("{}: no answer to a question for {unit}", self.name);
                return Err(Error::new(ErrorKind::Timeout, what).took(self.limit, self.limit));
            }
        };
        let all: HashMap<String, OwnedValue> =
            answer.body().deserialize().map_err(|error| self.failed(&error))?;
        let text = |name: &str| {
            all.get(name)
                .and_then(|value| value.downcast_ref::<&str>().ok().map(str::to_owned))
                .unwrap_or_default()
        };
        Ok(Unit { load: text("LoadState"), active: text("ActiveState"), sub: text("SubState") })
    }

    /// Whatever is said about a unit from now on.
    pub(super) async fn about(&self, unit: &str) -> Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(unit_path(unit))
            .map_err(|error| self.failed(&error))?
            .build();
        MessageStream::for_match_rule(rule, &self.connection, None).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &zbus::Error) -> Error {
        Error::new(ErrorKind::ChannelLost, format!("{}: {error}", self.name))
    }
}

/// The path of a unit's object: bytes that are no letter or digit, and a digit in front, become `_xx`
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
