//! Errors of the system with the name of what they are about. They keep their code, by which a limit of the host is
//! known.

use std::error::Error;
use std::fmt;
use std::io;

/// An error with a name before it.
#[derive(Debug)]
struct Named {
    name: String,
    source: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.source)
    }
}

impl Error for Named {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Returns `error` with `name` before its text.
pub(crate) fn named(name: impl fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Named { name: name.to_string(), source: error })
}

/// Returns the system's code of `error`, or of the error inside.
pub(crate) fn code(error: &io::Error) -> Option<i32> {
    let inner = || error.get_ref()?.downcast_ref::<Named>();
    error.raw_os_error().or_else(|| code(&inner()?.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_error_keeps_its_kind_and_its_code() {
        let error = named("outer", named("inner", io::Error::from_raw_os_error(24)));
        assert!(error.to_string().starts_with("outer: inner: "), "{error}");
        assert_eq!(code(&error), Some(24));
        assert_eq!(named("a", io::ErrorKind::NotFound.into()).kind(), io::ErrorKind::NotFound);
        assert_eq!(code(&io::Error::other("no code")), None);
    }
}
