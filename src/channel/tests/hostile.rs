//! Tests with guests that send anything: the channel may be lost, but nothing panics, hangs or grows.
//!
//! They run for two seconds, or for `NIXVM_FUZZ_SECONDS`. `NIXVM_FUZZ_SEED` is the first seed:
//! `NIXVM_FUZZ_SECONDS=600 cargo test --release --lib channel::tests::hostile -- --nocapture`

use std::time::{Duration, Instant};

use super::guest::{LIMIT, options, soon};
use crate::channel::frame::Decoder;
use crate::channel::{Channel, ChannelOptions, Handshake, Progress, Request, Running, Shell};
use crate::{ErrorKind, environment};

mod guests;

use guests::{Random, damage, deaf_guest, listening_guest, monologue};

/// The limit for the memory of a run. A run of ten minutes needed 11 MiB.
const MOST_MEMORY: u64 = 400 << 20;

/// How often each event was seen. A run in which something never happens proves nothing.
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

impl Seen {
    /// Returns what was never seen.
    fn missing(&self) -> Option<&'static str> {
        let counts = [
            ("opened", self.opened),
            ("not opened", self.not_opened),
            ("exits", self.exits),
            ("output", self.output),
            ("lost", self.lost),
            ("not started", self.not_started),
            ("pongs", self.pongs),
            ("inner channels", self.inner_opened),
        ];
        counts.iter().find(|(_, count)| *count == 0).map(|(what, _)| *what)
    }
}

fn seconds() -> Duration {
    let given = environment::text("NIXVM_FUZZ_SECONDS").and_then(|text| text.parse().ok());
    Duration::from_secs_f64(given.unwrap_or(2.0))
}

fn seed() -> u64 {
    let given = environment::text("NIXVM_FUZZ_SEED").and_then(|text| text.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    given.unwrap_or_else(now)
}

fn load(random: &mut Random) -> Handshake {
    match random.below(3) {
        0 => Handshake::Load { helper: |_| Some(b"helper"), server: "server" },
        1 => Handshake::Load { helper: |_| None, server: "server" },
        _ => Handshake::Direct,
    }
}

/// Uses a command in the ways that a caller may.
async fn use_command(mut running: Running, random: &mut Random, seen: &mut Seen) {
    let mut input = running.take_input();
    for _ in 0..random.below(30) {
        match random.below(8) {
            0 => {
                if let Some(input) = &mut input {
                    drop(input.write(&vec![1; random.below(400_000)]).await);
                }
            }
            1 => {
                if let Some(input) = &mut input {
                    drop(input.end().await);
                }
            }
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

/// Uses a channel in the ways that a caller may.
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
        let Ok(running) = channel.run(Request { text, shell, stdin: !random.one_in(3), sum: false }).await
        else {
            assert!(channel.lost().is_some());
            return;
        };
        if random.one_in(8) {
            let limit = Duration::from_millis(500);
            let inner = ChannelOptions { limit, ..options(Handshake::Direct) };
            if let Ok(inner) = Channel::open(running.into_stream(), inner).await {
                seen.inner_opened += 1;
                drop(inner.ping(limit).await);
                if let Ok(running) =
                    inner.run(Request { text: String::new(), shell, stdin: true, sum: false }).await
                {
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
    // Goes on until everything was seen, even if a busy host gets through few rounds in that time.
    while Instant::now() < end || seen.missing().is_some() {
        assert!(Instant::now() < end + LIMIT, "{:?}: never in {} rounds", seen.missing(), seen.rounds);
        // The clock jumps ahead when all tasks wait, so a hang is found at once.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        for _ in 0..100 {
            let place = FuzzRound(seed);
            runtime.block_on(soon(round(seed, &mut seen)));
            std::mem::forget(place);
            seen.rounds += 1;
            seed = seed.wrapping_add(1);
        }
    }
    eprintln!("{seen:?}, most memory {} MiB", most_memory() >> 20);
    assert!(most_memory() < MOST_MEMORY);
}

/// Prints which round failed.
struct FuzzRound(u64);

impl Drop for FuzzRound {
    fn drop(&mut self) {
        eprintln!("to repeat it: NIXVM_FUZZ_SEED={}", self.0);
    }
}

/// Returns the peak memory of this process.
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
        let place = FuzzRound(seed);
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

/// Decodes the frames in `bytes`, which arrive in pieces of the lengths that `piece` returns.
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
