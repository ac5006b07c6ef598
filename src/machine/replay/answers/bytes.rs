//! Bytes in JSON: text where possible, otherwise numbers. Secrets stay readable, so they are found and masked.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::writer::LONGEST;

/// A command's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::machine) struct Bytes(pub(in crate::machine) Vec<u8>);

#[derive(Deserialize)]
#[serde(untagged)]
enum StoredBytes {
    Text(String),
    Mixed { mixed: Vec<Piece> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

/// Compares piece by piece, because the caller may stop early.
struct Mixed<'a>(&'a [u8]);

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Serialize for Mixed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = self.0.utf8_chunks().flat_map(|chunk| {
            let text = Some(chunk.valid()).filter(|text| !text.is_empty()).map(Part::Text);
            let bytes = Some(chunk.invalid()).filter(|bytes| !bytes.is_empty()).map(Part::Bytes);
            [text, bytes].into_iter().flatten()
        });
        serializer.collect_seq(parts)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // It is known before anything is escaped.
        if self.0.len() > LONGEST {
            return Err(serde::ser::Error::custom("it is longer than what is kept of an answer"));
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(serializer),
            Err(_) => serializer.collect_map([("mixed", Mixed(&self.0))]),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match StoredBytes::deserialize(deserializer)? {
            StoredBytes::Text(text) => text.into_bytes(),
            StoredBytes::Mixed { mixed } => {
                let pieces = mixed.into_iter().map(|piece| match piece {
                    Piece::Text(text) => text.into_bytes(),
                    Piece::Bytes(bytes) => bytes,
                });
                pieces.flatten().collect()
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
        assert!(serde_json::from_str::<Bytes>(r#"{"mixed":[256]}"#).is_err());
    }

    #[test]
    fn words_among_bytes_can_be_read_so_a_secret_is_found_there() {
        let written = serde_json::to_string(&Bytes(b"\xffgeheimnis-\xc3\xa4\xe2\x82".to_vec())).unwrap();
        assert!(written.contains("geheimnis-ä"), "{written}");
    }
}
