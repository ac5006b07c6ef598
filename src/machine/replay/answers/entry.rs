//! A line of a file of answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored_error::StoredError;
use crate::machine::language::Language;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry<A = Value> {
    #[serde(flatten)]
    pub(super) heading: Heading,
    #[serde(flatten)]
    pub(super) answer: Came<A>,
}

/// All of a line except the answer, which may be long.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Heading {
    /// The question.
    pub(super) asked: String,
    /// The transcript's length in bytes when the question was asked.
    pub(super) from: u64,
    /// The transcript's length in bytes when it was answered.
    pub(super) to: u64,
    /// Number of questions answered since the start when this one was asked.
    #[serde(default)]
    pub(super) after: usize,
    /// The answer was read on the console.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) passed: bool,
    /// The number of the secret that it was asked with, if it was asked with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<usize>,
    /// Set if the machine was off then: whether it had ended cleanly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) off: Option<bool>,
}

/// The result of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Came<A = Value> {
    /// It was answered.
    Answer(A),
    /// An error.
    Error(StoredError),
    /// The caller stopped early. This is the answer up to then.
    Enough(A),
    /// The answer exceeded the limit by this many bytes.
    TooLong(usize),
}

/// The question of a machine's start. Its answer is a [`Start`].
pub(super) const START: &str = "start";
/// The same, if the scenario began later: at a moment that was reached on the same machine.
pub(super) const MOMENT: &str = "moment";

/// The state of a machine when a scenario begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct Start {
    /// The host's speed, as a factor.
    pub(in crate::machine) speed: f64,
    /// Number of secrets that were known at that time.
    #[serde(default)]
    pub(in crate::machine) secrets: usize,
    /// Number of console lines that were already checked for trouble when its template was made.
    #[serde(default)]
    pub(in crate::machine) judged: usize,
    pub(in crate::machine) console: Standing,
}

/// What its console waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::machine) enum Standing {
    /// A name.
    AtLogin,
    /// Commands of a logged-in user.
    Shell {
        /// The user's name.
        user: String,
        /// Their shell's language.
        language: Language,
        /// The number of their password.
        #[serde(default)]
        secret: Option<usize>,
    },
}
