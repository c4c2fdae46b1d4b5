//! What a verb found, as one value, and the forms in which people and programs read it.
//!
//! A [`Report`] is plain data: every renderer reads it and adds nothing. Texts in it are as they were written, by
//! whoever wrote them; each renderer makes them safe for its own reader. A renderer is one function, `render`:
//!
//! - [`human`] is for people at a terminal, [`json`] the report itself, for programs;
//! - [`markdown`] is the comment on a pull request, [`html`] the page that is kept beside it;
//! - [`sarif`], [`junit`] and [`github`] are what build servers read.
//!
//! `verdict` is the sentence that stands first in all of them, `figures` how numbers are written.

use schemars::JsonSchema;
use serde::Serialize;

mod drawn;
mod figures;
mod findings;
pub mod github;
pub mod html;
mod html_answers;
mod html_text;
pub mod human;
pub mod json;
pub mod junit;
pub mod markdown;
mod markdown_page;
mod markdown_text;
#[cfg(test)]
pub(crate) mod samples;
pub mod sarif;
pub(crate) mod table;
mod verdict;
mod xml;

pub use drawn::Drawn;

/// The version of the JSON form: a field that is new keeps it, one that goes or changes its meaning raises it.
pub const VERSION: u32 = 1;

/// What a verb found.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(title = "corrigenda report")]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// The verb: check, test or diff.
    pub verb: String,
    /// ok, findings, error or stale: what the exit code says.
    pub outcome: String,
    /// The command that gives this report again.
    pub command: String,
    /// What is wrong, or worth a look.
    pub findings: Vec<Finding>,
    /// The files of facts that were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// How many edits were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<usize>,
    /// The base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What is compared: the earlier side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Side>,
    /// What is compared: the later side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Side>,
    /// Facts that differ, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// How the weights differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What is said behind every prompt; the greatest change first in a diff, by edit in a test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// Figures of the whole set, and their limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// What neutral text lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// How that was found with which both sides go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn: Option<Drawn>,
    /// How both sides go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continuations: Vec<Continuation>,
    /// Which edits of the set break an expectation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<Culprit>,
    /// Sentences that a reader should know beside the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The stable name of the kind of finding.
    pub code: String,
    /// error or warning.
    pub severity: String,
    /// One sentence.
    pub message: String,
    /// Where, if it is about a place in a file.
    pub place: Option<Place>,
    /// What is said there.
    pub label: String,
    /// Other places that matter, each with what is said there.
    pub related: Vec<Related>,
    /// What to do about it.
    pub help: Vec<String>,
}

/// Another place that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What is said there.
    pub label: String,
}

/// A place in a file: lines and columns from one, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The path below the project's folder.
    pub file: String,
    /// The line; none for a file as a whole.
    pub line: Option<usize>,
    /// The column.
    pub column: Option<usize>,
    /// The last line.
    pub end_line: Option<usize>,
    /// The column behind the last character.
    pub end_column: Option<usize>,
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Base {
    /// The name of its folder.
    pub name: String,
    /// The digest of its files.
    pub digest: String,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// As it was asked for: base, worktree, main, a digest, a path.
    pub name: String,
    /// base, worktree, revision, patch, project or checkpoint.
    pub kind: String,
    /// The commit of a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The patch of this side; none for the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Bytes of the patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Facts of this side.
    pub facts: usize,
}

/// A fact that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fact {
    /// + added, ~ changed, - removed.
    pub change: String,
    /// The id of the edit; a meaning's digest where no id is known.
    pub id: String,
    /// The fields that differ; of an added or removed fact, all that it has.
    pub fields: Vec<Field>,
    /// Where it is written, on the side that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A field of a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Field {
    /// Its name as it is written in the file: subject, target, expect.paraphrase.
    pub name: String,
    /// Its texts before; none where it was not written.
    pub before: Vec<String>,
    /// Its texts after.
    pub after: Vec<String>,
}

/// How the weights differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Weights {
    /// The tensors that differ between the two sides.
    pub tensors: Vec<Tensor>,
    /// The edits of both sides and what each does to the weights.
    pub edits: Vec<EditWeight>,
}

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Tensor {
    /// Its name in the base file.
    pub name: String,
    /// The digest of its bytes before.
    pub before: String,
    /// The digest of its bytes after.
    pub after: String,
    /// The Frobenius norm of the difference of the two, as they would ship.
    pub norm: f64,
    /// The same in parts of the norm of the base's tensor.
    pub relative: f64,
}

/// What an edit does to the weights.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EditWeight {
    /// The id of the edit.
    pub id: String,
    /// The norm of its part of the earlier patch.
    pub before: Option<f64>,
    /// The norm of its part of the later patch.
    pub after: Option<f64>,
}

/// Why a prompt is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// The prompt of an edit.
    Edit,
    /// The prompt of an edit with an alias of its subject.
    Alias,
    /// An `expect.paraphrase`.
    Paraphrase,
    /// An `expect.unchanged`: a neighbour.
    Unchanged,
    /// A `[[probe]]`.
    Probe,
}

impl Asked {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Alias => "alias",
            Self::Paraphrase => "paraphrase",
            Self::Unchanged => "unchanged",
            Self::Probe => "probe",
        }
    }
}

/// What both sides say behind a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    /// Why it is asked.
    pub asked: Asked,
    /// The id of the edit or of the probe.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The answer that is wanted, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the earlier side says.
    pub before: Says,
    /// What the later side says.
    pub after: Says,
    /// KL(before ‖ after) of the next token, in nats.
    pub divergence: f64,
    /// Whether the expectation is met by the later side; none where nothing is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What one side says behind a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Says {
    /// The likeliest next tokens, the likeliest first.
    pub top: Vec<Token>,
    /// P of the wanted answer: the product over its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Whether the wanted answer, or another that is accepted, holds: each of its tokens is the arg-max.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
}

/// A token and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Token {
    /// The token as people read it, its leading space included.
    pub text: String,
    /// Its probability.
    pub probability: f64,
}

/// Whether an expectation is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is met.
    Pass,
    /// It is not met.
    Fail,
    /// It is not met, and that was accepted.
    Accepted,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Accepted => "accepted",
        }
    }
}

/// A figure of the whole set, and its limit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Gate {
    /// efficacy, paraphrase, unchanged, damage, perplexity, relative-norm, neighbourhood-kl, edits.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// The limit, if one is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Whether more is better: the limit is the least that is allowed, else the most.
    pub more_is_better: bool,
    /// Whether the figure keeps to the limit.
    pub pass: bool,
}

/// What neutral text lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// Documents of neutral text.
    pub documents: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Mean KL(before ‖ after) over these tokens, in nats.
    pub divergence: f64,
    /// Perplexity before.
    pub perplexity_before: f64,
    /// Perplexity after.
    pub perplexity_after: f64,
}

/// How both sides go on after a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Continuation {
    /// The id of the edit or of the probe.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The earlier side's text.
    pub before: String,
    /// The later side's text.
    pub after: String,
    /// The two, word by word.
    pub words: Vec<Word>,
    /// What a reader should know who holds the text against the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Words that both sides say, or one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Word {
    /// = both, - only before, + only after.
    pub change: String,
    /// The words, with the white space between them.
    pub text: String,
}

/// An expectation that fails, and which edit of the set breaks it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Culprit {
    /// The edit that has the expectation.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// Whether the expectation is met where its edit is linked alone.
    pub alone: bool,
    /// Edits without any one of which it is met, each by itself.
    pub breaks: Vec<String>,
    /// The edit whose absence helps most, where none mends it alone, and the P of the wanted answer then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<(String, f64)>,
}
