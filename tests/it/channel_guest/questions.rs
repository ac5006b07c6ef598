//! What the host asks that takes no program.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::channel_guest::guest::{Guest, Way};

/// The output and the status of a question.
fn ask(guest: &mut Guest, question: &[u8]) -> (Vec<u8>, String) {
    let id = guest.begin_question(question);
    let mut output = Vec::new();
    loop {
        let frame = guest.frame_of(id);
        match frame.kind {
            'O' => output.extend(frame.content),
            'X' => return (output, String::from_utf8(frame.content).unwrap()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_question_that_is_not_known_is_answered_with_a_failure() {
    let mut guest = Guest::start(Way::Helper);
    assert_eq!(ask(&mut guest, b"the weather"), (Vec::new(), "status 1\n".to_owned()));
    assert_eq!(guest.run("echo goes on").text(), "goes on\n");
}

/// systemd forgets what comes together with the end of a hello.
#[test]
fn a_service_is_called_after_it_has_answered_the_hello() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (signal, answer) = (message(4, b"something"), message(2, b"the answer"));
    let all = [&signal[..], &answer].concat();
    let told = all.clone();
    let service = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut said = vec![0; 100];
        let count = socket.read(&mut said).unwrap();
        assert!(said[..count].ends_with(b"BEGIN\r\n"), "{}", said[..count].escape_ascii());
        socket.write_all(b"OK 1234\r\n").unwrap();
        let count = socket.read(&mut said).unwrap();
        assert_eq!(&said[..count], b"call");
        for piece in told.chunks(7) {
            socket.write_all(piece).unwrap();
        }
    });
    let mut guest = Guest::start(Way::Helper);
    let question = [b"dbus ", path.as_os_str().as_encoded_bytes(), b"\0\0AUTH\r\nBEGIN\r\ncall"].concat();
    assert_eq!(ask(&mut guest, &question), (all, "status 0\n".to_owned()));
    service.join().unwrap();
    // Nobody is there any more.
    assert_eq!(ask(&mut guest, &question).1, "status 1\n");
    assert_eq!(ask(&mut guest, b"dbus no-nul").1, "status 1\n");
}

/// A bus wants to be greeted by a call of its own.
#[test]
fn each_of_several_calls_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let calls = [message(1, b""), message(1, b"power off")].concat();
    let answers = [message(2, b"hello"), message(4, b"something"), message(2, b"it does")];
    let (told, expected) = (answers.clone(), calls.clone());
    let service = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut said = vec![0; 100];
        let _ = socket.read(&mut said).unwrap();
        socket.write_all(b"OK 1234\r\n").unwrap();
        let mut said = vec![0; expected.len()];
        socket.read_exact(&mut said).unwrap();
        assert_eq!(said, expected);
        for answer in told {
            socket.write_all(&answer).unwrap();
            std::thread::yield_now();
        }
    });
    let mut guest = Guest::start(Way::Helper);
    let socket = path.as_os_str().as_encoded_bytes();
    let question = [&b"dbus "[..], socket, b"\0\0AUTH\r\nBEGIN\r\n", &calls].concat();
    assert_eq!(ask(&mut guest, &question), (answers.concat(), "status 0\n".to_owned()));
    service.join().unwrap();
}

/// A message of D-Bus without fields.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'l', kind, 0, 1];
    for number in [body.len() as u32, 1, 0] {
        message.extend(number.to_le_bytes());
    }
    message.extend(body);
    message
}

/// Whether somebody listens at a path, and why not.
fn listens(guest: &mut Guest, path: &str) -> Result<(), String> {
    let (why, status) = ask(guest, format!("connect {path}").as_bytes());
    let why = String::from_utf8(why).unwrap();
    match status.as_str() {
        "status 0\n" => Ok(()),
        _ => Err(why),
    }
}

fn socket(kind: SocketType, path: &Path) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, kind, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn a_socket_is_open_when_it_can_be_connected_to() {
    const NOBODY: &str = "it is not a socket, or no program listens on it";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let mut guest = Guest::start_in(Way::Helper, folder.path());
    assert_eq!(listens(&mut guest, &text("none")), Err("there is no such file".to_owned()));
    assert_eq!(listens(&mut guest, &text("none/none")), Err("there is no such file".to_owned()));
    std::fs::write(at("file"), "").unwrap();
    assert_eq!(listens(&mut guest, &text("file")), Err(NOBODY.to_owned()));
    assert_eq!(listens(&mut guest, &text("file/none")), Err("a part of its path is not a folder".to_owned()));

    let stream = socket(SocketType::STREAM, &at("stream"));
    assert_eq!(
        listens(&mut guest, &text("stream")),
        Err(NOBODY.to_owned()),
        "it is bound, and nobody listens"
    );
    rustix::net::listen(&stream, 0).unwrap();
    assert_eq!(listens(&mut guest, &text("stream")), Ok(()));
    // So many connections that the next would have to wait.
    for _ in 0..5 {
        assert_eq!(listens(&mut guest, &text("stream")), Ok(()));
    }
    // By other names: a relative one, a link, a folder that is linked.
    assert_eq!(listens(&mut guest, "stream"), Ok(()));
    assert_eq!(listens(&mut guest, "./stream"), Ok(()));
    std::os::unix::fs::symlink("stream", at("link")).unwrap();
    std::os::unix::fs::symlink(folder.path(), at("run")).unwrap();
    assert_eq!(listens(&mut guest, &text("link")), Ok(()));
    assert_eq!(listens(&mut guest, &text("run/run/stream")), Ok(()));
    // It moved; then it is gone, though its server is there.
    std::fs::rename(at("stream"), at("moved")).unwrap();
    assert_eq!(listens(&mut guest, &text("stream")), Err("there is no such file".to_owned()));
    assert_eq!(listens(&mut guest, &text("moved")), Ok(()));
    std::fs::remove_file(at("moved")).unwrap();
    assert_eq!(listens(&mut guest, &text("moved")), Err("there is no such file".to_owned()));

    let datagrams = socket(SocketType::DGRAM, &at("datagrams"));
    assert_eq!(listens(&mut guest, &text("datagrams")), Ok(()));
    drop(datagrams);
    assert_eq!(listens(&mut guest, &text("datagrams")), Err(NOBODY.to_owned()));
    let packets = socket(SocketType::SEQPACKET, &at("packets"));
    assert_eq!(listens(&mut guest, &text("packets")), Err(NOBODY.to_owned()));
    rustix::net::listen(&packets, 1).unwrap();
    assert_eq!(listens(&mut guest, &text("packets")), Ok(()));

    // Longer than an address can be, in folders or in its name alone.
    let deep = at(&"deep/".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::rename(at("packets"), deep.join("packets")).unwrap();
    assert_eq!(listens(&mut guest, deep.join("packets").to_str().unwrap()), Ok(()));
    let long = deep.join("x".repeat(200));
    std::fs::rename(deep.join("packets"), &long).unwrap();
    assert_eq!(listens(&mut guest, long.to_str().unwrap()), Ok(()));
    drop(packets);
    assert_eq!(listens(&mut guest, long.to_str().unwrap()), Err(NOBODY.to_owned()));
    let no_path = "/x".repeat(3000);
    assert_eq!(listens(&mut guest, &no_path), Err("its name is too long".to_owned()));
    for length in [100, 106, 107, 108, 109] {
        let name = "y".repeat(length - folder.path().as_os_str().len() - 1);
        let here = UnixListener::bind(at(&name));
        // The library takes no longer ones.
        assert_eq!(listens(&mut guest, &text(&name)).is_ok(), here.is_ok(), "{length}");
    }

    // Abstract names, and a file that is called like one.
    let name = format!("nixvm-test-{}", std::process::id());
    let abstract_socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&abstract_socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap())
        .unwrap();
    assert_eq!(listens(&mut guest, &format!("@{name}")), Err(NOBODY.to_owned()));
    rustix::net::listen(&abstract_socket, 1).unwrap();
    assert_eq!(listens(&mut guest, &format!("@{name}")), Ok(()));
    assert!(listens(&mut guest, &format!("@{name}-other")).is_err());
    let _file = UnixListener::bind(at("@file")).unwrap();
    assert!(listens(&mut guest, "@file").is_err());
    assert_eq!(listens(&mut guest, "./@file"), Ok(()));
    assert_eq!(guest.run("ls /proc/$PPID/fd | wc -l").status, Some(0));
}
