//! Connects to sockets of services.

use super::machine::{call, number};
use super::{EAGAIN, Fd, checked};
use crate::frame::ShortText;

const AF_UNIX: u16 = 1;
const SOCK_STREAM: usize = 1;
const SOCK_DGRAM: usize = 2;
const SOCK_SEQPACKET: usize = 5;
const SOCK_CLOEXEC: usize = 0o2000000;
const SOCK_NONBLOCK: usize = 0o4000;
/// The socket at that path is of another type.
const EPROTOTYPE: isize = -91;
/// Maximum length of a socket's path in an address.
const LONGEST_PATH: usize = 107;

/// `struct sockaddr_un`, and its used length.
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; LONGEST_PATH + 1],
    length: usize,
}

impl Address {
    /// Creates the address of a path without a NUL, or of an abstract name if it begins with `@`.
    fn new(path: &[u8]) -> Result<Address, isize> {
        const ENAMETOOLONG: isize = -36;
        let mut address = Address { family: AF_UNIX, path: [0; LONGEST_PATH + 1], length: 0 };
        address.path.get_mut(..path.len()).ok_or(ENAMETOOLONG)?.copy_from_slice(path);
        address.length = size_of::<u16>() + path.len();
        match path {
            [b'@', ..] => address.path[0] = 0,
            _ if path.len() > LONGEST_PATH => return Err(ENAMETOOLONG),
            _ => address.length += 1,
        }
        Ok(address)
    }

    fn socket(kind: usize) -> Result<Fd, isize> {
        // SAFETY: plain numbers.
        let made =
            checked(|| unsafe { call(number::SOCKET, [AF_UNIX as usize, kind | SOCK_CLOEXEC, 0, 0, 0, 0]) })?;
        Ok(Fd(made as i32))
    }

    fn connect(&self, kind: usize) -> Result<Fd, isize> {
        let socket = Address::socket(kind)?;
        // SAFETY: the address is ours, and has at least the length that is given.
        checked(|| unsafe {
            call(number::CONNECT, [socket.number() as usize, &raw const *self as usize, self.length, 0, 0, 0])
        })?;
        Ok(socket)
    }
}

/// Connects to the socket of a service, by its path.
pub fn connect(path: &[u8]) -> Result<Fd, isize> {
    Address::new(path)?.connect(SOCK_STREAM)
}

/// Creates a bell, which waits to be rung.
pub fn bell(name: &[u8]) -> Result<Fd, isize> {
    let (address, socket) = (Address::new(name)?, Address::socket(SOCK_DGRAM)?);
    // SAFETY: the address is ours, and has at least the length that is given.
    checked(|| unsafe {
        let at = &raw const address as usize;
        call(number::BIND, [socket.number() as usize, at, address.length, 0, 0, 0])
    })?;
    Ok(socket)
}

/// Rings the bell, if a process waits for it.
pub fn ring(name: &[u8]) {
    if let Ok(socket) = Address::new(name).and_then(|address| address.connect(SOCK_DGRAM | SOCK_NONBLOCK)) {
        let _ = socket.write(b"\n");
    }
}

/// Checks whether a socket of any type accepts a connection. The path may be longer than an address allows.
pub fn reaches(path: &[u8]) -> Result<(), isize> {
    let mut longer = [0u8; 4097];
    let mut kept = None;
    let mut address = Address::new(path);
    if address.is_err() && path.first() != Some(&b'@') && path.len() < longer.len() {
        longer[..path.len()].copy_from_slice(path);
        // The link in /proc refers to the file itself.
        let file = super::open_path(&longer[..=path.len()])?;
        let line = ShortText::new().text(b"/proc/self/fd/").number(file.number() as u32);
        address = Address::new(line.bytes());
        kept = Some(file);
    }
    let address = address?;
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        match address.connect(kind | SOCK_NONBLOCK) {
            // The queue of connections is full, so a process listens.
            Ok(_) | Err(EAGAIN) => return Ok(()),
            Err(EPROTOTYPE) => {}
            Err(error) => return Err(error),
        }
    }
    drop(kept);
    Err(EPROTOTYPE)
}
