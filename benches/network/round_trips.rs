//! A frame from one fake machine to another and back: over the switch, with and without a capture, and over a bare pair of
//! sockets.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use nixvm_test::Result;
use nixvm_test::internals::network::{Port, Switch, VlanId};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::measuring::median;

/// Rounds, in each of which both ways are measured, and round trips in each.
const ROUNDS: usize = 20;
const TRIPS: usize = 2000;

/// How much a capture keeps, at its beginning and at its end: the default.
pub const CAPTURE: usize = 8 << 20;

/// What is sent: addresses, a type, and as much as an echo request has.
const LENGTH: usize = 98;

/// Prints the median round trip of each way, in microseconds.
pub fn measure() -> Result {
    let (mut bare, mut switched, mut captured) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(std::io::Error::from)?;
        bare.push(trips(ours, theirs)?);
        for (size, times) in [(None, &mut switched), (Some(CAPTURE), &mut captured)] {
            let (_switch, _ports, [ours, theirs]) = wires(size)?;
            times.push(trips(ours, theirs)?);
        }
    }
    let (bare, switched, captured) = (median(&bare), median(&switched), median(&captured));
    println!("| a round trip between two threads, median of {ROUNDS} times {TRIPS} | |\n|---|---:|");
    println!("| a pair of sockets | {bare:.1} µs |");
    println!("| the switch | {switched:.1} µs |");
    println!("| the switch adds | {:.1} µs |", switched - bare);
    println!("| the switch with a capture | {captured:.1} µs |");
    println!("| ratio to that without | {:.2} |", captured / switched);
    Ok(())
}

/// A switch that captures as much as `size`, if that is given, and the ends of two cards.
pub fn wires(size: Option<usize>) -> Result<(Switch, [Port; 2], [OwnedFd; 2])> {
    let (switch, vlan) = (Switch::start()?, VlanId::new(1).ok_or("no VLAN")?);
    if let Some(size) = size {
        switch.capture(size);
    }
    let ((one, ours), (two, theirs)) = (switch.plug(vlan, "one")?, switch.plug(vlan, "two")?);
    Ok((switch, [one, two], [ours, theirs]))
}

/// The median round trip between two sockets, in microseconds.
fn trips(ours: OwnedFd, theirs: OwnedFd) -> Result<f64> {
    let echo = thread::spawn(move || {
        let mut buffer = [0; 2000];
        // A frame without a payload is the last one.
        while let Ok((length @ 15.., _)) = recv(&theirs, &mut buffer[..], RecvFlags::empty()) {
            // Back to where it came from.
            let (to, rest) = buffer.split_at_mut(6);
            to.swap_with_slice(&mut rest[..6]);
            if send(&theirs, &buffer[..length], SendFlags::NOSIGNAL).is_err() {
                break;
            }
        }
    });
    let mut frame = [0; LENGTH];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let (mut buffer, mut times) = ([0; 2000], Vec::with_capacity(TRIPS));
    for _ in 0..TRIPS {
        let begun = Instant::now();
        send(&ours, &frame, SendFlags::NOSIGNAL).map_err(std::io::Error::from)?;
        recv(&ours, &mut buffer[..], RecvFlags::empty()).map_err(std::io::Error::from)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    send(&ours, &frame[..14], SendFlags::NOSIGNAL).map_err(std::io::Error::from)?;
    echo.join().map_err(|_| "the echo failed")?;
    Ok(median(&times))
}
