//! Guests that send anything: the memory stays bounded, and other VLANs lose nothing.
//!
//! It runs for two seconds, or for `NIXVM_FUZZ_SECONDS`. `NIXVM_FUZZ_SEED` is the first seed:
//! `NIXVM_FUZZ_SECONDS=60 cargo test --lib network::tests::hostile -- --nocapture`

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::dhcp::discover;
use super::sockets::Machine;
use super::vde::request;
use super::{ALL, frame, mac, tagged, vlan};
use crate::environment;
use crate::hang::HANG;
use crate::network::queue::MOST_BYTES;
use crate::network::{Lease, Mac, Port, Switch};

/// The hostile ports on VLAN 1.
const GUESTS: usize = 4;

/// The limit for the memory of this process: all queues full, and what the tests themselves need.
const MOST_MEMORY: u64 = (GUESTS as u64 + 8) * MOST_BYTES as u64 + (200 << 20);

/// The card that has a lease.
const LEASED: Mac = [0x52, 0x54, 0, 0x12, 1, 7];

/// Random numbers by xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    fn mac(&mut self) -> Mac {
        let forged = self.bytes(6);
        match self.below(6) {
            0 => ALL,
            1 => LEASED,
            2 | 3 => mac(self.below(4) as u8),
            _ => [forged[0], forged[1], forged[2], forged[3], forged[4], forged[5]],
        }
    }
}

/// How often each event was seen. A run in which something never happens proves nothing.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    refused: u64,
    leases: u64,
    connections: u64,
}

impl Seen {
    /// Whether everything was seen. `deaf` is the port of the guest that does not read.
    fn all(&self, deaf: &Port) -> bool {
        let Self { sent, refused, leases, connections } = self;
        let dropped = deaf.counts().dropped.frames;
        [*sent, *refused, *leases, *connections, dropped].iter().all(|count| *count > 0)
    }
}

/// Something that a guest sends.
fn anything(random: &mut Random) -> Vec<u8> {
    let (to, from, id) = (random.mac(), random.mac(), random.below(5000) as u16);
    match random.below(12) {
        0 => {
            let length = random.below(20);
            random.bytes(length)
        }
        1 => vec![0xff; 65_000 + random.below(2000)],
        2 => frame(to, from, &vec![1; random.below(65_536)]),
        3 => tagged(to, from, id & 0xfff, b"tagged"),
        4 => discover(LEASED),
        5 | 6 => {
            let mut damaged = discover(LEASED);
            for _ in 0..=random.below(6) {
                let at = random.below(damaged.len());
                damaged[at] = random.below(256) as u8;
            }
            damaged.truncate(random.below(damaged.len() + 1).max(40));
            damaged
        }
        7 => [&[1, 0x80, 0xc2, 0, 0, 0][..], &from, &[0, 38, 0x42, 0x42, 3], &random.bytes(35)].concat(),
        _ => frame(to, from, &vec![2; random.below(1500)]),
    }
}

/// A program at a vde folder that keeps to the protocol, or not.
fn connect(folder: &Path, random: &mut Random, count: u64) -> Option<(UnixStream, UnixDatagram)> {
    let mut control = UnixStream::connect(folder.join("ctl")).ok()?;
    let own = folder.join(format!(".{}-{count}", random.below(1000)));
    let data = UnixDatagram::bind(&own).ok()?;
    data.set_nonblocking(true).ok()?;
    control.set_read_timeout(Some(HANG)).ok()?;
    let mut words = request(&own, 3);
    match random.below(4) {
        0 => {
            let at = random.below(words.len());
            words[at] = random.below(256) as u8;
        }
        1 => words.truncate(random.below(words.len())),
        _ => {}
    }
    control.write_all(&words).ok()?;
    if random.below(2) == 0 {
        return None;
    }
    let mut answer = [0; 110];
    // There is no answer to half a request.
    control.set_nonblocking(words.len() < 122).ok()?;
    control.read_exact(&mut answer).ok()?;
    let path = answer[2..].split(|byte| *byte == 0).next()?;
    data.connect(std::str::from_utf8(path).ok()?).ok()?;
    Some((control, data))
}

fn given<T: std::str::FromStr>(name: &str) -> Option<T> {
    environment::text(name).and_then(|text| text.parse().ok())
}

#[test]
fn hostile_guests_take_nothing_from_other_vlans_and_no_memory() {
    let place = tempfile::tempdir().unwrap();
    let switch = Switch::start().unwrap();
    let folder = switch.serve_vde(vlan(1), &place.path().join("vlan1")).unwrap();
    let lease = Lease { mac: LEASED, address: Ipv4Addr::new(192, 168, 1, 7), host_name: None };
    switch.serve_dhcp(vlan(1), vec![lease]);
    let seed = given("NIXVM_FUZZ_SEED")
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    eprintln!("to repeat it: NIXVM_FUZZ_SEED={seed}");
    let end = Instant::now() + Duration::from_secs_f64(given("NIXVM_FUZZ_SECONDS").unwrap_or(2.0));
    let (mut random, mut seen, ended) = (Random(seed | 1), Seen::default(), AtomicBool::new(false));
    let mut guests: Vec<(Port, OwnedFd)> =
        (0..GUESTS).map(|_| switch.plug(vlan(1), "hostile").unwrap()).collect();
    let [here, there] = [2, 2].map(|number| Machine::new(&switch, number));

    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut pings = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                here.send(&frame(mac(2), mac(1), &pings.to_be_bytes()));
                assert_eq!(there.read()[14..], pings.to_be_bytes());
                there.send(&frame(mac(1), mac(2), &pings.to_be_bytes()));
                assert_eq!(here.read()[14..], pings.to_be_bytes());
                pings += 1;
            }
            pings
        });
        let mut connected = Vec::new();
        // Goes on until everything was seen, even if a busy host gets not far in that time.
        while !pings.is_finished() && (Instant::now() < end || !seen.all(&guests[0].0)) {
            assert!(Instant::now() < end + HANG, "{seen:?}");
            let at = random.below(GUESTS);
            let (port, socket) = &guests[at];
            match random.below(400) {
                // The first guest stays.
                0 if at > 0 => {
                    seen.refused += port.counts().refused;
                    guests[at] = switch.plug(vlan(1), "hostile").unwrap();
                }
                1 => {
                    connected.extend(connect(folder.path(), &mut random, seen.sent));
                    seen.connections += connected.len() as u64;
                    if connected.len() > 5 {
                        connected.remove(random.below(5));
                    }
                }
                // It never reads.
                2..40 if at > 0 => {
                    let mut buffer = [0; 1000];
                    while let Ok((1.., _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                        // An offer: from the server's port, with its type as the first option.
                        seen.leases += u64::from(buffer[34..36] == [0, 67] && buffer[282..285] == [53, 1, 2]);
                    }
                }
                _ => {
                    let message = anything(&mut random);
                    seen.sent += u64::from(send(socket, &message, SendFlags::DONTWAIT).is_ok());
                    if let Some((_, data)) = connected.last() {
                        let _ = data.send(&message);
                    }
                }
            }
        }
        ended.store(true, Ordering::Relaxed);
        eprintln!("{seen:?}, {} pings, most memory {} MiB", pings.join().unwrap(), most_memory() >> 20);
    });
    assert!(most_memory() < MOST_MEMORY);
}

/// Returns the peak memory of this process.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
