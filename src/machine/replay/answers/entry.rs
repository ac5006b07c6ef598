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

/// All of a line but the answer, which may be long.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Heading {
    /// The question.
    pub(super) asked: String,
    /// As long was the transcript when it was asked, in bytes.
    pub(super) from: u64,
    /// And as long when it was answered.
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
    /// The machine was off then: whether it had ended in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) off: Option<bool>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Came<A = Value> {
    /// It was answered.
    Answer(A),
    /// By an error.
    Error(StoredError),
    /// The caller stopped early. This is the answer up to then.
    Enough(A),
    /// The answer exceeded the limit by this many bytes.
    TooLong(usize),
}

/// The question that a machine's start is the answer to; its answer is a [`Start`].
pub(super) const START: &str = "start";
/// And this one, where the scenario began later: at a moment that was reached on the same machine.
pub(super) const MOMENT: &str = "moment";

/// A machine that a scenario begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct Start {
    /// Of the host, as a factor.
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
    /// Commands of a user who is logged in.
    Shell {
        /// Who.
        user: String,
        /// What their shell speaks.
        language: Language,
        /// The number of their password.
        #[serde(default)]
        secret: Option<usize>,
    },
}
