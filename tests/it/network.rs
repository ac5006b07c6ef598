//! The switch with the real QEMU: its firmware looks for a server to boot from, and asks for an address by DHCP.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nixvm_test::internals::network::{Lease, Mac, Switch, VlanId};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, recv};

use crate::hang::HANG;

const CARDS: [(Mac, Ipv4Addr); 2] = [
    ([0x52, 0x54, 0, 0x12, 1, 1], Ipv4Addr::new(192, 168, 1, 1)),
    ([0x52, 0x54, 0, 0x12, 1, 2], Ipv4Addr::new(192, 168, 1, 2)),
];

/// A QEMU without a disk. It ends with the test.
struct Firmware(Child);

impl Firmware {
    fn start(card: Mac, netdev: &str, stdin: Stdio) -> Self {
        let mac = card.map(|byte| format!("{byte:02X}")).join(":");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-boot", "n"]);
        command.args(["-netdev", netdev, "-device", &format!("virtio-net-pci,netdev=n,mac={mac}")]);
        Self(command.stdin(stdin).spawn().unwrap())
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn read(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).unwrap();
    buffer.truncate(length);
    buffer
}

/// The card and the address in a DHCP request for an address that a server has offered, after which the client has it.
fn accepted_offer(frame: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let message = frame.get(14 + 20 + 8..)?;
    // The type of the message is the first option here: 3 is a request. 50 is the wanted address.
    let options = message.get(240..)?;
    let wanted = options.windows(6).find(|option| option[..2] == [50, 4])?;
    let is_request = options.starts_with(&[53, 1, 3]);
    let card = message.get(28..34)?.try_into().ok()?;
    is_request.then(|| (card, Ipv4Addr::new(wanted[2], wanted[3], wanted[4], wanted[5])))
}

#[test]
fn qemu_gets_its_lease_through_a_descriptor_and_through_a_vde_folder() {
    let place = tempfile::tempdir().unwrap();
    let (switch, vlan) = (Switch::start().unwrap(), VlanId::new(1).unwrap());
    let lease = |(mac, address)| Lease { mac, address, host_name: None };
    switch.serve_dhcp(vlan, CARDS.map(lease).into());
    let (_listening, listener) = switch.plug(vlan, "listener").unwrap();
    sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(HANG)).unwrap();
    let (port, theirs) = switch.plug(vlan, "descriptor").unwrap();
    let folder = switch.serve_vde(vlan, &place.path().join("vlan1")).unwrap();

    let vde = format!("vde,id=n,sock={}", folder.path().display());
    let by_folder = Firmware::start(CARDS[1].0, &vde, Stdio::null());
    // The descriptor is its standard input.
    let by_descriptor =
        Firmware::start(CARDS[0].0, "dgram,id=n,local.type=fd,local.str=0", Stdio::from(theirs));

    // A client broadcasts which offer it takes, so everybody hears of it.
    let mut leased = BTreeMap::new();
    while leased.len() < CARDS.len() {
        let frame = read(&listener);
        assert!(!frame.is_empty());
        leased.extend(accepted_offer(&frame));
    }
    assert_eq!(leased, BTreeMap::from(CARDS));
    assert!(port.counts().sent.frames > 0 && folder.counts().sent.frames > 0);
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_ne!(names(), 1, "the connection has a socket of its own");

    drop((by_folder, by_descriptor));
    // The sockets of a QEMU that was killed are removed.
    while names() > 1 {
        std::thread::yield_now();
    }
    let path = folder.path().to_owned();
    drop(switch);
    assert!(!path.exists());
}
