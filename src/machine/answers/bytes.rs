//! Bytes in JSON: as text where they are text, else one character a byte.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a command printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::machine) struct Bytes(pub(in crate::machine) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Latin1 { latin1: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(serializer),
            Err(_) => {
                let latin1 = self.0.iter().map(|&byte| char::from(byte)).collect();
                Written::Latin1 { latin1 }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into_bytes(),
            Written::Latin1 { latin1 } => {
                let byte = |character| u8::try_from(character).map_err(serde::de::Error::custom);
                latin1.chars().map(byte).collect::<Result<_, _>>()?
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_as_they_were_and_text_can_be_read() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b"plain\n\x1b[31m"[..], "\u{fc}".as_bytes(), &all, b"\xff", b""] {
            let written = serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&written).unwrap().0, bytes, "{written}");
        }
        assert_eq!(serde_json::to_string(&Bytes(b"plain\n".to_vec())).unwrap(), r#""plain\n""#);
        assert!(serde_json::from_str::<Bytes>(r#"{"latin1":"\u0100"}"#).is_err());
    }
}
