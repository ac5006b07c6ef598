//! Turns a program that root started on the console into a systemd service. The helper requests the service itself, as
//! systemd-run would. This saves the start of one program, which takes an emulated guest a tenth of a second.

use crate::bytes::Bytes;
use crate::frame::ShortText;
use crate::question::call;
use crate::sys::{self, POLLIN, Watched};

/// The socket on which systemd answers root without a bus (systemd(1)).
const SYSTEMD: &[u8] = b"/run/systemd/private";
const HELLO: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";
/// Time limit for systemd's answer to begin, in milliseconds: systemd may be busy.
const PATIENCE: usize = 60_000;
/// Time limit for the service to report the end of the first command, in milliseconds. The report comes earlier if that
/// command takes long.
const HELD: usize = 2000;
/// The script of the service; `$1` is this program, `$2` the port, `$3` the name of the bell.
const SERVICE: &[u8] = include_bytes!("../service.sh");
const NAME: &[u8] = b"nixvm-channel.service";

/// Makes systemd start the service that serves `port` with the program `itself` (C strings). Returns after its first
/// command has ended: the program that started this one then exits, which would take the processor from that command.
pub fn begin(itself: &[u8], port: &[u8]) -> i32 {
    let bell = sys::bell(bell_name(text(itself)).bytes());
    let mut answer = Bytes::new();
    let mut question = Bytes::new();
    question.push(HELLO);
    question.push(start_service(itself, port).front());
    if !call(SYSTEMD, question.front(), PATIENCE, &mut answer).is_some_and(|answered| answered) {
        return 1;
    }
    if let Ok(bell) = bell {
        let mut watched = [Watched { fd: bell.number(), events: POLLIN, seen: 0 }];
        // The service has been started, even if this wait fails.
        let _ = sys::wait_for(&mut watched, Some(HELD));
    }
    0
}

/// Returns the call of StartTransientUnit (org.freedesktop.systemd1(5)).
fn start_service(itself: &[u8], port: &[u8]) -> Bytes {
    let mut body = Bytes::new();
    string(&mut body, NAME);
    string(&mut body, b"fail");
    let mut properties = Bytes::new();
    property(&mut properties, b"Description", b"s", |to| string(to, b"nixvm-test control channel"));
    property(&mut properties, b"CollectMode", b"s", |to| string(to, b"inactive-or-failed"));
    property(&mut properties, b"OOMPolicy", b"s", |to| string(to, b"continue"));
    property(&mut properties, b"TimeoutStopUSec", b"t", |to| {
        pad(to, 8);
        to.push(&5_000_000u64.to_le_bytes());
    });
    property(&mut properties, b"ExecStart", b"a(sasb)", |to| {
        let mut command = Bytes::new();
        string(&mut command, b"/bin/sh");
        let mut arguments = Bytes::new();
        for argument in [b"/bin/sh", &b"-c"[..], SERVICE, b"nixvm", text(itself), text(port), text(itself)] {
            string(&mut arguments, argument);
        }
        array(&mut command, 4, &arguments);
        // A failing exit status is an error.
        pad(&mut command, 4);
        command.push(&0u32.to_le_bytes());
        array(to, 8, &command);
    });
    array(&mut body, 8, &properties);
    // No other units.
    array(&mut body, 8, &Bytes::new());
    let mut fields = Bytes::new();
    for (code, kind, value) in [
        (1, b'o', &b"/org/freedesktop/systemd1"[..]),
        (2, b's', b"org.freedesktop.systemd1.Manager"),
        (3, b's', b"StartTransientUnit"),
        (6, b's', b"org.freedesktop.systemd1"),
    ] {
        pad(&mut fields, 8);
        fields.push(&[code, 1, kind, 0]);
        string(&mut fields, value);
    }
    pad(&mut fields, 8);
    fields.push(&[8, 1, b'g', 0]);
    signature(&mut fields, b"ssa(sv)a(sa(sv))");
    // Little-endian, a call, no flags, version 1; its number is 1.
    let mut message = Bytes::new();
    message.push(&[b'l', 1, 0, 1]);
    for number in [body.len() as u32, 1, fields.len() as u32] {
        message.push(&number.to_le_bytes());
    }
    message.push(fields.front());
    pad(&mut message, 8);
    message.push(body.front());
    message
}

/// Returns a C string without its NUL.
fn text(c_string: &[u8]) -> &[u8] {
    &c_string[..c_string.len() - 1]
}

fn pad(to: &mut Bytes, alignment: usize) {
    let missing = to.len().next_multiple_of(alignment) - to.len();
    to.push(&[0; 8][..missing]);
}

fn string(to: &mut Bytes, text: &[u8]) {
    pad(to, 4);
    to.push(&(text.len() as u32).to_le_bytes());
    to.push(text);
    to.push(b"\0");
}

fn signature(to: &mut Bytes, signature: &[u8]) {
    to.push(&[signature.len() as u8]);
    to.push(signature);
    to.push(b"\0");
}

/// Writes an array of values aligned to `alignment`, both in `to` and in `values`.
fn array(to: &mut Bytes, alignment: usize, values: &Bytes) {
    pad(to, 4);
    to.push(&(values.len() as u32).to_le_bytes());
    pad(to, alignment);
    to.push(values.front());
}

/// Writes a name and a variant.
fn property(to: &mut Bytes, name: &[u8], kind: &[u8], value: impl FnOnce(&mut Bytes)) {
    pad(to, 8);
    string(to, name);
    signature(to, kind);
    value(to);
}

/// Reports that the first command has ended, if a process waits for that.
pub fn ring(name: &[u8]) {
    if !name.is_empty() {
        sys::ring(bell_name(name).bytes());
    }
}

/// Returns a name of an abstract socket, which is not a file.
fn bell_name(name: &[u8]) -> ShortText {
    ShortText::new().text(b"@").text(name)
}
