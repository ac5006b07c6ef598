//! A shell on the console as a template stores it, and its password.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{ShellLine, new_id};
use crate::machine::language::Language;

/// A password, which no `{:?}` shows.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the password, to be typed.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

/// A shell that waits for commands, as stored in a template. The password is needed for sudo.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedShell {
    user: String,
    password: String,
    language: Language,
    process: String,
    /// The guest's uptime; `None` if unknown.
    uptime: Option<f64>,
}

impl SavedShell {
    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl std::fmt::Debug for SavedShell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedShell").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ShellLine {
    /// Returns the part that a template stores.
    pub(crate) fn saved(&self) -> SavedShell {
        SavedShell {
            user: self.user.clone(),
            password: self.password.reveal().to_owned(),
            language: self.language,
            process: self.process.clone(),
            uptime: Some(self.uptime_now()).filter(|uptime| uptime.is_finite()),
        }
    }

    /// Restores the shell in a guest that resumes now.
    pub(crate) fn resume(saved: SavedShell) -> Self {
        let SavedShell { user, password, language, process, uptime } = saved;
        let uptime = (uptime.unwrap_or(f64::NAN), Instant::now());
        Self {
            id: new_id(),
            user,
            password: Secret(password),
            language,
            process,
            uptime,
            busy: false,
            unfinished: None,
        }
    }
}
