//! What hostile guests send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::channel::frame::{Decoder, LONGEST, encode};
use crate::channel::tests::guest::NONCE;

/// Random numbers by xorshift, so that a seed determines everything.
pub(super) struct Random(u64);

impl Random {
    /// Similar seeds give different numbers.
    pub(super) fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
    pub(super) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
    pub(super) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// Appends a frame, mostly a valid one, and mostly for one of `ids`.
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

pub(super) fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
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

/// Returns the beginning of a channel, sometimes a strange one.
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

/// Returns everything that a guest sends that does not listen.
pub(super) fn monologue(random: &mut Random) -> Vec<u8> {
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

/// Sends its frames in pieces, reads now and then, and hangs up.
pub(super) async fn deaf_guest(mut stream: DuplexStream, mut random: Random) {
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

/// Skips the program for a loader, which is not made of frames. Returns whether it has arrived completely.
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

/// Answers what it receives, mostly wrongly, and checks that the host keeps to the protocol.
pub(super) async fn listening_guest(mut stream: DuplexStream, mut random: Random) {
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
