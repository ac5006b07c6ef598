//! An error as stored in a record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::event::FailureKind;
use crate::text;

/// All of an [`Error`] except its code location and the transcripts that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredError {
    kind: FailureKind,
    summary: String,
    sections: Vec<(String, String)>,
    /// The time and its limit, in seconds.
    took: Option<(f64, f64)>,
    cause: Option<String>,
    next: Option<String>,
}

impl From<&Error> for StoredError {
    fn from(error: &Error) -> Self {
        let (cause, next) = error.advice();
        Self {
            kind: error.kind().into(),
            summary: error.summary().to_owned(),
            sections: error.sections().map(|(title, body)| (title.to_owned(), body.to_owned())).collect(),
            took: error.time().map(|(took, limit)| (took.as_secs_f64(), limit.as_secs_f64())),
            cause: cause.map(str::to_owned),
            next: next.map(str::to_owned),
        }
    }
}

impl From<StoredError> for Error {
    fn from(stored: StoredError) -> Self {
        // The file is not trusted: it may contain terminal escape sequences and invalid times.
        let mut error = Self::new(stored.kind.known(), text::lines(&stored.summary));
        for (title, body) in &stored.sections {
            error = error.section(text::line(title), text::lines(body));
        }
        if let Some((took, limit)) = stored.took {
            let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
            error = error.took(time(took), time(limit));
        }
        if let Some(cause) = stored.cause {
            error = error.likely_cause(text::lines(&cause));
        }
        match stored.next {
            Some(next) => error.next_step(text::lines(&next)),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_error_says_the_same_after_it_was_written_and_read() {
        let error = Error::new(ErrorKind::UnitFailed, "nginx.service failed")
            .section("its status", "dead\nvery")
            .took(Duration::from_millis(1500), Duration::from_secs(3))
            .likely_cause("a port is taken")
            .next_step("look at its journal");
        let written = serde_json::to_string(&StoredError::from(&error)).unwrap();
        let read = Error::from(serde_json::from_str::<StoredError>(&written).unwrap());
        assert_eq!((read.kind(), read.to_string()), (error.kind(), error.to_string()));
        let hostile = written.replace("look at", "\\u001b[2J look at").replace("a port", "\\u202ea port");
        let hostile = Error::from(serde_json::from_str::<StoredError>(&hostile).unwrap()).to_string();
        assert!(hostile.contains("next:  look at") && !hostile.contains(['\x1b', '\u{202e}']), "{hostile:?}");
        let newer = written.replace("UnitFailed", "UnitLost");
        let newer = Error::from(serde_json::from_str::<StoredError>(&newer).unwrap());
        assert_eq!((newer.kind(), newer.to_string()), (ErrorKind::Other, error.to_string()));
        let odd = written.replace("1.5", "-1e300");
        assert!(
            Error::from(serde_json::from_str::<StoredError>(&odd).unwrap())
                .to_string()
                .contains("after 0.0 s")
        );
    }
}
