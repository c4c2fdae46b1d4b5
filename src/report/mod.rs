//! Represents the result of a command (a verb) as one value, and formats it for people and programs.
//!
//! A [`Report`] is plain data: a renderer formats it and adds nothing. Its texts are untrusted and not escaped; each
//! renderer escapes them for its own format. Each renderer is one function, usually `render`:
//!
//! - [`human`] is for a terminal, and [`json`] is the report itself, for programs;
//! - [`markdown`] is a comment on a pull request, and [`html`] is a page that contains the whole report;
//! - [`sarif`], [`junit`] and [`github`] are for build servers.
//!
//! `summary` writes the summary sentence, and `format` formats numbers.

mod findings;
mod format;
pub mod github;
pub mod html;
mod html_answers;
mod html_parts;
mod html_text;
pub mod human;
pub mod json;
pub mod junit;
pub mod markdown;
mod markdown_page;
mod markdown_text;
mod outcome;
mod sampling;
pub mod sarif;
mod summary;
pub(crate) mod table;
mod xml;

use schemars::JsonSchema;
use serde::Serialize;

use crate::behaviour::PromptKind;
use crate::behaviour::damage::Damage;
use crate::behaviour::word_diff::WordRun;
use crate::diagnostics::{Code, Severity};
#[cfg(test)]
pub(crate) mod samples;

pub use outcome::Outcome;
pub use sampling::ContinuationSettings;

use crate::diagnostics::Place;
use crate::project::edits::diff::FactChange;

/// The version of the JSON format. It stays the same if a field is added, and increases if a field is removed or
/// changes its meaning.
pub const VERSION: u32 = 1;

/// The result of `check`, `test` or `diff`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(title = "corrigenda report")]
pub struct Report {
    /// The version of this JSON format, an integer from 1.
    pub version: u32,
    /// The verb that made the report.
    pub verb: ReportVerb,
    /// The outcome, which corresponds to the exit code.
    pub outcome: Outcome,
    /// The command line that produces this report again.
    pub command: String,
    /// Errors and warnings, each with its place in a file if it has one.
    pub findings: Vec<Finding>,
    /// The files of edits that the command read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The number of edits that the command read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<usize>,
    /// The base model; absent if the command did not read one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<ReportBase>,
    /// The earlier side of the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ReportSide>,
    /// The later side of the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<ReportSide>,
    /// The facts that differ between the two sides, ordered by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactChange>,
    /// The differences of the weights between the two sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightDiff>,
    /// The answers to all prompts. A diff orders them by decreasing divergence, a test by edit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// Measurements of the whole edit set, each with its limit if the project sets one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// The damage on neutral text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// The settings with which the continuations were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn: Option<ContinuationSettings>,
    /// The texts that both sides generate after prompts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continuations: Vec<Continuation>,
    /// The expectations that fail, each with the edits that cause the failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<Culprit>,
    /// Notes that help to interpret the numbers, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The verbs whose answer is a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportVerb {
    /// `check`: reads the files of the project.
    #[default]
    Check,
    /// `test`: judges the answers of the patched model.
    Test,
    /// `diff`: compares two sides.
    Diff,
}

impl ReportVerb {
    /// Returns the verb as it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Test => "test",
            Self::Diff => "diff",
        }
    }
}

/// An error or a warning about the project, or a failed expectation or limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The stable name of this kind of finding, such as duplicate-id.
    #[schemars(with = "String")]
    pub code: Code,
    /// The severity, after the policy is applied.
    pub severity: Severity,
    /// The problem, in one sentence.
    pub message: String,
    /// The place in a file, if the finding has one.
    pub place: Option<Place>,
    /// The message about `place`; empty if there is none.
    pub label: String,
    /// Other places that are involved in the problem, each with its message.
    pub related: Vec<Related>,
    /// How to fix the problem, one sentence each.
    pub help: Vec<String>,
}

/// Another place that is involved in a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Related {
    /// The place in a file.
    pub place: Place,
    /// The message for this place.
    pub label: String,
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Base")]
pub struct ReportBase {
    /// The name on the Hub if the base is in the Hub's cache, otherwise the name of the base's folder.
    pub name: String,
    /// The digest of the model's files.
    pub digest: String,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Side")]
pub struct ReportSide {
    /// The name as given on the command line: base, worktree, main, a digest, a path.
    pub name: String,
    /// What the name refers to.
    pub kind: SideKind,
    /// The commit, if the side is a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The id of the patch; absent if the side has no patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The size of the patch in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The number of facts on this side.
    pub facts: usize,
}

/// What the name of a side refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SideKind {
    /// The base model without a patch.
    Base,
    /// The project in the working directory.
    Worktree,
    /// A git revision of the project.
    Revision,
    /// A patch in the store.
    Patch,
    /// A project in another folder.
    Project,
    /// The model in a folder.
    Checkpoint,
}

/// The differences of the weights between the two sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Weights")]
pub struct WeightDiff {
    /// The tensors that differ between the two sides.
    pub tensors: Vec<TensorDiff>,
    /// The edits of both sides, with the norm of the weight change of each edit.
    pub edits: Vec<EditWeight>,
}

/// A tensor that differs between the two sides.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Tensor")]
pub struct TensorDiff {
    /// The name of the tensor in the base.
    pub name: String,
    /// The digest of the tensor's bytes on the earlier side.
    pub before: String,
    /// The digest of the tensor's bytes on the later side.
    pub after: String,
    /// The Frobenius norm of the difference between the two tensors, after rounding to the stored type.
    pub norm: f64,
    /// The Frobenius norm of the difference, divided by that of the base's tensor.
    pub relative: f64,
}

/// An edit under one name of its subject: the subject's own name or an alias. In JSON this is one string:
/// `ID` or `ID as "ALIAS"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditName {
    /// The id of the edit, or the digest of its meaning if the id is unknown.
    pub id: String,
    /// The alias of the subject; `None` for the subject's own name.
    pub alias: Option<String>,
}

impl std::fmt::Display for EditName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.alias {
            Some(alias) => write!(f, "{} as {alias:?}", self.id),
            None => f.write_str(&self.id),
        }
    }
}

impl Serialize for EditName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The Frobenius norms of the weight change that one edit contributes to the patch of each side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EditWeight {
    /// The id of the edit, with an alias of its subject if it has one: `ID as "ALIAS"`.
    #[serde(rename = "id")]
    #[schemars(with = "String")]
    pub edit: EditName,
    /// The norm of the edit's part of the earlier patch; null if that patch does not contain the edit.
    pub before: Option<f64>,
    /// The norm of the edit's part of the later patch; null if that patch does not contain the edit.
    pub after: Option<f64>,
}

/// The answers of both sides to a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    /// The origin of the prompt.
    pub asked: PromptKind,
    /// The id of the edit or of the probe.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// The wanted answer; absent if the prompt has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The answer of the earlier side.
    pub before: SideAnswer,
    /// The answer of the later side.
    pub after: SideAnswer,
    /// The KL divergence KL(before ‖ after) between the next-token distributions of the two sides, in nats.
    pub divergence: f64,
    /// The verdict on the later side's answer; absent if the answer is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The requirement of an expectation that fails although the answer is right. It is shown because the numbers alone
    /// do not explain the failure. The field is not in JSON, because the label of the finding contains the requirement.
    #[serde(skip)]
    pub requirement: Option<String>,
    /// The place where the prompt is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What one side predicts after a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Says")]
pub struct SideAnswer {
    /// The likeliest next tokens, in order of decreasing probability.
    pub top: Vec<Token>,
    /// The probability of the wanted answer: the product over its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Whether the model gives the wanted answer, or another accepted one: each of its tokens is the arg-max.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
}

/// A token and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Token {
    /// The text of the token, with its leading space.
    pub text: String,
    /// The probability of the token after the prompt, from 0 to 1.
    pub probability: f64,
}

/// The verdict on an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The expectation is met.
    Pass,
    /// The expectation is not met.
    Fail,
    /// The expectation is not met, but the failure is accepted in corrigenda.accepted.
    Accepted,
}

impl Verdict {
    /// Returns the name of the variant in JSON, which is also shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Accepted => "accepted",
        }
    }
}

/// A measured quantity of the whole set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateName {
    /// The share of edits that hold.
    Efficacy,
    /// The share of paraphrases that hold.
    Paraphrase,
    /// The share of `unchanged` prompts and probes whose answer stays the same.
    Unchanged,
    /// The KL divergence on `unchanged` prompts and probes, in nats.
    NeighbourhoodKl,
    /// The mean KL divergence on neutral text, in nats.
    Damage,
    /// The growth of the perplexity on neutral text.
    Perplexity,
}

impl GateName {
    /// Returns the name in JSON, which is also shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Efficacy => "efficacy",
            Self::Paraphrase => "paraphrase",
            Self::Unchanged => "unchanged",
            Self::NeighbourhoodKl => "neighbourhood-kl",
            Self::Damage => "damage",
            Self::Perplexity => "perplexity",
        }
    }

    /// Returns whether the quantity is a share, which is between 0 and 1.
    pub fn is_share(self) -> bool {
        matches!(self, Self::Efficacy | Self::Paraphrase | Self::Unchanged)
    }
}

/// A measurement of the whole set, and its limit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Gate {
    /// The measured quantity.
    pub name: GateName,
    /// The measured value; a share is between 0 and 1.
    pub value: f64,
    /// The project's limit for this quantity: a minimum if `more_is_better`, otherwise a maximum; absent if the project
    /// sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Whether higher values are better.
    pub more_is_better: bool,
    /// Whether the gate passes. A value beyond the limit still passes, with a warning, if the policy only warns about
    /// this limit.
    pub pass: bool,
}

/// The continuations of a prompt on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Continuation {
    /// The id of the edit or of the probe.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// The text that the earlier side generates.
    pub before: String,
    /// The text that the later side generates.
    pub after: String,
    /// The two texts, compared word by word.
    pub words: Vec<WordRun>,
    /// Present if the later side's continuation disagrees with its answer to the same prompt; states the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An expectation that fails, with the edits that cause the failure.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Culprit {
    /// The id of the edit or of the probe that has the expectation.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// Whether the expectation is met if its edit is the only edit of the patch.
    pub alone: bool,
    /// The edits that break the expectation: it is met if any one of them is left out of the patch.
    pub breaks: Vec<String>,
    /// Present if no single edit breaks the expectation: the edit whose omission helps most, and the probability of the
    /// wanted answer without that edit. For a prompt without a wanted answer, the number is the KL divergence in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<(String, f64)>,
}
