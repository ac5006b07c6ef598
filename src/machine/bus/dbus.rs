//! The part of the D-Bus wire format that questions to systemd need: calls with strings; answers that are a string, a
//! list of strings or a number; and the object that a signal is about.
//!
//! The crate zbus is not used: zbus 5.19 panics on messages that systemd sends on its own socket (their sender is not a
//! unique name).
//!
//! The format is described in the D-Bus specification, "Message Protocol". A guest may send anything: lengths are
//! limited and checked, and an invalid message is an error.

/// The maximum length of a message. systemd's answers here have hundreds of bytes.
const LONGEST: usize = 1 << 20;
/// The length of a message's fixed header, in bytes.
const HEADER: usize = 16;

/// The handshake of a connection. Anonymous servers accept any identity, and the bridge is one.
pub(crate) const HELLO: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";

/// Fields of a header, by their codes.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A call of a method.
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    /// Its leading arguments, which are strings.
    pub(crate) arguments: &'a [&'a str],
    /// Its trailing arguments, which are booleans.
    pub(crate) flags: &'a [bool],
}

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The answer to a call, if its type is supported.
    Answer {
        /// The number of the call.
        to: u32,
        /// The answer, or the content of the variant that it is: a string, a number, or strings, one per line.
        text: String,
    },
    /// A call was refused.
    Refusal {
        /// The number of the call.
        to: u32,
        /// The error's name and message.
        why: String,
    },
    /// Something happened to an object.
    Signal {
        /// The object.
        path: String,
    },
    /// Anything else.
    Other,
}

/// The input is not a valid message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Call<'_> {
    /// Appends the message. `serial` is its number, which must not be 0.
    pub(crate) fn write(&self, serial: u32, to: &mut Vec<u8>) {
        let mut body = Vec::new();
        for argument in self.arguments {
            string(&mut body, argument);
        }
        for flag in self.flags {
            pad(&mut body, 4);
            body.extend(u32::from(*flag).to_le_bytes());
        }
        let mut fields = Vec::new();
        for (code, kind, text) in [
            (PATH, b'o', self.path),
            (INTERFACE, b's', self.interface),
            (MEMBER, b's', self.member),
            (DESTINATION, b's', self.destination),
        ] {
            pad(&mut fields, 8);
            fields.extend([code, 1, kind, 0]);
            string(&mut fields, text);
        }
        let count = self.arguments.len() + self.flags.len();
        if count > 0 {
            pad(&mut fields, 8);
            fields.extend([SIGNATURE, 1, b'g', 0, count as u8]);
            fields.extend(std::iter::repeat_n(b's', self.arguments.len()));
            fields.extend(std::iter::repeat_n(b'b', self.flags.len()));
            fields.push(0);
        }
        let mut message = vec![b'l', 1, 0, 1];
        for number in [body.len() as u32, serial, fields.len() as u32] {
            message.extend(number.to_le_bytes());
        }
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        to.extend(message);
    }
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// Parses the message at the start of `bytes`. Returns it and its length, or nothing while it is incomplete.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Incoming, usize)>, Malformed> {
    let Some(header) = bytes.get(..HEADER) else { return Ok(None) };
    // Every machine that this library can start is little-endian.
    if header[0] != b'l' || header[3] != 1 {
        return Err(Malformed);
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (body_length, fields_length) = (number(4) as usize, number(12) as usize);
    if body_length > LONGEST || fields_length > LONGEST {
        return Err(Malformed);
    }
    let body_at = (HEADER + fields_length).next_multiple_of(8);
    let Some(message) = bytes.get(..body_at + body_length) else { return Ok(None) };
    let fields = Fields::read(&message[..HEADER + fields_length])?;
    let body = Reader { bytes: &message[body_at..], at: 0 };
    let incoming = match (header[1], fields.reply_to) {
        (2, Some(to)) => Incoming::Answer { to, text: body.answer(&fields.signature).unwrap_or_default() },
        (3, Some(to)) => {
            let said = body.answer(&fields.signature).unwrap_or_default();
            Incoming::Refusal { to, why: format!("{}: {said}", fields.error) }
        }
        (4, _) => Incoming::Signal { path: fields.path },
        _ => Incoming::Other,
    };
    Ok(Some((incoming, message.len())))
}

/// The header fields that are used.
#[derive(Default)]
struct Fields {
    path: String,
    error: String,
    signature: String,
    reply_to: Option<u32>,
}

impl Fields {
    fn read(header: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        let mut reader = Reader { bytes: header, at: HEADER };
        while reader.at < header.len() {
            reader.align(8);
            if reader.at >= header.len() {
                break;
            }
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match kind.as_str() {
                "o" | "s" => {
                    let text = reader.string()?;
                    match code {
                        PATH => fields.path = text,
                        ERROR_NAME => fields.error = text,
                        _ => {}
                    }
                }
                "g" => {
                    let text = reader.signature()?;
                    if code == SIGNATURE {
                        fields.signature = text;
                    }
                }
                "u" => {
                    let number = reader.number()?;
                    if code == REPLY_SERIAL {
                        fields.reply_to = Some(number);
                    }
                }
                _ => return Err(Malformed),
            }
        }
        Ok(fields)
    }
}

/// Reads values; alignment counts from the start of `bytes`.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    /// Reads the strings of a list, one per line.
    fn strings(&mut self) -> Result<String, Malformed> {
        let length = self.number()? as usize;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(Malformed)?;
        let mut strings = Vec::new();
        while self.at < end {
            strings.push(self.string()?);
        }
        Ok(strings.join("\n"))
    }

    /// Reads the first value of a body, also inside a variant.
    fn answer(mut self, signature: &str) -> Result<String, Malformed> {
        let kind = match signature.as_bytes().first() {
            Some(b'v') => self.signature()?,
            _ => signature.to_owned(),
        };
        match kind.as_bytes() {
            [b's' | b'o', ..] => self.string(),
            [b'u', ..] => self.number().map(|number| number.to_string()),
            [b'a', b's', ..] => self.strings(),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Builds the answer to a question for a property.
    fn answer(text: &str) -> Vec<u8> {
        let mut body = vec![1, b's', 0];
        string(&mut body, text);
        let mut fields = vec![REPLY_SERIAL, 1, b'u', 0, 7, 0, 0, 0];
        fields.extend([SIGNATURE, 1, b'g', 0, 1, b'v', 0]);
        pad(&mut fields, 8);
        fields.extend([7, 1, b's', 0]);
        string(&mut fields, "org.freedesktop.systemd1");
        let mut message = vec![b'l', 2, 1, 1];
        for number in [body.len() as u32, 99, fields.len() as u32] {
            message.extend(number.to_le_bytes());
        }
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn an_answer_is_understood_once_it_is_whole() {
        let message = answer("active");
        for cut in 0..message.len() {
            assert_eq!(read(&message[..cut]), Ok(None), "{cut}");
        }
        let expected = Incoming::Answer { to: 7, text: "active".to_owned() };
        assert_eq!(read(&message), Ok(Some((expected, message.len()))));
    }

    #[test]
    fn a_list_of_strings_and_a_number_are_read() {
        let read = |body: &[u8], kind: &str| Reader { bytes: body, at: 0 }.answer(kind).ok();
        // In variants, as answers for properties are.
        let mut list = vec![2, b'a', b's', 0];
        let mut strings = Vec::new();
        string(&mut strings, "a.timer");
        string(&mut strings, "b.socket");
        list.extend((strings.len() as u32).to_le_bytes());
        list.extend(&strings);
        assert_eq!(read(&list, "v").as_deref(), Some("a.timer\nb.socket"));
        assert_eq!(read(&[2, b'a', b's', 0, 0, 0, 0, 0], "v").as_deref(), Some(""));
        assert_eq!(read(&[1, b'u', 0, 0, 12, 0, 0, 0], "v").as_deref(), Some("12"));
        for cut in 4..list.len() {
            assert_eq!(read(&list[..cut], "v"), None, "{cut}");
        }
    }

    #[test]
    fn a_call_is_a_message_with_all_its_fields() {
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: &["a", "bc"],
            flags: &[true],
        };
        let mut message = Vec::new();
        call.write(3, &mut message);
        assert_eq!(read(&message), Ok(Some((Incoming::Other, message.len()))));
        assert!(message.ends_with(b"\x01\0\0\0a\0\0\0\x02\0\0\0bc\0\0\x01\0\0\0"));
        assert_eq!(message[8..12], [3, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(read(b"HTTP/1.1 400 Bad Request"), Err(Malformed));
        let mut huge = answer("x");
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&huge), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            if bytes.len() > 3 {
                (bytes[0], bytes[3]) = (b'l', 1);
                let _ = read(&bytes);
            }
        }

        #[test]
        fn a_damaged_answer_is_taken_without_a_panic(at in 0usize..90, byte: u8) {
            let mut message = answer("active");
            let at = at % message.len();
            message[at] = byte;
            let _ = read(&message);
        }
    }
}
