//! Measures a patch: the probabilities of the answers before and after the patch is applied, and the norms of the
//! weight changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan_linker::{LinkedPatch, PlanLinker};
use super::{Base, Plan, Setup};
use crate::behaviour::{AnswerScore, Question, scores};
use crate::digest::Digest;
use crate::model::{Model, ModelError};
use crate::patch::{Patch, PatchError, delta_norms, materialise, norm, surviving_share};

/// The measurements of a build. They depend only on [`BuildInputs`](super::BuildInputs). The digest of these inputs is
/// the store address of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BuildRecord {
    /// The SHA-256 of the patch file.
    pub patch: Digest,
    /// The size of the patch file in bytes.
    pub size: u64,
    /// The ridge that was added to the diagonal of `C`, the second moment of the MLP keys, before its factorisation. It
    /// is a share of the mean diagonal entry; 0 if `C` has full rank.
    pub statistics_ridge: f64,
    /// The measurements of every edit, sorted by the digest of its subject, prompt, target and `chat`.
    pub edits: Vec<EditRecord>,
    pub tensors: Vec<TensorRecord>,
    /// The condition number of the linear system of the edited layer.
    pub condition: f64,
    /// Pairs of edits whose MLP keys are nearly parallel, the most similar pair first; at most 100.
    #[serde(rename = "alike")]
    pub similar: Vec<SimilarKeys>,
    /// The number of corpus sentences on which the refinement keeps the predictions close to those of the base model,
    /// and the number of sentences that the settings request. `None` without refinement.
    #[serde(rename = "watched")]
    pub neutral_sentences: Option<(usize, usize)>,
}

/// Two edits whose MLP keys are nearly parallel. Each edit is identified by the digest of its subject, prompt, target
/// and `chat`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SimilarKeys {
    pub edit: Digest,
    pub other: Digest,
    /// The cosine of the two MLP keys in the metric of `C⁻¹`, where `C` is the second moment of the MLP keys.
    pub cosine: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EditRecord {
    pub meaning: Digest,
    pub target: AnswerRecord,
    /// The probabilities of the old answer; `None` if the edit has no `was`.
    pub was: Option<AnswerRecord>,
    /// The norm of the part of the patch that belongs to the edit, over all changed tensors. In each tensor, this part
    /// is a rank-one matrix `u vᵀ`.
    pub norm: f64,
    /// The share of `norm` that remains after rounding to the dtype of the checkpoint, if the edit is applied alone.
    pub surviving: f64,
}

impl BuildRecord {
    /// Returns the record and the patch of a project without edits; the patch is empty.
    pub fn of_empty_set() -> (Self, Patch) {
        let patch = Patch::default();
        let bytes = patch.to_bytes();
        let (id, size) = (Digest::of(&bytes), bytes.len() as u64);
        let record = Self {
            patch: id,
            size,
            statistics_ridge: 0.0,
            edits: Vec::new(),
            tensors: Vec::new(),
            condition: 1.0,
            similar: Vec::new(),
            neutral_sentences: None,
        };
        (record, patch)
    }
}

impl EditRecord {
    /// Adds the change of another tensor of the edit to `norm` and `surviving`. The new norm is the root
    /// of the sum of the two squared norms. The new share is the mean of the two shares, weighted by the squared norms.
    fn add(&mut self, norm: f64, surviving: f64) {
        if self.norm == 0.0 {
            (self.norm, self.surviving) = (norm, surviving);
            return;
        }
        let squares = [self.norm * self.norm, norm * norm];
        let whole = squares[0] + squares[1];
        self.surviving = (squares[0] * self.surviving + squares[1] * surviving) / whole;
        self.norm = whole.sqrt();
    }
}

/// The scores of one answer with the base model and with the patched model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AnswerRecord {
    /// The probability of the answer with the base model.
    pub before: f64,
    /// The probability of the answer with the patched model.
    pub after: f64,
    /// Whether the base model predicts every token of the answer as the arg-max.
    pub held: bool,
    /// Whether the patched model predicts every token of the answer as the arg-max.
    pub holds: bool,
}

impl AnswerRecord {
    fn new(before: AnswerScore, after: AnswerScore) -> Self {
        Self { before: before.probability, after: after.probability, held: before.holds, holds: after.holds }
    }
}

/// One tensor that the patch changes: its digests, and the size of the change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TensorRecord {
    pub name: String,
    /// The digest of the tensor's bytes in the base model.
    pub before: Digest,
    /// The digest of the tensor's bytes after the patch is applied and the result is rounded.
    pub after: Digest,
    /// The Frobenius norm of the change, `‖Δ‖`.
    pub norm: f64,
    /// The norm of the change relative to that of the weight, `‖Δ‖ / ‖W‖`.
    pub relative: f64,
    /// The share of the norm of the change, `‖Δ‖`, that remains after rounding to the dtype of the checkpoint.
    pub surviving: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum Unmeasured {
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The maximum number of pairs in [`BuildRecord::similar`]. A set with many prompts about one subject has thousands of
/// such pairs.
const MAX_SIMILAR: usize = 100;

/// Measures a patch: the probabilities of the answers with the base model and with the patched, rounded weights, and
/// the norms of the weight changes.
///
/// # Errors
/// If the patch was built for another base model, or an answer cannot be scored.
pub fn measure(
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    linker: &PlanLinker<'_>,
    linked: &LinkedPatch,
    statistics_ridge: f64,
) -> Result<BuildRecord, Unmeasured> {
    let patch = &linked.patch;
    let patched = base.patched(patch)?;
    let mut edits = answers(base, plan, &patched)?;
    let mut tensors = Vec::new();
    for layer in setup.layers(base) {
        let [weight, changed] = [&base.model, &patched].map(|model| model.checkpoint().edited(layer));
        let Some((name, target)) = patch.targets().get_key_value(&weight.name) else { continue };
        let (before, after) = (weight.to_f32(), changed.to_f32());
        let norms = delta_norms(target);
        for (index, record) in edits.iter_mut().enumerate() {
            let alone = target.alone(index);
            record.add(norms.edits[index], surviving_share(&before, &materialise(name, &alone, &before)?, &alone));
        }
        tensors.push(TensorRecord {
            name: name.clone(),
            before: target.base,
            after: changed.digest(),
            norm: norms.total,
            relative: norms.total / norm(&before),
            surviving: surviving_share(&before, &after, target),
        });
    }
    let bytes = patch.to_bytes();
    let (digest, size, condition) = (Digest::of(&bytes), bytes.len() as u64, linked.condition);
    let mut similar = Vec::new();
    for pair in linker.similar() {
        let [edit, other] = [pair.edit, pair.partner].map(|index| linker.edits()[index]);
        // A subject and its aliases have similar MLP keys by design, so pairs of these keys are not recorded.
        if edit.edit.id != other.edit.id {
            similar.push(SimilarKeys { edit: edit.meaning, other: other.meaning, cosine: pair.cosine });
        }
    }
    similar.truncate(MAX_SIMILAR);
    let neutral_sentences = setup.refinement.as_ref().map(|refinement| (linker.sentences(), refinement.sentences));
    Ok(BuildRecord { patch: digest, size, statistics_ridge, edits, tensors, condition, similar, neutral_sentences })
}

/// Scores the target and the old answer of every edit. The results are sorted by `meaning`, the digest of subject,
/// prompt, target and `chat`.
fn answers(base: &Base, plan: &Plan<'_>, patched: &Model) -> Result<Vec<EditRecord>, ModelError> {
    let limit = base.model.spec().max_positions;
    let mut questions = Vec::new();
    let edits = plan.by_meaning();
    for planned in &edits {
        for answer in [Some(&planned.edit.target), planned.edit.was.as_ref()].into_iter().flatten() {
            questions.push(Question::new(&base.tokens, planned.model_input(&planned.filled()), answer, limit)?);
        }
    }
    let pairs = scores(&base.model, &questions).into_iter().zip(scores(patched, &questions));
    let mut answers = pairs.map(|(before, after)| AnswerRecord::new(before, after));
    let mut next = || answers.next().expect("every question has a score");
    let mut records = Vec::with_capacity(edits.len());
    for planned in &edits {
        let target = next();
        let was = planned.edit.was.as_ref().map(|_| next());
        records.push(EditRecord { meaning: planned.meaning, target, was, norm: 0.0, surviving: 0.0 });
    }
    Ok(records)
}
