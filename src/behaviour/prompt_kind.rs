//! Defines the kinds of prompts that a project contains, for example paraphrases and probes.

use schemars::JsonSchema;
use serde::Serialize;

/// The part of the project that a prompt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Asked")]
pub enum PromptKind {
    /// The prompt of an edit, with the subject filled in.
    Edit,
    /// The prompt of an edit, with an alias in place of the subject.
    Alias,
    /// A prompt under `expect.paraphrase`: the same question in other words.
    Paraphrase,
    /// A prompt of `expect.unchanged`: a neighbour, whose answer should stay the same.
    Unchanged,
    /// The prompt of a `[[edit.expect.consequence]]`, whose answer follows from the edit.
    Consequence,
    /// The prompt of a `[[probe]]` in `probes.toml`. Probes are independent of the edits.
    Probe,
}

impl PromptKind {
    /// Returns the name that reports use: `edit`, `alias`, `paraphrase`, `unchanged`, `consequence` or
    /// `probe`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Alias => "alias",
            Self::Paraphrase => "paraphrase",
            Self::Unchanged => "unchanged",
            Self::Consequence => "consequence",
            Self::Probe => "probe",
        }
    }
}
