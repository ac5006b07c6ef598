//! Many large frames from one fake machine to another over the switch, with and without a capture.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use nixvm_test::Result;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::measuring::median;
use crate::round_trips::{CAPTURE, wires};

/// Rounds, in each of which both ways are measured.
const ROUNDS: usize = 9;

/// How many frames are sent in a round, and after how many the sender waits for the receiver, as TCP does.
const FRAMES: usize = 128 * 1024;
const WINDOW: usize = 64;

/// What a card with the usual MTU sends.
const LENGTH: usize = 1514;

/// Prints the median rate of each way.
pub fn measure() -> Result {
    let (mut plain, mut captured) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (size, times) in [(None, &mut plain), (Some(CAPTURE), &mut captured)] {
            let (_switch, ports, [ours, theirs]) = wires(size)?;
            times.push(transfer(&ours, theirs)?);
            assert_eq!(ports[1].counts().dropped.frames, 0);
        }
    }
    let (plain, captured) = (median(&plain), median(&captured));
    let rate = |seconds: f64| (FRAMES * LENGTH) as f64 / seconds / f64::from(1 << 20);
    println!("\n| {FRAMES} frames of {LENGTH} bytes between two threads, median of {ROUNDS} | |\n|---|---:|");
    println!("| the switch | {plain:.2} s, {:.0} MiB/s |", rate(plain));
    println!("| the switch with a capture | {captured:.2} s, {:.0} MiB/s |", rate(captured));
    println!("| ratio | {:.2} |", captured / plain);
    Ok(())
}

/// Sends the frames, and returns how many seconds that took.
fn transfer(ours: &OwnedFd, theirs: OwnedFd) -> Result<f64> {
    let receiver = thread::spawn(move || -> Result {
        let (mut buffer, mut answer) = ([0; 2000], [0; 60]);
        answer[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        // So that the switch knows where this one is.
        send(&theirs, &answer, SendFlags::NOSIGNAL).map_err(std::io::Error::from)?;
        for _ in 0..FRAMES / WINDOW {
            for _ in 0..WINDOW {
                recv(&theirs, &mut buffer[..], RecvFlags::empty()).map_err(std::io::Error::from)?;
            }
            send(&theirs, &answer, SendFlags::NOSIGNAL).map_err(std::io::Error::from)?;
        }
        Ok(())
    });
    let (mut frame, mut buffer) = ([7; LENGTH], [0; 100]);
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    recv(ours, &mut buffer[..], RecvFlags::empty()).map_err(std::io::Error::from)?;
    let begun = Instant::now();
    for _ in 0..FRAMES / WINDOW {
        for _ in 0..WINDOW {
            send(ours, &frame, SendFlags::NOSIGNAL).map_err(std::io::Error::from)?;
        }
        recv(ours, &mut buffer[..], RecvFlags::empty()).map_err(std::io::Error::from)?;
    }
    let took = begun.elapsed().as_secs_f64();
    receiver.join().map_err(|_| "the receiver failed")??;
    Ok(took)
}
