//! Measures the cost of the host's side alone: over a socket, with a guest that answers at once.
//!
//! `cargo test --release --lib channel::tests::cost -- --ignored --nocapture`

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::guest::{NONCE, options, request, soon};
use crate::channel::frame::{Decoder, LONGEST, encode};
use crate::channel::{Channel, Handshake, Progress};

/// Answers a command. `flood N` gives N bytes of output in the longest frames.
fn answer(out: &mut Vec<u8>, id: u32, text: &str) {
    if let Some(count) = text.strip_prefix("flood ") {
        for _ in 0..count.parse::<usize>().unwrap() / LONGEST {
            encode(out, b'O', id, &[b'x'; LONGEST]);
        }
    }
    encode(out, b'X', id, b"status 0\n");
}

fn serve(mut stream: UnixStream) {
    stream.write_all(format!("nixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n").as_bytes()).unwrap();
    let mut decoder = Decoder::new();
    let mut text = String::new();
    let mut out = Vec::new();
    loop {
        while let Some(frame) = decoder.next().unwrap() {
            match frame.kind {
                b'T' => text.push_str(std::str::from_utf8(frame.payload).unwrap()),
                b'R' => answer(&mut out, frame.id, &std::mem::take(&mut text)),
                _ => {}
            }
        }
        stream.write_all(&out).unwrap();
        out.clear();
        match stream.read(decoder.room()).unwrap() {
            0 => return,
            count => decoder.filled(count),
        }
    }
}

#[test]
#[ignore = "measures, and takes a while"]
fn a_command_and_a_flood() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = std::thread::spawn(move || serve(theirs));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        let channel = Channel::open(stream, options(Handshake::Direct)).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..5000 {
            let started = Instant::now();
            let mut running = channel.run(request("true")).await.unwrap();
            assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 100];
        eprintln!("a command: median {:?}, 99 of 100 within {:?}", at(50), at(99));
        let started = Instant::now();
        let mut running = channel.run(request(&format!("flood {}", 1 << 30))).await.unwrap();
        let mut bytes = 0;
        while let Progress::Stdout(piece) = soon(running.next()).await.unwrap() {
            bytes += piece.len();
        }
        let took = started.elapsed().max(Duration::from_micros(1));
        eprintln!(
            "{} MiB of output: {took:?}, {:.0} MiB/s",
            bytes >> 20,
            (bytes >> 20) as f64 / took.as_secs_f64()
        );
    });
    drop(runtime);
    guest.join().unwrap();
}
