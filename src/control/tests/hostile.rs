//! Guests that send anything: the channel may be lost, but nothing panics, hangs or grows.
//!
//! It runs for two seconds, or as many as `NIXVM_FUZZ_SECONDS` says; `NIXVM_FUZZ_SEED` is where it starts:
//! `NIXVM_FUZZ_SECONDS=600 cargo test --release --lib control::tests::hostile -- --nocapture`

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::guest::{NONCE, options, soon};
use crate::ErrorKind;
use crate::control::frame::{Decoder, LONGEST, encode};
use crate::control::{Channel, ChannelOptions, Handshake, Progress, Request, Running, Shell};

/// What a run must stay below; it needs about 30 MB.
const MOST_MEMORY: u64 = 400 << 20;

/// Numbers by xorshift, so that a seed says everything.
struct Random(u64);

impl Random {
    /// Seeds that are close to each other give numbers that are not.
    fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// How often what was seen: a run that never gets anywhere proves nothing.
#[derive(Debug, Default)]
struct Seen {
    rounds: u64,
    not_opened: u64,
    opened: u64,
    inner_opened: u64,
    exits: u64,
    output: u64,
    lost: u64,
    not_started: u64,
    pongs: u64,
}

fn seconds() -> Duration {
    let given = std::env::var("NIXVM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(given.unwrap_or(2.0))
}

fn seed() -> u64 {
    let given = std::env::var("NIXVM_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    given.unwrap_or_else(now)
}

/// One frame, mostly of sense, mostly for one of `ids`.
fn frame(random: &mut Random, ids: &[u32], out: &mut Vec<u8>) {
    let id = match random.below(10) {
        0 => random.below(1 << 32) as u32,
        1 => random.below(7) as u32,
        _ => ids[random.below(ids.len())],
    };
    let length = match random.below(20) {
        0 => random.below(LONGEST + 1),
        1 => 0,
        _ => random.below(30),
    };
    match random.below(24) {
        0 => encode(out, b'X', id, format!("status {}\n", random.below(256)).as_bytes()),
        1 => encode(out, b'X', id, b"later 1\nstatus 0"),
        2 if random.one_in(4) => {
            encode(out, b'X', id, random.pick(&["", "status 999\n", "status -1\n", "status\n"]).as_bytes());
        }
        3..=5 => encode(out, b'A', id, random.below(300_000).to_string().as_bytes()),
        6 if random.one_in(4) => {
            encode(out, b'A', id, random.pick(&["", "x", "99999999999999999999"]).as_bytes());
        }
        7..=9 => encode(out, b'P', id, b""),
        10 => encode(out, b'F', id, &random.bytes(length)),
        11..=12 => encode(out, b"HTRIKz"[random.below(6)], id, &random.bytes(length)),
        13 => encode(out, b'O', id, b"P 1 0\nX 2 9\nstatus 0\n"),
        14..=16 => {
            let inner = format!("\nnixvm-channel {NONCE} x86_64\nH 0 21\nversion 1\nway helper\n");
            encode(out, b'O', id, inner.as_bytes());
        }
        17..=18 => encode(out, b'E', id, &random.bytes(length)),
        _ => encode(out, b'O', id, &random.bytes(length)),
    }
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.insert(at, *random.pick(&[b"0", b" ", b"\n", b"9", b"\xff"]).first().unwrap()),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..bytes.len().min(at + 20)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// The beginning, sometimes a strange one.
fn beginning(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.one_in(3) {
        let noise = random.below(6000);
        bytes.extend(random.bytes(noise));
    }
    bytes.extend(format!("\nnixvm-channel {NONCE} x86_64\n").bytes());
    if random.one_in(6) {
        bytes.extend(*random.pick(&[b"refused\n", b"refused\0", b"refusedH"]));
    }
    encode(&mut bytes, b'H', 0, b"version 1\nway helper\nbash /bin/bash\n");
    if random.one_in(10) {
        damage(random, &mut bytes);
    }
    bytes
}

/// All that a guest says which does not listen.
fn monologue(random: &mut Random) -> Vec<u8> {
    let mut bytes = beginning(random);
    let mut frames = Vec::new();
    for _ in 0..random.below(60) {
        frame(random, &[1, 2, 3, 4], &mut frames);
    }
    if random.one_in(2) {
        damage(random, &mut frames);
    }
    bytes.extend(frames);
    bytes
}

/// Says what it has to say in pieces, reads now and then, and hangs up.
async fn deaf_guest(mut stream: DuplexStream, mut random: Random) {
    let monologue = monologue(&mut random);
    let mut rest = monologue.as_slice();
    let mut heard = vec![0; 70_000];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len().min(5000)));
        rest = after;
        if stream.write_all(piece).await.is_err() {
            return;
        }
        if random.one_in(4) {
            tokio::time::sleep(Duration::from_millis(random.below(20) as u64)).await;
        }
        if !random.one_in(3) {
            let most = 1 + random.below(heard.len());
            let _ = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut heard[..most])).await;
        }
    }
    if random.one_in(2) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Passes over what a loader is given, which is no frames. Whether it was here as a whole.
fn skip_programs(decoder: &mut Decoder) -> bool {
    loop {
        let rest = decoder.rest();
        // No frame begins like this.
        let Some(line) = rest.strip_prefix(b"\n") else { return true };
        let Some(newline) = memchr::memchr(b'\n', line) else { return false };
        let line = std::str::from_utf8(&line[..newline]).unwrap();
        let whole = 1 + newline + 1 + line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
        if rest.len() < whole {
            return false;
        }
        decoder.skip(whole);
    }
}

/// Answers what it hears, mostly wrongly, and watches that the host keeps to the protocol.
async fn listening_guest(mut stream: DuplexStream, mut random: Random) {
    let mut says = beginning(&mut random);
    let (mut decoder, mut ids, mut requests) = (Decoder::new(), vec![1], Vec::new());
    let mut began = false;
    for _ in 0..random.below(100) {
        if stream.write_all(&says).await.is_err() {
            return;
        }
        says.clear();
        match tokio::time::timeout(Duration::from_millis(20), stream.read(decoder.room())).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => decoder.filled(count),
            Err(_) => {}
        }
        if !began && !skip_programs(&mut decoder) {
            continue;
        }
        while let Some(heard) = decoder.next().expect("the host sends frames") {
            began = true;
            assert!(b"TRIKP".contains(&heard.kind));
            if heard.kind == b'R' {
                assert!(!requests.contains(&heard.id), "a number is used again");
                requests.push(heard.id);
            }
            if ids.len() < 8 && !ids.contains(&heard.id) {
                ids.push(heard.id);
            }
        }
        for _ in 0..random.below(4) {
            frame(&mut random, &ids[ids.len().saturating_sub(3)..], &mut says);
        }
        if random.one_in(30) {
            damage(&mut random, &mut says);
        }
    }
}

fn load(random: &mut Random) -> Handshake {
    match random.below(3) {
        0 => Handshake::Load { helper: |_| Some(b"helper"), server: "server" },
        1 => Handshake::Load { helper: |_| None, server: "server" },
        _ => Handshake::Direct,
    }
}

/// Does with a command what a caller may do.
async fn use_command(mut running: Running, random: &mut Random, seen: &mut Seen) {
    for _ in 0..random.below(30) {
        match random.below(8) {
            0 => drop(running.write(&vec![1; random.below(400_000)]).await),
            1 => drop(running.end_input().await),
            2 => drop(running.kill(random.below(64) as i32).await),
            3 => drop(tokio::time::timeout(Duration::from_millis(5), running.next()).await),
            _ => match running.next().await {
                Ok(Progress::Exit(status)) => {
                    assert!((0..256).contains(&status));
                    seen.exits += 1;
                    return;
                }
                Ok(Progress::Stdout(piece) | Progress::Stderr(piece)) => {
                    assert!(!piece.is_empty());
                    seen.output += 1;
                }
                Err(error) if error.kind() == ErrorKind::CommandFailed => {
                    seen.not_started += 1;
                    return;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ChannelLost, "{error}");
                    seen.lost += 1;
                    return;
                }
            },
        }
    }
}

/// What a caller may do with a channel.
async fn use_channel(channel: Channel, random: &mut Random, seen: &mut Seen) {
    for _ in 0..random.below(8) {
        if random.one_in(6) {
            let answered = channel.ping(Duration::from_millis(50)).await;
            seen.pongs += u64::from(answered.is_ok());
            continue;
        }
        let text = match random.below(8) {
            0 => "x".repeat(random.below(200_000)),
            1 => String::new(),
            _ => "true".to_owned(),
        };
        let shell = if random.one_in(3) { Shell::User } else { Shell::Bash };
        let Ok(running) = channel.run(Request { text, shell, stdin: !random.one_in(3) }).await else {
            assert!(channel.lost().is_some());
            return;
        };
        if random.one_in(8) {
            let limit = Duration::from_millis(500);
            let inner = ChannelOptions { limit, ..options(Handshake::Direct) };
            if let Ok(inner) = Channel::open(running.into_stream(), inner).await {
                seen.inner_opened += 1;
                drop(inner.ping(limit).await);
                if let Ok(running) = inner.run(Request { text: String::new(), shell, stdin: true }).await {
                    use_command(running, random, seen).await;
                }
            }
        } else {
            use_command(running, random, seen).await;
        }
    }
}

async fn round(seed: u64, seen: &mut Seen) {
    let mut random = Random::new(seed);
    let (ours, theirs) = tokio::io::duplex(1 + random.below(100_000));
    let guest = match random.one_in(2) {
        true => tokio::spawn(deaf_guest(theirs, Random::new(!seed))),
        false => tokio::spawn(listening_guest(theirs, Random::new(!seed))),
    };
    let limit = Duration::from_millis(1000);
    match Channel::open(ours, ChannelOptions { limit, ..options(load(&mut random)) }).await {
        Ok(channel) => {
            seen.opened += 1;
            use_channel(channel, &mut random, seen).await;
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ChannelLost | ErrorKind::Timeout), "{error}");
            seen.not_opened += 1;
        }
    }
    guest.await.expect("a guest does not fail");
}

#[test]
fn a_channel_survives_every_guest() {
    let end = Instant::now() + seconds();
    let mut seen = Seen::default();
    let mut seed = seed();
    while Instant::now() < end {
        // The clock jumps ahead when all wait: what hangs is found at once.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        for _ in 0..100 {
            let place = Place(seed);
            runtime.block_on(soon(round(seed, &mut seen)));
            std::mem::forget(place);
            seen.rounds += 1;
            seed = seed.wrapping_add(1);
        }
    }
    eprintln!("{seen:?}, most memory {} MiB", most_memory() >> 20);
    for (what, count) in [
        ("opened", seen.opened),
        ("not opened", seen.not_opened),
        ("exits", seen.exits),
        ("output", seen.output),
        ("lost", seen.lost),
        ("not started", seen.not_started),
        ("pongs", seen.pongs),
        ("inner channels", seen.inner_opened),
    ] {
        assert!(count > 0, "{what}: never seen in {} rounds", seen.rounds);
    }
    assert!(most_memory() < MOST_MEMORY);
}

/// Says which round failed.
struct Place(u64);

impl Drop for Place {
    fn drop(&mut self) {
        eprintln!("to repeat it: NIXVM_FUZZ_SEED={}", self.0);
    }
}

/// The most memory that this process ever had.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_decoder_survives_every_stream() {
    let end = Instant::now() + seconds() / 4;
    let (mut seed, mut frames) = (seed(), 0_u64);
    while Instant::now() < end {
        let place = Place(seed);
        let mut random = Random::new(seed);
        let mut bytes = monologue(&mut random);
        damage(&mut random, &mut bytes);
        let whole = decode(&bytes, |_| usize::MAX);
        let cut = decode(&bytes, |left| 1 + random.below(left.min(3000)));
        assert!(whole == cut);
        frames += whole.0.len() as u64;
        std::mem::forget(place);
        seed = seed.wrapping_add(1);
    }
    assert!(frames > 0);
}

/// The frames in `bytes` that come in pieces of the lengths which `piece` says.
fn decode(bytes: &[u8], mut piece: impl FnMut(usize) -> usize) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
    let beginning = memchr::memmem::find(bytes, b"H 0").unwrap_or(0);
    let mut rest = &bytes[beginning..];
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    while !rest.is_empty() {
        let room = decoder.room();
        let count = piece(rest.len()).min(room.len()).min(rest.len());
        assert!(count > 0);
        room[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.id, frame.payload.to_vec())),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
