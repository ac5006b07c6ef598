//! A line of a file of answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::told::Told;
use crate::machine::shell::Language;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line<A = Value> {
    pub(super) asked: String,
    /// As long was the transcript when it was asked, in bytes.
    pub(super) from: u64,
    /// And as long when it was answered.
    pub(super) to: u64,
    /// The answer was read on the console.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) passed: bool,
    #[serde(flatten)]
    pub(super) answer: Came<A>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Came<A = Value> {
    /// It was answered.
    Answer(A),
    /// By an error.
    Error(Told),
    /// Whoever asked wanted to know no more; this was the answer so far.
    Enough(A),
    /// By more than is kept of one answer: so many bytes.
    TooLong(usize),
}

/// The question that a machine's start is the answer to; its answer is a [`Start`].
pub(super) const START: &str = "start";

/// A machine that is up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct Start {
    /// Of the host, as a factor.
    pub(in crate::machine) speed: f64,
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
    },
}
