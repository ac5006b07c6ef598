//! The folder in which programs find a vde switch, and what they say there.
//!
//! A program connects to the stream socket `ctl` of the folder, and sends one request with the path of its own datagram
//! socket. The answer is the path of the socket to which it sends its frames. From then on a datagram is a frame, in both
//! directions, and the port lives as long as the connection.
//!
//! Only this user can connect: the folder is closed to others, and the kernel is asked who it was. The path in the request
//! must name a socket directly in the folder, where libvdeplug makes it. So no other file of this user is reached through a
//! request.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    send, socket_with, sockopt,
};
use rustix::process::geteuid;

use super::{Counts, Key, VlanId};
use crate::{Error, ErrorKind, Result};

/// The first word of a request.
const MAGIC: u32 = 0xfeed_face;

/// The version of the protocol that libvdeplug speaks.
const VERSION: u32 = 3;

/// The bytes of a `sockaddr_un`: the family, and a path.
const ADDRESS: usize = 2 + PATH;
const PATH: usize = 108;

/// The length of a request without the description at its end, which is not needed: the magic word, the version, the
/// type, and an address.
const REQUEST: usize = 3 * 4 + ADDRESS;

/// What libvdeplug adds to the folder at most: `/.`, the number of its process, `-` and a counter.
const NAME: usize = "/.4194304-00000".len();

/// How many connections a folder has.
const MOST: usize = 64;

/// The name of a socket, which is removed with it.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A folder that was made, and is removed with the sockets in it. Programs leave theirs there when they are killed.
#[derive(Debug)]
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
        sockets.for_each(|socket| drop(fs::remove_file(socket.path())));
        let _ = fs::remove_dir(&self.0);
    }
}

/// A folder that looks like that of a vde switch.
#[derive(Debug)]
pub(super) struct Folder {
    vlan: VlanId,
    listener: OwnedFd,
    /// What passed the ports that are gone.
    pub(super) past: Counts,
    made: Made,
}

impl Folder {
    /// Makes the folder and its control socket.
    pub(super) fn make(vlan: VlanId, path: &Path) -> Result<Self> {
        let failed =
            |error: io::Error| Error::io(format_args!("make the vde folder {}", path.display()), &error);
        DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
        let mut made = Made(path.to_owned());
        // A mask may have taken the owner's own rights.
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        // libvdeplug names the folder like this, too.
        made.0 = fs::canonicalize(path).map_err(failed)?;
        let (length, most) = (made.0.as_os_str().len(), PATH - 1 - NAME);
        if length > most {
            let summary = format!(
                "the path of the vde folder has {length} bytes, and at most {most} are possible: {}",
                made.0.display()
            );
            return Err(Error::new(ErrorKind::Usage, summary));
        }
        let opened = || -> Result<_, Errno> {
            let listener = socket(SocketType::STREAM)?;
            bind(&listener, &SocketAddrUnix::new(made.0.join("ctl"))?)?;
            listen(&listener, 16)?;
            Ok(listener)
        };
        let listener = opened().map_err(|error| failed(error.into()))?;
        Ok(Self { vlan, listener, past: Counts::default(), made })
    }

    pub(super) fn vlan(&self) -> VlanId {
        self.vlan
    }

    pub(super) fn path(&self) -> &Path {
        &self.made.0
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes one new connection. `key` is the folder's own, and `controls` are those that are there. None if the connection
    /// is closed at once.
    pub(super) fn accept(
        &self,
        key: Key,
        controls: &HashMap<Key, Control>,
    ) -> Result<Option<Control>, Errno> {
        let socket = accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        let allowed = sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == geteuid());
        let room = controls.values().filter(|control| control.folder == key).count() < MOST;
        Ok((allowed && room).then(|| Control { folder: key, socket, said: Vec::new(), port: None }))
    }

    /// Makes the socket of a port. `control` is the connection that asked for it, and `peer` the path that it gave. None if
    /// that is not possible.
    pub(super) fn connect(&self, control: Key, peer: &[u8]) -> Option<(OwnedFd, Vec<SocketFile>)> {
        let named = Path::new(OsStr::from_bytes(peer));
        let name = named.file_name().filter(|_| named.parent() == Some(self.path()))?;
        let peer = self.path().join(name);
        if !fs::symlink_metadata(&peer).ok()?.file_type().is_socket() {
            return None;
        }
        let socket = socket(SocketType::DGRAM).ok()?;
        let path = self.port_path(control);
        bind(&socket, &SocketAddrUnix::new(&path).ok()?).ok()?;
        let own = SocketFile(path);
        // From now on the socket takes datagrams of this peer alone.
        connect(&socket, &SocketAddrUnix::new(&peer).ok()?).ok()?;
        // A program that is killed does not remove its socket.
        Some((socket, vec![own, SocketFile(peer)]))
    }

    /// Tells the program where its frames go. None if it is not there any more.
    pub(super) fn greet(&self, control: &Control, key: Key) -> Option<()> {
        let mut answer = [0; ADDRESS];
        answer[..2].copy_from_slice(&AddressFamily::UNIX.as_raw().to_ne_bytes());
        let path = self.port_path(key);
        let path = path.as_os_str().as_bytes();
        answer.get_mut(2..2 + path.len())?.copy_from_slice(path);
        let sent = send(&control.socket, &answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok()?;
        (sent == answer.len()).then_some(())
    }

    fn port_path(&self, control: Key) -> PathBuf {
        self.path().join(format!("port-{}", control.0))
    }
}

fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A connection to a folder.
#[derive(Debug)]
pub(super) struct Control {
    folder: Key,
    socket: OwnedFd,
    /// What it said before it had a port.
    said: Vec<u8>,
    pub(super) port: Option<Key>,
}

/// What follows from something that was said on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: the request is not whole, or there is a port already.
    Nothing,
    /// The request is whole: this is the path of the program's socket.
    Request(Vec<u8>),
    /// That is no request.
    Nonsense,
}

impl Control {
    /// The folder that it is to.
    pub(super) fn folder(&self) -> Key {
        self.folder
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what the program has said.
    pub(super) fn says(&mut self, words: &[u8]) -> Said {
        if self.port.is_some() {
            return Said::Nothing;
        }
        self.said.extend_from_slice(&words[..words.len().min(REQUEST - self.said.len())]);
        if self.said.len() < REQUEST {
            return Said::Nothing;
        }
        let said = std::mem::take(&mut self.said);
        match read_request(&said) {
            Some(path) => Said::Request(path.to_vec()),
            None => Said::Nonsense,
        }
    }
}

/// Reads the path in a request.
fn read_request(request: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = request.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    // Which port the program would like does not matter.
    let (_kind, rest) = rest.split_first_chunk::<4>()?;
    let (family, path) = rest.split_first_chunk::<2>()?;
    let known = u32::from_ne_bytes(*magic) == MAGIC
        && u32::from_ne_bytes(*version) == VERSION
        && u16::from_ne_bytes(*family) == AddressFamily::UNIX.as_raw();
    let path = path.split(|byte| *byte == 0).next()?;
    known.then_some(path)
}
