//! Groups the token sequences of refinement into batches.

use crate::compile::Resolved;
use crate::model::Model;
use crate::model::run::weight_pass::WeightPass;

/// The maximum number of token positions in a batch; a single sequence may have more. The limit is the same on every
/// machine, because the division into batches affects how the gradients are rounded.
const POSITIONS: usize = 1024;
/// The approximate maximum number of f32 activations that a batch stores for the backward pass: half a gibibyte per
/// thread.
const TAPE: usize = 1 << 27;
/// The maximum number of logits in a batch; a single sequence may have more.
const LOGITS: usize = 1 << 24;

/// The target of the loss for the logits of a batch: expected next tokens, or the next-token distributions of the base
/// model.
pub(super) enum LossTarget {
    /// For every scored position, the expected next token and the weight of its negative log-likelihood.
    Labels(Vec<(u32, f64)>),
    /// The hidden states of the base model after its last layer, `[positions, hidden_size]`. The loss is the divergence
    /// from the next-token distributions that the base model computes from these states.
    BaseStates(Vec<f32>),
}

/// Token sequences that pass through the model together, and the target of the loss for their logits.
pub(super) struct Batch {
    pub pass: WeightPass,
    pub target: LossTarget,
}

/// A token sequence. `labels` are the expected next tokens at its last positions. If `labels` is empty, the loss
/// compares the next-token distributions at all positions with those of the base model.
pub(super) struct TokenRow {
    pub ids: Vec<u32>,
    pub labels: Vec<u32>,
    pub weight: f64,
}

/// Returns the token sequences of an edit: the prompt without a context template, and the prompt in `contexts` context
/// templates. Each prompt is followed by the target without its last token. `edits` is the number of edits in the set,
/// over which the loss is averaged.
pub(super) fn edit_rows(edit: &Resolved, contexts: usize, edits: usize) -> Vec<TokenRow> {
    let rows: Vec<_> = edit.rows.iter().take(1 + contexts).collect();
    let weight = 1.0 / (edits * rows.len() * edit.target.len()) as f64;
    let before = &edit.target[..edit.target.len() - 1];
    let token_row = |ids: &[u32]| TokenRow { ids: [ids, before].concat(), labels: edit.target.clone(), weight };
    rows.into_iter().map(|row| token_row(&row.ids)).collect()
}

/// Splits token sequences into batches, in order. Either all sequences must have labels, or none of them.
pub(super) fn batches(base: &Model, layer: usize, edit_rows: Vec<TokenRow>) -> Vec<Batch> {
    let spec = base.spec();
    let vocabulary = spec.vocabulary;
    // The number of stored activations per position: norms, attention inputs, and the inputs and outputs of the
    // activation function.
    let kept = (spec.layers - layer) * (8 * spec.hidden_size + 2 * spec.intermediate_size);
    let most = (TAPE / kept).min(POSITIONS);
    let tail = |row: &TokenRow| if row.labels.is_empty() { row.ids.len() } else { row.labels.len() };
    let mut out = Vec::new();
    let mut rest = edit_rows.as_slice();
    while !rest.is_empty() {
        let (mut positions, mut logits) = (0, 0);
        let fits = |row: &&TokenRow| {
            positions += row.ids.len();
            logits += tail(row) * vocabulary;
            positions <= most && logits <= LOGITS
        };
        let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let ids: Vec<&[u32]> = some.iter().map(|row| row.ids.as_slice()).collect();
        let tails: Vec<usize> = some.iter().map(tail).collect();
        let pass = WeightPass::new(base, layer, &ids, &tails);
        let target = if some[0].labels.is_empty() {
            LossTarget::BaseStates(pass.last_states(base))
        } else {
            let labels = some.iter().flat_map(|row| row.labels.iter().map(|label| (*label, row.weight)));
            LossTarget::Labels(labels.collect())
        };
        out.push(Batch { pass, target });
        rest = later;
    }
    out
}
