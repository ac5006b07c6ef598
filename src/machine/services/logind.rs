//! Asks logind to power the machine off, through the helper in the guest. Starting `systemctl` instead would take an
//! emulated guest a tenth of a second.

use crate::channel::{Channel, Progress, Way};
use crate::machine::bus::dbus;

/// The number of the call that matters.
const POWER_OFF: u32 = 3;

/// The result of a request to logind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logind {
    /// The machine shuts down.
    Did,
    /// It was not asked, or refused.
    DidNot,
    /// It was asked, but has not answered in time.
    Unknown,
}

/// Asks logind to power the machine off, as `systemctl poweroff` does (org.freedesktop.login1(5)). Like `systemctl`,
/// logind waits for shutdown inhibitors and notifies terminals. No program is started for it.
pub(crate) async fn power_off(channel: &Channel) -> Logind {
    if channel.way() != Way::Helper {
        return Logind::DidNot;
    }
    let mut question = [&b"dbus /run/dbus/system_bus_socket\0"[..], dbus::HELLO].concat();
    let hello = dbus::Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        arguments: &[],
        flags: &[],
    };
    let of_logind = |member, arguments, flags| dbus::Call {
        destination: "org.freedesktop.login1",
        path: "/org/freedesktop/login1",
        interface: "org.freedesktop.login1.Manager",
        member,
        arguments,
        flags,
    };
    hello.write(1, &mut question);
    of_logind("SetWallMessage", &[""], &[true]).write(2, &mut question);
    of_logind("PowerOff", &[], &[false]).write(POWER_OFF, &mut question);
    let Ok(mut running) = channel.ask(&question).await else { return Logind::DidNot };
    let mut said = Vec::new();
    loop {
        match running.next().await {
            Ok(Progress::Stdout(bytes)) => said.extend(bytes),
            Ok(Progress::Stderr(_)) => {}
            Ok(Progress::Exit(_)) => return answer_of_logind(&said),
            // The machine closed the channel as it shut down.
            Err(_) => return Logind::Did,
        }
    }
}

/// Finds logind's answer in the bus's output. The answer to the hello comes first.
fn answer_of_logind(mut said: &[u8]) -> Logind {
    let mut became = Logind::DidNot;
    while let Ok(Some((incoming, length))) = dbus::read(said) {
        became = match incoming {
            dbus::Incoming::Answer { to: POWER_OFF, .. } => return Logind::Did,
            dbus::Incoming::Refusal { to: POWER_OFF, .. } => return Logind::DidNot,
            // All calls are sent after the hello, regardless of its reply.
            _ => Logind::Unknown,
        };
        said = &said[length..];
    }
    became
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a D-Bus message that answers the call `to`.
    fn message(kind: u8, to: u32) -> Vec<u8> {
        let mut message = vec![b'l', kind, 0, 1];
        for number in [0, 9, 8] {
            message.extend(u32::to_le_bytes(number));
        }
        message.extend([5, 1, b'u', 0]);
        message.extend(to.to_le_bytes());
        message
    }

    #[test]
    fn a_request_was_made_once_the_bus_has_said_hello_and_is_answered_by_its_own_answer() {
        let (hello, wall) = (message(2, 1), message(2, 2));
        let refused_wall = message(3, 2);
        for (said, became) in [
            (vec![], Logind::DidNot),
            (hello[..20].to_vec(), Logind::DidNot),
            (b"nonsense of sixteen bytes and more".to_vec(), Logind::DidNot),
            (hello.clone(), Logind::Unknown),
            ([&hello[..], &wall].concat(), Logind::Unknown),
            ([&hello[..], &wall, &message(2, POWER_OFF)].concat(), Logind::Did),
            ([&hello[..], &refused_wall, &message(2, POWER_OFF)].concat(), Logind::Did),
            ([&hello[..], &wall, &message(3, POWER_OFF)].concat(), Logind::DidNot),
        ] {
            assert_eq!(answer_of_logind(&said), became, "{}", said.escape_ascii());
        }
    }
}
