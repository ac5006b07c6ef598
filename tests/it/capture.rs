//! Captures of a switch, read by the real tshark.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use nixvm_test::internals::network::{Mac, Port, Switch, VlanId};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{SendFlags, send};

use crate::hang::HANG;

const ONE: Mac = [0x52, 0x54, 0, 0x12, 1, 1];
const TWO: Mac = [0x52, 0x54, 0, 0x12, 1, 2];
const ALL: Mac = [0xff; 6];

/// A machine on a VLAN.
struct Machine(Port, OwnedFd);

impl Machine {
    fn new(switch: &Switch, vlan: u8, name: &str) -> Self {
        let (port, socket) = switch.plug(VlanId::new(vlan).unwrap(), name).unwrap();
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(HANG)).unwrap();
        Self(port, socket)
    }

    /// Sends a frame, and waits until the switch has it.
    fn send(&self, frame: &[u8]) {
        let before = self.0.counts().received.frames;
        send(&self.1, frame, SendFlags::empty()).unwrap();
        while self.0.counts().received.frames == before {
            std::thread::yield_now();
        }
    }
}

/// A UDP datagram from 192.168.1.1:5000 to 192.168.1.2:53.
fn datagram(to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    let [udp, ip] = [8, 28].map(|header| (header + payload.len() as u16).to_be_bytes());
    let ip = [0x45, 0, ip[0], ip[1], 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 1, 192, 168, 1, 2];
    let udp = [0x13, 0x88, 0, 53, udp[0], udp[1], 0, 0];
    [&to[..], &from, &[8, 0], &ip, &udp, payload].concat()
}

fn run(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    let ran = match command.args(arguments).arg(file).output() {
        Err(error) => {
            panic!("{program}: {error}. Install it: apt-get install tshark (`./just test` does it)")
        }
        Ok(ran) => ran,
    };
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The fields of each packet.
fn fields(file: &Path, names: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = vec!["-n", "-T", "fields", "-E", "separator=|"];
    names.iter().for_each(|name| arguments.extend(["-e", name]));
    arguments.push("-r");
    let printed = run("tshark", &arguments, file);
    printed.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

#[test]
fn tshark_reads_interfaces_packets_times_and_comments() {
    let (folder, switch) = (tempfile::tempdir().unwrap(), Switch::start().unwrap());
    switch.capture(64 << 20);
    let [client, server] = ["client", "server"].map(|name| Machine::new(&switch, 1, name));
    let lonely = Machine::new(&switch, 2, "lonely");
    client.send(&datagram(TWO, ONE, b"question"));
    server.send(&datagram(ONE, TWO, b"an answer"));
    lonely.send(&datagram(ALL, ONE, b"is anybody there?"));
    // The server does not read any more.
    let large = datagram(TWO, ONE, &[0; 60_000]);
    while server.0.counts().dropped.frames == 0 {
        client.send(&large);
    }
    assert_eq!(switch.captured_vlans(), [1, 2].map(|vlan| VlanId::new(vlan).unwrap()));
    let [first, second] = [1, 2].map(|vlan| {
        let path = folder.path().join(format!("vlan{vlan}.pcapng"));
        let mut file = std::fs::File::create(&path).unwrap();
        switch.write_capture(VlanId::new(vlan).unwrap(), &mut file).unwrap();
        path
    });

    let names = ["frame.interface_name", "frame.len", "ip.dst", "udp.dstport", "data.len", "frame.comment"];
    let packets = fields(&first, &names);
    let (last, before) = packets.split_last().unwrap();
    let sent = client.0.counts().received.frames + server.0.counts().received.frames;
    assert_eq!(packets.len() as u64, sent);
    assert_eq!(before[0][..4], ["client → server", "50", "192.168.1.2", "53"]);
    assert_eq!(before[1][..4], ["server → client", "51", "192.168.1.2", "53"]);
    assert!(before[2..].iter().all(|packet| packet[..2] == ["client → server", "60042"]), "{before:?}");
    assert!(before.iter().all(|packet| packet[5].is_empty()), "{before:?}");
    assert_eq!(last[5], "lost: the receiver does not read and its queue is full, or it is gone");
    let times = fields(&first, &["frame.time_epoch"]);
    let times: Vec<f64> = times.iter().map(|fields| fields[0].parse().unwrap()).collect();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(times.iter().all(|time| (0.0..=HANG.as_secs_f64() * 2.0).contains(&(now - time))), "{times:?}");

    let packets = fields(&second, &names[..2]);
    assert_eq!(packets, [["lonely → nobody", "59"]]);
    let said = run("capinfos", &["-M"], &first);
    assert!(said.contains(&format!("Number of packets:   {sent}")), "{said}");
    assert!(said.contains(concat!("nixvm-test ", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(said.contains("Name = client → server") && said.contains("Name = server → client"), "{said}");
    assert!(said.contains("Encapsulation = Ethernet") && said.contains("nanosecond"), "{said}");
}

#[test]
fn tshark_shows_where_frames_were_left_out() {
    let (folder, switch) = (tempfile::tempdir().unwrap(), Switch::start().unwrap());
    switch.capture(10_000);
    let client = Machine::new(&switch, 1, "client");
    (0..100).for_each(|_| client.send(&datagram(ALL, ONE, &[0; 1000])));
    let path = folder.path().join("vlan1.pcapng");
    switch.write_capture(VlanId::new(1).unwrap(), &mut std::fs::File::create(&path).unwrap()).unwrap();
    let packets = fields(&path, &["frame.comment"]);
    // Each takes 1042 bytes and an overhead of some hundreds at most, so 7 or 8 fit at either end.
    let left_out = 100 - packets.len();
    assert!((14..=16).contains(&packets.len()), "{packets:?}");
    let comments: Vec<(usize, &String)> = packets
        .iter()
        .map(|fields| &fields[0])
        .enumerate()
        .filter(|(_, comment)| !comment.is_empty())
        .collect();
    let comment = format!("before this one, {left_out} frames were left out");
    assert_eq!(comments, [(packets.len() / 2, &comment)]);
    let said = run("capinfos", &["-M"], &path);
    assert!(said.contains(&format!("{left_out} of 100 frames were left out")), "{said}");
}
