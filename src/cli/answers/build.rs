use schemars::JsonSchema;
use serde::Serialize;

use super::NamedBase;
use crate::digest::Digest;
use crate::pipeline::record::{AnswerRecord, TensorRecord};
use crate::project::EditChange;
use crate::project::edits::diff::ChangeKind;

/// The JSON that `build --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuildAnswer<'a> {
    /// The base model that the patch applies to.
    pub base: NamedBase,
    /// The index of the edited layer, from 0.
    pub layer: usize,
    /// The second moments of the MLP keys that the build used, with one element per edited layer.
    pub statistics: Vec<UsedStatistics>,
    /// The edits of the project, with one element for each name of a subject: its own name and each alias.
    pub edits: Vec<BuiltEdit<'a>>,
    /// The ids of the edits that are in the previous `corrigenda.lock` but not in the new one.
    pub removed: Vec<&'a str>,
    /// The tensors that the patch changes, with their digests before and after the change.
    pub tensors: &'a [TensorRecord],
    /// The patch that `corrigenda.lock` names after the build.
    pub patch: BuiltPatch,
    /// The number of elements of `edits` whose target the patched model gives.
    pub holding: usize,
    /// The number of edits that this build compiled. The store already had the compiled form of all other edits.
    pub compiled: usize,
    /// Whether the build wrote `corrigenda.lock`.
    pub lock: LockState,
}

/// The second moment of the MLP keys of one layer, which `corrigenda.lock` names by its digest.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct UsedStatistics {
    /// The index of the layer that the MLP keys belong to, from 0.
    pub layer: u64,
    /// The digest of the stored second moment.
    pub digest: Digest,
    /// The digest of the corpus over which the second moment was computed.
    pub corpus: Digest,
    /// The number of MLP keys in the second moment, one per token that was read from the corpus.
    pub keys: u64,
    /// The ridge: the number that is added to the diagonal of the second moment so that it can be factorised. It is
    /// given as a share of the mean diagonal element, and is 0 if none was needed.
    pub ridge: f64,
}

/// An edit, one name of its subject (the subject's own name or an alias), and the measurements for that name.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuiltEdit<'a> {
    /// The id that the edit file declares.
    pub id: &'a str,
    /// The alias with which the edit was measured; null if it was measured with the subject's own name.
    pub alias: Option<&'a str>,
    /// The path of the edit file that declares the edit.
    pub file: &'a str,
    /// The line in `file` that contains the edit's id, from 1.
    pub line: usize,
    /// How the edit differs from the edit with the same id in the previous `corrigenda.lock`.
    pub change: LockChange,
    /// The digest of the subject's name, the prompt, the target and `chat`. It identifies the edit in the patch.
    pub meaning: Digest,
    /// The answer that the edit declares as its target, with its probability on the base and on the patched model.
    pub target: ScoredText<'a>,
    /// The old answer, with its probability on the base and on the patched model; null if the edit has no `was`.
    pub was: Option<ScoredText<'a>>,
    /// The Frobenius norm of the weight change that this edit contributes to the patch.
    pub norm: f64,
    /// The share of the norm that remains if the edit is applied alone and the weights are rounded to the type in which
    /// the base stores them.
    pub surviving: f64,
}

/// The difference between an edit and the edit with the same id in the previous `corrigenda.lock`.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum LockChange {
    /// The previous `corrigenda.lock` has the edit with the same contents.
    #[serde(rename = "")]
    Unchanged,
    /// The previous `corrigenda.lock` does not have the edit.
    #[serde(rename = "+")]
    Added,
    /// The previous `corrigenda.lock` has the edit with different contents.
    #[serde(rename = "~")]
    Changed,
    /// The previous `corrigenda.lock` has the edit, but the project does not.
    #[serde(rename = "-")]
    Removed,
}

impl LockChange {
    /// Returns the change of the edit `id`; `Unchanged` if `changes` does not list it.
    pub(in crate::cli) fn of(changes: &[EditChange], id: &str) -> Self {
        match changes.iter().find(|change| change.id == id).map(|change| change.kind) {
            None => Self::Unchanged,
            Some(ChangeKind::Added) => Self::Added,
            Some(ChangeKind::Changed) => Self::Changed,
            Some(ChangeKind::Removed) => Self::Removed,
        }
    }
}

/// An answer, with its probability on the base and on the patched model.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ScoredText<'a> {
    /// The answer, as the edit declares it.
    pub text: &'a str,
    /// The probability of the answer on the base: the product of the probabilities of its tokens.
    pub before: f64,
    /// The probability of the answer on the patched model: the product of the probabilities of its tokens.
    pub after: f64,
    /// Whether the base gives the answer: each token of the answer is the most probable next token.
    pub held: bool,
    /// Whether the patched model gives the answer: each token of the answer is the most probable next token.
    pub holds: bool,
}

impl<'a> ScoredText<'a> {
    pub(in crate::cli) fn new(text: &'a str, answer: &AnswerRecord) -> Self {
        let AnswerRecord { before, after, held, holds } = *answer;
        Self { text, before, after, held, holds }
    }
}

/// The patch that `corrigenda.lock` names after a build.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuiltPatch {
    /// The id of the patch: the digest of its bytes.
    pub id: Digest,
    /// The size of the patch in bytes.
    pub size: u64,
}

/// Whether a build wrote `corrigenda.lock`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum LockState {
    /// The build wrote a new or a changed `corrigenda.lock`.
    Written,
    /// The existing `corrigenda.lock` already had the same content.
    Unchanged,
}
