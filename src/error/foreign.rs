//! Errors of other crates as errors of this library.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::{Error, ErrorKind};

/// The texts of an error and its causes, if the error itself can't be kept because it can't be cloned or must stay on
/// its thread.
#[derive(Debug)]
pub(super) struct TextChain {
    text: String,
    source: Option<Box<Self>>,
}

/// Maximum number of causes; the chain of an error may be endless.
const CAUSES: usize = 32;

impl TextChain {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut texts = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next.filter(|_| texts.len() < CAUSES) {
            texts.push(error.to_string());
            next = error.source();
        }
        let told = texts
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Self { text, source: source.map(Box::new) }));
        told.unwrap_or_else(|| Self { text: String::new(), source: None })
    }
}

impl fmt::Display for TextChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TextChain {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Lets a scenario use `?` on plain text and on these errors of other crates. The place is that of the `?`.
macro_rules! from_text {
    ($($text:ty),*) => {$(
        impl From<$text> for Error {
            #[track_caller]
            fn from(text: $text) -> Self {
                Self::foreign(ErrorKind::Other, text)
            }
        }
    )*};
}

macro_rules! from_foreign {
    ($($foreign:ty => $kind:expr),* $(,)?) => {$(
        impl From<$foreign> for Error {
            #[track_caller]
            fn from(error: $foreign) -> Self {
                let kind: fn(&$foreign) -> ErrorKind = $kind;
                Self::foreign(kind(&error), error.to_string()).caused_by(error)
            }
        }
    )*};
}

from_text!(&str, String);

from_foreign!(
    io::Error => |_| ErrorKind::Io,
    serde_json::Error => |error| if error.is_io() { ErrorKind::Io } else { ErrorKind::Other },
    fmt::Error => |_| ErrorKind::Other,
    std::num::ParseIntError => |_| ErrorKind::Other,
    std::num::ParseFloatError => |_| ErrorKind::Other,
    std::str::Utf8Error => |_| ErrorKind::Other,
    std::string::FromUtf8Error => |_| ErrorKind::Other,
    regex::Error => |_| ErrorKind::Other,
);

/// Depends on the box's content: an error of this library stays unchanged.
impl From<Box<dyn StdError + Send + Sync>> for Error {
    #[track_caller]
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(other) => other,
        };
        match error.downcast::<io::Error>() {
            Ok(known) => (*known).into(),
            Err(other) => Self::foreign(ErrorKind::Other, other.to_string()).caused_by(other),
        }
    }
}

impl From<Box<dyn StdError>> for Error {
    #[track_caller]
    fn from(error: Box<dyn StdError>) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(other) => other,
        };
        match error.downcast::<io::Error>() {
            Ok(known) => (*known).into(),
            Err(other) => {
                Self::foreign(ErrorKind::Other, other.to_string()).caused_by(TextChain::of(&*other))
            }
        }
    }
}
