//! Defines the JSON output of all commands except `check`, `test` and `diff`, whose output is a
//! [`Report`](crate::report::Report).
//!
//! The output of each command is a type with a JSON Schema. A run that could not finish prints only the fields that all
//! commands print. JSON objects are written with sorted keys, so the order of the fields in a type has no effect.

pub(super) mod ask;
pub(super) mod bench;
pub(super) mod build;
pub(super) mod export;
pub(super) mod log;
pub(super) mod plan;
pub(super) mod project;
pub(super) mod schema;
pub(super) mod statistics;
pub(super) mod store;
pub(super) mod trace;
pub(super) mod verify;

use schemars::JsonSchema;
use serde::Serialize;

use crate::behaviour::AnswerScore;
use crate::report::{Finding, Outcome};

/// The JSON output of a command: the fields that all commands print, and the fields of this command.
#[derive(Serialize, JsonSchema)]
pub(super) struct Answered<'a, T> {
    /// The version of the JSON format, an integer from 1.
    pub version: u32,
    /// The outcome of the run, which determines the exit code.
    pub outcome: Outcome,
    /// Errors and warnings, each with its place in a file if it has one.
    pub findings: &'a [Finding],
    #[serde(flatten)]
    pub answer: T,
}

/// This type has no fields, because the JSON output of a run that could not finish has only the fields that all
/// commands print. Of these, `findings` states the reason.
#[derive(Serialize, JsonSchema)]
pub(super) struct Unfinished {}

/// A base model, identified by its name and the digest of its files.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Base")]
pub(super) struct NamedBase {
    /// The name on the Hub if the base is in the Hub's cache, otherwise the name of the base's folder.
    pub name: String,
    /// The digest of the model's files; `trace` and `bench` write only its first 12 hexadecimal digits.
    pub digest: String,
}

/// The most probable next token after a prompt, with its probability.
#[derive(Serialize, JsonSchema)]
pub(super) struct TopToken<'a> {
    /// The text of the token, including its leading space if it has one.
    pub token: &'a str,
    /// The probability of the token, from 0 to 1.
    pub probability: f64,
}

impl<'a> From<&'a (String, f64)> for TopToken<'a> {
    fn from((token, probability): &'a (String, f64)) -> Self {
        Self { token, probability: *probability }
    }
}

/// Whether a model gives an expected answer to a prompt, and the probability of that answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Score")]
pub(super) struct ScoredAnswer {
    /// Whether the model gives the answer: each token of the answer is the most probable next token.
    pub holds: bool,
    /// The probability of the answer: the product of the probabilities of its tokens.
    pub probability: f64,
}

impl From<AnswerScore> for ScoredAnswer {
    fn from(score: AnswerScore) -> Self {
        Self { holds: score.holds, probability: score.probability }
    }
}

/// An edit or a fact that a command could not process, with the reason.
#[derive(Serialize, JsonSchema)]
pub(super) struct LeftOutEntry<'a> {
    /// The id of the edit or fact, as its file declares it.
    pub id: &'a str,
    /// The reason why the edit or fact was left out, as a sentence.
    pub why: String,
}
