//! vde folders, with programs that keep to the protocol and others.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::{ALL, frame, mac, vlan};
use crate::ErrorKind;
use crate::hang::HANG;
use crate::network::{Switch, VdeFolder};

struct Case {
    switch: Switch,
    folder: VdeFolder,
    _place: TempDir,
}

impl Case {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        let switch = Switch::start().unwrap();
        let folder = switch.serve_vde(vlan(1), &place.path().join("vlan1")).unwrap();
        Self { switch, folder, _place: place }
    }

    fn say(&self, words: &[u8]) -> UnixStream {
        let mut control = UnixStream::connect(self.folder.path().join("ctl")).unwrap();
        control.set_read_timeout(Some(HANG)).unwrap();
        control.write_all(words).unwrap();
        control
    }

    /// Whether the switch closes a connection on which this was said, without an answer.
    fn refuses(&self, words: &[u8]) -> bool {
        // An end with something unread is an error.
        self.say(words).read(&mut [0; 200]).map_or(true, |length| length == 0)
    }

    fn entries(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// What libvdeplug says.
pub(super) fn request(path: &Path, version: u32) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(0xfeed_face_u32.to_ne_bytes());
    request.extend(version.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(1_u16.to_ne_bytes());
    request.extend(path.as_os_str().as_encoded_bytes());
    request.resize(3 * 4 + 110, 0);
    request.extend(b"QEMU user=alice PID=7");
    request
}

/// A program that is connected to a folder.
struct Program {
    control: UnixStream,
    data: UnixDatagram,
}

impl Program {
    fn new(case: &Case, name: &str) -> Self {
        let own = case.folder.path().join(name);
        let data = UnixDatagram::bind(&own).unwrap();
        let mut control = case.say(&request(&own, 3));
        let mut answer = [0; 110];
        control.read_exact(&mut answer).unwrap();
        let (family, path) = answer.split_at(2);
        assert_eq!(family, 1_u16.to_ne_bytes());
        let path = path.split(|byte| *byte == 0).next().unwrap();
        data.connect(str::from_utf8(path).unwrap()).unwrap();
        data.set_read_timeout(Some(HANG)).unwrap();
        Self { control, data }
    }

    fn read(&self) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let length = self.data.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }
}

#[test]
fn a_program_that_is_connected_is_on_the_vlan() {
    let case = Case::new();
    assert_eq!(fs::metadata(case.folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    let [one, two] = [".01-0", ".02-0"].map(|name| Program::new(&case, name));
    let jumbo = frame(ALL, mac(1), &[1; 65_535]);
    one.data.send(&jumbo).unwrap();
    assert_eq!(two.read(), jumbo);
    two.data.send(&frame(mac(1), mac(2), b"answer")).unwrap();
    assert_eq!(one.read()[14..], *b"answer");
    let counts = case.folder.counts();
    assert_eq!((counts.received.frames, counts.sent.frames), (2, 2));
    // A program ends: its port is closed, its sockets are removed, its counts stay.
    drop(one);
    while case.entries().len() > 3 {
        std::thread::yield_now();
    }
    assert_eq!(case.folder.counts(), counts);
    let Case { folder, switch, _place } = case;
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
    assert_eq!((&two.control).read(&mut [0]).unwrap(), 0);
    // The switch goes on, and removes folders that are still there at its end.
    let again = switch.serve_vde(vlan(2), &path).unwrap();
    drop(switch);
    assert!(!path.exists());
    drop(again);
}

#[test]
fn only_a_socket_in_the_folder_is_connected_to() {
    let case = Case::new();
    let outside = UnixDatagram::bind(case._place.path().join("outside")).unwrap();
    outside.set_nonblocking(true).unwrap();
    let folder = case.folder.path().to_owned();
    fs::write(folder.join("file"), "").unwrap();
    std::os::unix::fs::symlink("../outside", folder.join("link")).unwrap();
    let elsewhere = case._place.path().join("outside");
    for path in [
        &elsewhere,
        &folder.join("../outside"),
        &folder.join("link"),
        &folder.join("file"),
        &folder.join("missing"),
        &folder.join("ctl"),
        &folder,
        Path::new(""),
        Path::new("."),
        Path::new("relative"),
    ] {
        assert!(case.refuses(&request(path, 3)), "{}", path.display());
    }
    let good = folder.join(".03-0");
    let _data = UnixDatagram::bind(&good).unwrap();
    assert!(case.refuses(&request(&good, 2)), "a version that is not known");
    let mut wrong = request(&good, 3);
    wrong[0] ^= 1;
    assert!(case.refuses(&wrong), "another protocol");
    let whole = [&request(Path::new(""), 3)[..14], &[b'x'; 108]].concat();
    assert!(case.refuses(&whole), "a path without an end");
    // A request may come in pieces, and a connection that says nothing hinders no other.
    let _silent = case.say(b"");
    let mut control = case.say(&[]);
    for byte in request(&good, 3) {
        control.write_all(&[byte]).unwrap();
    }
    control.read_exact(&mut [0; 110]).unwrap();
    control.write_all(&[7; 5000]).unwrap();
    let other = Program::new(&case, ".04-0");
    other.data.send(&frame(ALL, mac(4), b"")).unwrap();
    assert!(outside.recv(&mut [0]).is_err());
}

#[test]
fn connections_are_bounded_and_make_room_when_they_end() {
    let case = Case::new();
    let silent: Vec<_> = (0..64).map(|_| case.say(b"")).collect();
    assert!(case.refuses(b""));
    drop(silent);
    // A connection may come before the switch has seen all of these ends.
    let own = case.folder.path().join(".01-0");
    let _data = UnixDatagram::bind(&own).unwrap();
    let deadline = Instant::now() + HANG;
    while case.refuses(&request(&own, 3)) {
        assert!(Instant::now() < deadline, "no connection has made room");
    }
}

#[test]
fn a_folder_that_can_not_be_made_is_an_error_and_leaves_nothing() {
    let place = TempDir::new().unwrap();
    let switch = Switch::start().unwrap();
    let long = place.path().join("x".repeat(100));
    let error = switch.serve_vde(vlan(1), &long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("the path of the vde folder has"), "{error}");
    for bad in [place.path(), &place.path().join("missing/folder")] {
        assert_eq!(switch.serve_vde(vlan(1), bad).unwrap_err().kind(), ErrorKind::Io);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    // At the limit a socket of libvdeplug still fits.
    let room = 92 - fs::canonicalize(place.path()).unwrap().as_os_str().len() - 1;
    let folder = switch.serve_vde(vlan(1), &place.path().join("x".repeat(room))).unwrap();
    assert!(UnixDatagram::bind(folder.path().join(".4194304-00000")).is_ok());
    let longer = place.path().join("y".repeat(room + 1));
    assert_eq!(switch.serve_vde(vlan(1), &longer).unwrap_err().kind(), ErrorKind::Usage);
}
