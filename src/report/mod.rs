//! Represents the result of `check`, `test` or `diff` as one value, and formats it for people and programs.
//!
//! A [`Report`] contains only data, and each of these modules writes it in one format. The texts in a report are
//! untrusted, so each module escapes them for its format:
//!
//! - [`human`]: text for a terminal;
//! - [`json`]: the fields of the report, for programs;
//! - [`markdown`]: a comment on a pull request;
//! - [`html`]: a page that contains the whole report;
//! - [`sarif`], [`junit`], [`github`]: findings or test results, for build servers.

mod consequences;
mod findings;
mod format;
pub mod github;
pub mod html;
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
mod tasks;
mod xml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::behaviour::PromptKind;
use crate::behaviour::damage::Damage;
use crate::behaviour::protocol::{BOTH, FORCED, Protocol, SAID};
use crate::behaviour::said::SaidText;
use crate::behaviour::task::TaskResult;
use crate::behaviour::word_diff::WordRun;
use crate::diagnostics::{Code, Severity};
#[cfg(test)]
pub(crate) mod samples;

pub use consequences::{ConsequenceCount, Consequences, NotAsked};
pub use outcome::Outcome;
pub use sampling::ContinuationSettings;

use crate::diagnostics::Place;
use crate::project::SaysRule;
use crate::project::edits::consequence::ConsequenceKind;
use crate::project::edits::diff::FactChange;

/// The version of the JSON format of reports. It increases if a field is removed or changes its meaning, and stays the
/// same if a field is added.
pub const VERSION: u32 = 1;

/// The result of `check`, `test` or `diff`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(title = "corrigenda report")]
pub struct Report {
    /// The version of this JSON format. It increases if a field is removed or changes its meaning.
    pub version: u32,
    /// The command that made the report: `check`, `test` or `diff`.
    pub verb: ReportVerb,
    /// The outcome, which determines the exit code.
    pub outcome: Outcome,
    /// The command line that produces this report again.
    pub command: String,
    /// Errors and warnings, each with its place in a file if it has one.
    pub findings: Vec<Finding>,
    /// The paths of the files of edits that the command read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The number of edits that the command read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<usize>,
    /// The base model; absent if the command did not read one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<ReportBase>,
    /// The earlier of the two compared models; for `test`, the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ReportSide>,
    /// The later of the two compared models; for `test`, the patched model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<ReportSide>,
    /// The facts that differ between the two compared models, ordered by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactChange>,
    /// The tensors and edits whose weights differ between the two compared models; only present for `diff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightDiff>,
    /// The answers to all prompts, ordered by edit for `test` and by decreasing divergence for `diff`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// The measurements over the whole edit set, each with its limit if the project sets one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// The results of the consequences of the edits; absent if the edits have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequences: Option<Consequences>,
    /// The protocol of each measurement in `gates`: how its number is made. Numbers of different protocols are not
    /// comparable.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub protocols: BTreeMap<&'static str, Protocol>,
    /// The damage: how far the predictions of the two models differ on text that is unrelated to the edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// The accuracies of the two models on the project's tasks, in the order of the project file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskResult>,
    /// The settings with which the two models generated their continuations of prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn: Option<ContinuationSettings>,
    /// The continuations of prompts: for each prompt, the texts that the two models generate after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continuations: Vec<Continuation>,
    /// The failed expectations, each with the edits that cause the failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<Culprit>,
    /// Notes that help to interpret the numbers, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A command whose result is a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportVerb {
    /// `check`: checks the files of the project, without a model.
    #[default]
    Check,
    /// `test`: judges the answers of the patched model.
    Test,
    /// `diff`: compares two models, such as the models of two git revisions.
    Diff,
}

impl ReportVerb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Test => "test",
            Self::Diff => "diff",
        }
    }
}

/// An error or a warning about the project, including failed expectations and broken limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The stable name of the kind of problem, such as duplicate-id.
    #[schemars(with = "String")]
    pub code: Code,
    /// The severity, which the project's policy can change.
    pub severity: Severity,
    /// The problem, in one sentence.
    pub message: String,
    /// The file and the position of the problem; null if the finding is not about a file.
    pub place: Option<Place>,
    /// The text to show at `place`; may be empty.
    pub label: String,
    /// Further places that are involved in the problem, such as the first of two edits with the same id.
    pub related: Vec<Related>,
    /// How to fix the problem, one sentence each.
    pub help: Vec<String>,
}

/// A further place that is involved in a finding, such as the first of two edits with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Related {
    /// The file and the position in it.
    pub place: Place,
    /// The explanation that is shown at this place; may be empty.
    pub label: String,
}

/// The base model that the project edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Base")]
pub struct ReportBase {
    /// The name on the Hugging Face Hub with the commit if the model is in the local Hugging Face cache, otherwise the
    /// name of the model's folder.
    pub name: String,
    /// The digest of the model's files.
    pub digest: String,
}

/// One of the two models that a report compares: the base, the base with a patch, or a model in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Side")]
pub struct ReportSide {
    /// The name of the model as given on the command line, such as `base`, `worktree`, a git revision or a path.
    pub name: String,
    /// Whether `name` refers to the base, a project, a git revision, a patch or a folder with a model.
    pub kind: SideKind,
    /// The git commit, if `name` is a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The id of the patch; absent if the model has no patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The size of the patch in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The number of facts that are edited in this model.
    pub facts: usize,
}

/// What the name of a compared model refers to.
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
    /// A model in a folder, such as an exported checkpoint.
    Checkpoint,
}

/// The comparison of the weights of two models, per tensor and per edit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Weights")]
pub struct WeightDiff {
    /// The tensors that differ between the two models.
    pub tensors: Vec<TensorDiff>,
    /// The edits in the patches of the two models, with the norms of their weight changes.
    pub edits: Vec<EditWeight>,
}

/// A tensor that differs between two models.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Tensor")]
pub struct TensorDiff {
    /// The name of the tensor in the base.
    pub name: String,
    /// The digest of the tensor's bytes in the earlier model.
    pub before: String,
    /// The digest of the tensor's bytes in the later model.
    pub after: String,
    /// The Frobenius norm of the difference between the stored tensors of the two models.
    pub norm: f64,
    /// The Frobenius norm of the difference, divided by the Frobenius norm of the tensor in the base.
    pub relative: f64,
}

/// The name of one edit in a patch: an id and, for an alias of the subject, the alias. A patch contains one edit for
/// the subject and one for each alias. In JSON, the name is one string: `ID` or `ID as "ALIAS"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditName {
    /// The id of the edit or, if the id is unknown, the digest by which the patch identifies the edit.
    pub id: String,
    /// The alias of the subject; `None` for the subject itself.
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

/// The weight changes that one edit contributes to the patches of the two models, as Frobenius norms.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EditWeight {
    /// The id of the edit; for an alias of its subject, `ID as "ALIAS"`.
    #[serde(rename = "id")]
    #[schemars(with = "String")]
    pub edit: EditName,
    /// The norm of the edit's weight change in the earlier model's patch; null if that patch does not contain the edit.
    pub before: Option<f64>,
    /// The norm of the edit's weight change in the later model's patch; null if that patch does not contain the edit.
    pub after: Option<f64>,
}

/// The answers of the two compared models to a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    /// The kind of the prompt, such as the prompt of an edit, a paraphrase or a probe.
    pub asked: PromptKind,
    /// The kind of the consequence; absent if the prompt is not a consequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<ConsequenceKind>,
    /// The id of the edit or the probe that has the prompt.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// The wanted answer; absent if the project wants no particular answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The answer of the earlier model.
    pub before: SideAnswer,
    /// The answer of the later model.
    pub after: SideAnswer,
    /// The KL divergence KL(before ‖ after) between the next-token distributions of the two models, in nats.
    pub divergence: f64,
    /// The texts that both models generate after the prompt; absent if no text was generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<SaidPair>,
    /// The verdict on the later model's answer; absent if the answer is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The requirement that a right answer does not meet, such as a minimum probability; `None` if the answer meets all
    /// requirements or is wrong. The field is not in the JSON output, because the finding about this answer contains
    /// the requirement in its label.
    #[serde(skip)]
    pub requirement: Option<String>,
    /// The place in the project's files where the prompt is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The texts that the two compared models generate after a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SaidPair {
    /// The text of the earlier model, judged.
    pub before: SaidText,
    /// The text of the later model, judged.
    pub after: SaidText,
    /// Whether both models generate the same text.
    pub same: bool,
    /// The rule, if the later model's text decides about the verdict; absent if the probabilities decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<SaysRule>,
}

impl Answer {
    /// Returns whether the earlier model gives the answer: by its text if the text decides, otherwise by its
    /// probabilities.
    pub(crate) fn before_holds(&self) -> Option<bool> {
        self.holds(&self.before, |said| &said.before)
    }

    /// Returns whether the later model gives the answer, as [`Answer::before_holds`] does.
    pub(crate) fn after_holds(&self) -> Option<bool> {
        self.holds(&self.after, |said| &said.after)
    }

    fn holds(&self, side: &SideAnswer, of: fn(&SaidPair) -> &SaidText) -> Option<bool> {
        let by_text = self.said.as_ref().and_then(|said| said.rule.map(|rule| of(said).meets(rule)));
        side.holds.map(|holds| by_text.unwrap_or(holds))
    }

    /// Returns the kind of the prompt in words. For a consequence, its own kind follows, as in `consequence (hop)`.
    pub(crate) fn asked_words(&self) -> String {
        let asked = self.asked.as_str();
        self.consequence.map_or_else(|| asked.to_owned(), |kind| format!("{asked} ({})", kind.as_str()))
    }
}

/// What one model predicts after a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Says")]
pub struct SideAnswer {
    /// The likeliest next tokens, in order of decreasing probability.
    pub top: Vec<Token>,
    /// The probability of the wanted answer: the product of the probabilities of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Whether the model gives the wanted answer or another accepted answer. A model gives an answer if each token of
    /// the answer is the likeliest next token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
}

/// A predicted next token and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Token {
    /// The text of the token, with its leading space if it has one.
    pub text: String,
    /// The probability of the token after the prompt, from 0 to 1.
    pub probability: f64,
}

/// The verdict on an expectation about the answer to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The expectation is met.
    Pass,
    /// The expectation is not met.
    Fail,
    /// The expectation is not met, but the file corrigenda.accepted lists this failure as accepted.
    Accepted,
    /// A consequence does not hold. Only the share of all consequences can fail the test.
    Unmet,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Accepted => "accepted",
            Self::Unmet => "unmet",
        }
    }
}

/// A measured quantity for which the project can set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateName {
    /// The share of edits for which the model gives the new answer.
    Efficacy,
    /// The share of paraphrases for which the model gives the new answer.
    Paraphrase,
    /// The share of consequences that hold, among the consequences that are asked.
    Consequence,
    /// The share of prompts with an unchanged answer, among the prompts whose answer should not change: `unchanged`
    /// prompts and probes.
    Unchanged,
    /// The largest KL divergence on a prompt whose answer should not change (an `unchanged` prompt or a probe), in
    /// nats.
    NeighbourhoodKl,
    /// The mean KL divergence on text that is unrelated to the edits, in nats.
    Damage,
    /// The relative growth of the perplexity on text that is unrelated to the edits: the perplexity of the patched
    /// model, divided by that of the base, minus 1.
    Perplexity,
    /// The share of edits and aliases after whose prompt the first sentence of the generated text is exactly an accepted
    /// answer.
    SaidExactly,
    /// The share of edits and aliases after whose prompt the generated text contains an accepted answer.
    Said,
    /// The share of paraphrases after which the generated text contains an accepted answer.
    ParaphraseSaid,
    /// The share of prompts whose answer should not change after which both models generate the same text.
    SameText,
    /// The share of prompts with a target after which the generated text repeats itself.
    Repeats,
    /// The largest fall of the accuracy of a task, from 0 to 1; 0 if no accuracy falls.
    TaskLoss,
}

/// What decides whether the answers of a report are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// The probabilities of every answer.
    TeacherForcing,
    /// The generated text after every prompt.
    Generation,
    /// The generated text after the prompts of some edits, and the probabilities of the others.
    Both,
}

impl GateName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Efficacy => "efficacy",
            Self::Paraphrase => "paraphrase",
            Self::Consequence => "consequence",
            Self::Unchanged => "unchanged",
            Self::NeighbourhoodKl => "neighbourhood-kl",
            Self::Damage => "damage",
            Self::Perplexity => "perplexity",
            Self::SaidExactly => "said-exactly",
            Self::Said => "said",
            Self::ParaphraseSaid => "paraphrase-said",
            Self::SameText => "same-text",
            Self::Repeats => "repeats",
            Self::TaskLoss => "task-loss",
        }
    }

    /// Returns how the number is made. `by` says what decides about the verdicts of the report.
    pub fn protocol(self, by: DecidedBy) -> Protocol {
        let (protocol, scorer, group) = match (self, by) {
            (Self::Efficacy | Self::Paraphrase | Self::Consequence, DecidedBy::TeacherForcing) => {
                (FORCED, "every token of the answer", "holds")
            }
            (Self::Efficacy | Self::Paraphrase | Self::Consequence, DecidedBy::Generation) => {
                (SAID, "the rule `says`, and no old answer", "said")
            }
            (Self::Efficacy | Self::Paraphrase | Self::Consequence, DecidedBy::Both) => {
                (BOTH, "the rule `says` where an edit states it, otherwise every token", "holds or said")
            }
            (Self::Unchanged, DecidedBy::Generation) => {
                (SAID, "same first sentence and likeliest token, KL below the threshold", "unchanged, said")
            }
            (Self::Unchanged, _) => (FORCED, "same likeliest token, KL below the threshold", "unchanged"),
            (Self::NeighbourhoodKl, _) => (FORCED, "largest KL divergence of the next token, nats", "divergence"),
            (Self::Damage, _) => (FORCED, "mean KL divergence on neutral text, nats", "damage"),
            (Self::Perplexity, _) => (FORCED, "growth of the perplexity of neutral text", "perplexity"),
            (Self::SaidExactly, _) => (SAID, "first sentence equals the answer", "said exactly"),
            (Self::Said | Self::ParaphraseSaid, _) => (SAID, "contains the answer, and no old answer", "said"),
            (Self::SameText, _) => (SAID, "the texts of both models are equal", "same text"),
            (Self::Repeats, _) => (SAID, "the answer twice, or a phrase three times at the end", "repeats"),
            (Self::TaskLoss, _) => ("see `tasks`", "largest fall of the accuracy", "tasks"),
        };
        Protocol { protocol, scorer, group }
    }

    /// Returns whether the quantity is a share, which is between 0 and 1.
    pub fn is_share(self) -> bool {
        !matches!(self, Self::NeighbourhoodKl | Self::Damage | Self::Perplexity)
    }
}

/// A measurement over the whole edit set, with its limit if the project sets one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Gate {
    /// The measured quantity, such as `efficacy`.
    pub name: GateName,
    /// The measured value. If the quantity is a share, such as `efficacy`, the value is between 0 and 1.
    pub value: f64,
    /// The project's limit for this quantity; absent if the project sets none. The limit is a minimum if
    /// `more_is_better`, otherwise a maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Whether higher values are better, as for every share.
    pub more_is_better: bool,
    /// Whether the value is accepted. A value beyond the limit is accepted with a warning if the policy only warns
    /// about this limit.
    pub pass: bool,
}

/// The texts with which two models continue a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Continuation {
    /// The id of the edit or the probe that has the prompt.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// The text that the earlier model generates.
    pub before: String,
    /// The text that the later model generates.
    pub after: String,
    /// The words of both texts, as runs of consecutive words. Each run is in both texts, only in `before`, or only in
    /// `after`.
    pub words: Vec<WordRun>,
    /// A sentence about a contradiction between the later model's continuation and its answer to the same prompt;
    /// absent if there is none. For example, the answer is right, but the continuation also contains the old answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A failed expectation, with the edits that cause the failure.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Culprit {
    /// The id of the edit or the probe that has the expectation.
    pub id: String,
    /// The prompt, with its subject filled in.
    pub prompt: String,
    /// Whether the expectation is met with a patch that contains only the edit with this id; always true for a probe.
    pub alone: bool,
    /// The ids of the edits that break the expectation. If any one of them is left out of the patch, the expectation is
    /// met.
    pub breaks: Vec<String>,
    /// The id of an edit and a number; absent if `breaks` names edits. Leaving out this edit brings the expectation
    /// closer to being met than leaving out any other edit. The number is measured without this edit: the probability
    /// of the wanted answer or, for a prompt without a wanted answer, the KL divergence from the base in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<(String, f64)>,
}
