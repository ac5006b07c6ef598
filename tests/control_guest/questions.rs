//! What the host asks that takes no program.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::guest::{Guest, Way};

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
fn the_kernels_log_is_told_to_who_may_read_it() {
    let mut guest = Guest::start(Way::Helper);
    let (log, status) = ask(&mut guest, b"log");
    let readable = std::process::Command::new("dmesg").output().is_ok_and(|output| output.status.success());
    assert_eq!(status, if readable { "status 0\n" } else { "status 1\n" });
    assert_eq!(log.is_empty(), !readable);
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

/// A message of D-Bus without fields.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'l', kind, 0, 1];
    for number in [body.len() as u32, 1, 0] {
        message.extend(number.to_le_bytes());
    }
    message.extend(body);
    message
}
