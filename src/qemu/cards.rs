//! The network cards that nixvm-test gives a machine, each on a socket whose other end is a port of a switch.

use std::os::fd::{AsRawFd, OwnedFd};

use super::reach::kind_of;
use super::template::Properties;

/// How the ids of our network backends begin. Unlikely to be in a script already.
const BACKEND: &str = "nixvm-vlan";
/// How the ids of our cards begin.
const CARD: &str = "nixvm-card";
/// The name under which the guest finds what it is told of its networks.
const TOLD: &str = "opt/org.nixvm-test/network";

/// What a machine has on the networks of its scenario when it is started.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    /// The MAC address of each card, in QEMU's form, and QEMU's end of its socket.
    pub(crate) cards: Vec<(String, OwnedFd)>,
    /// What the guest is told: its name and addresses. It has no white space and no comma.
    pub(crate) told: Option<String>,
}

impl Cards {
    /// Returns the sockets alone, for a QEMU whose command has the cards already.
    pub(crate) fn into_sockets(self) -> Vec<OwnedFd> {
        self.cards.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Returns QEMU's options for them, and the sockets, which QEMU has to inherit.
    pub(super) fn into_options(self) -> (Vec<String>, Vec<OwnedFd>) {
        let mut options = Vec::new();
        let mut sockets = Vec::new();
        for (number, (mac, socket)) in (1..).zip(self.cards) {
            let (fd, mac) = (socket.as_raw_fd(), escaped(&mac));
            options.extend([
                "-netdev".to_owned(),
                format!("dgram,id={BACKEND}{number},local.type=fd,local.str={fd}"),
                "-device".to_owned(),
                // The card passes every 802.1Q tag to the guest, which sorts them itself. QEMU before 8.0 loses the card's
                // own list of tags in a clone (QEMU's commit 06b636a1e2ad).
                format!(
                    "virtio-net-pci,netdev={BACKEND}{number},id={},mac={mac},ctrl_vlan=off",
                    id_of(number)
                ),
            ]);
            sockets.push(socket);
        }
        if let Some(told) = self.told {
            options.extend(["-fw_cfg".to_owned(), format!("name={TOLD},string={}", escaped(&told))]);
        }
        (options, sockets)
    }
}

/// Returns a value in which QEMU takes no comma for its end.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// Returns the id of the `number`th card, from 1.
pub(super) fn id_of(number: usize) -> String {
    format!("{CARD}{number}")
}

/// Whether a card with this id is one of ours.
pub(super) fn is_ours(id: &str) -> bool {
    id.starts_with(CARD)
}

/// Returns the ids of the network backends for a machine's cards, each with the descriptor that it gets.
pub(super) fn backends(sockets: &[OwnedFd]) -> Vec<(String, i32)> {
    let numbered = (1..).zip(sockets);
    numbered.map(|(number, socket)| (format!("{BACKEND}{number}"), socket.as_raw_fd())).collect()
}

/// Whether this is the id of a network backend of ours.
pub(super) fn is_own_id(id: &str) -> bool {
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    id.strip_prefix(BACKEND).is_some_and(is_number)
}

/// Whether this value of `-netdev` is a backend of ours: it ends at the runner's switch, which only machines of the same
/// scenario reach.
pub(super) fn is_our_backend(value: &str) -> bool {
    let properties = Properties::parse(value);
    let its = |key| properties.get(key).unwrap_or_default();
    is_own_id(its("id"))
        && kind_of(value, "type").as_deref() == Some("dgram")
        && its("local.type") == "fd"
        && properties.get("remote.type").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_a_socket_a_device_and_a_word_to_the_guest() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let cards = Cards {
            cards: vec![("52:54:00:12:01:0A".to_owned(), theirs.into())],
            told: Some("name=web;card=52:54:00:12:01:0a/eth1/192.168.1.10/2001:db8:1::10".to_owned()),
        };
        let (options, sockets) = cards.into_options();
        let fd = sockets[0].as_raw_fd();
        assert_eq!(
            options.join(" "),
            format!(
                "-netdev dgram,id=nixvm-vlan1,local.type=fd,local.str={fd} -device \
                 virtio-net-pci,netdev=nixvm-vlan1,id=nixvm-card1,mac=52:54:00:12:01:0A,ctrl_vlan=off -fw_cfg \
                 name=opt/org.nixvm-test/network,string=name=web;card=52:54:00:12:01:0a/eth1/192.168.1.10/2001:db8:1::10"
            )
        );
        assert!(is_our_backend(&options[1]));
        assert_eq!(backends(&sockets), [("nixvm-vlan1".to_owned(), fd)]);
        drop(ours);
        assert_eq!(Cards::default().into_options().0, [""; 0]);
    }

    #[test]
    fn a_backend_that_reaches_elsewhere_is_not_taken_for_ours() {
        for value in [
            "tap,id=nixvm-vlan1,local.type=fd",
            "dgram,id=nixvm-vlan1,local.type=inet,local.port=1",
            "dgram,id=nixvm-vlan1,local.type=fd,local.str=3,remote.type=inet",
            "dgram,id=nixvm-vlanx,local.type=fd,local.str=3",
            "dgram,id=nixvm-vlan,local.type=fd,local.str=3",
            "dgram,id=other1,local.type=fd,local.str=3",
            "dgram,id=nixvm-vlan1,local.type=fd,local.str=3,type=tap",
        ] {
            assert!(!is_our_backend(value), "{value}");
        }
    }
}
