//! What the kernel and services are asked.

use super::machine::{call, number};
use super::{Fd, checked};

/// The end of the kernel's log.
pub fn kernel_log(into: &mut [u8]) -> Result<usize, isize> {
    const SYSLOG_ACTION_READ_ALL: usize = 3;
    // SAFETY: the kernel writes into the slice, which is ours.
    checked(|| unsafe {
        call(number::SYSLOG, [SYSLOG_ACTION_READ_ALL, into.as_mut_ptr() as usize, into.len(), 0, 0, 0])
    })
}

/// Connects to the socket of a service, by its path.
pub fn connect(path: &[u8]) -> Result<Fd, isize> {
    const AF_UNIX: usize = 1;
    const SOCK_STREAM: usize = 1;
    const SOCK_CLOEXEC: usize = 0o2000000;
    /// `struct sockaddr_un`.
    #[repr(C)]
    struct Address {
        family: u16,
        path: [u8; 108],
    }
    let mut address = Address { family: AF_UNIX as u16, path: [0; 108] };
    if path.len() >= address.path.len() {
        return Err(-36);
    }
    address.path[..path.len()].copy_from_slice(path);
    // SAFETY: plain numbers.
    let made =
        checked(|| unsafe { call(number::SOCKET, [AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0]) })?;
    let socket = Fd(made as i32);
    // SAFETY: the address is ours, and has the length that is given.
    checked(|| unsafe {
        let length = size_of::<Address>();
        call(number::CONNECT, [socket.number() as usize, &raw const address as usize, length, 0, 0, 0])
    })?;
    Ok(socket)
}
