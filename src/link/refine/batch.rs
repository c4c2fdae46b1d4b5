//! What a set is refined on: rows of tokens in batches, and what is wanted of them.

use rayon::prelude::*;

use crate::compile::Resolved;
use crate::model::Model;
use crate::model::upper::Upper;
use crate::numeric::rows::softmax;

/// Rows are passed so many positions at a time at most, and a row at least. What a batch is decides which sums are f32,
/// so it goes by the model and never by the machine.
const POSITIONS: usize = 1024;
/// Numbers that the reverse of a batch keeps at most, about: half a gibibyte a thread.
const TAPE: usize = 1 << 27;
/// Numbers of logits that a batch holds at most, if it has more rows than one.
const LOGITS: usize = 1 << 24;

/// What is asked of some rows.
pub(super) enum Wanted {
    /// Every label, and the weight of its log-likelihood.
    Labels(Vec<(u32, f64)>),
    /// The base's states behind the last layer, `[positions, d]`.
    Same(Vec<f32>),
}

/// Rows that are passed together.
pub(super) struct Batch {
    pub upper: Upper,
    pub wanted: Wanted,
}

/// A row of tokens, and what is wanted of its last positions.
pub(super) struct Line {
    pub ids: Vec<u32>,
    pub labels: Vec<u32>,
    pub weight: f64,
}

/// The rows of an edit: its bare prompt and a few contexts, each with all of its target but the last token.
pub(super) fn lines(edit: &Resolved, contexts: usize, edits: usize) -> Vec<Line> {
    let rows: Vec<_> = edit.rows.iter().take(1 + contexts).collect();
    let weight = 1.0 / (edits * rows.len() * edit.target.len()) as f64;
    let before = &edit.target[..edit.target.len() - 1];
    let line = |ids: &[u32]| Line { ids: [ids, before].concat(), labels: edit.target.clone(), weight };
    rows.into_iter().map(|row| line(&row.ids)).collect()
}

/// Lines in batches, in their order; a line without labels is wanted as the base has it, at every position.
pub(super) fn batches(base: &Model, layer: usize, lines: Vec<Line>) -> Vec<Batch> {
    let spec = base.spec();
    let vocabulary = spec.vocabulary;
    // Norms, queries, keys and values, and both sides of the activation.
    let kept = (spec.layers - layer) * (8 * spec.width + 2 * spec.inner);
    let most = (TAPE / kept).min(POSITIONS);
    let tail = |line: &Line| if line.labels.is_empty() { line.ids.len() } else { line.labels.len() };
    let mut out = Vec::new();
    let mut rest = lines.as_slice();
    while !rest.is_empty() {
        let (mut positions, mut logits) = (0, 0);
        let fits = |line: &&Line| {
            positions += line.ids.len();
            logits += tail(line) * vocabulary;
            positions <= most && logits <= LOGITS
        };
        let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let ids: Vec<&[u32]> = some.iter().map(|line| line.ids.as_slice()).collect();
        let tails: Vec<usize> = some.iter().map(tail).collect();
        let upper = Upper::new(base, layer, &ids, &tails);
        let wanted = match some[0].labels.is_empty() {
            true => Wanted::Same(upper.last(base)),
            false => {
                let labels = some.iter().flat_map(|line| line.labels.iter().map(|label| (*label, line.weight)));
                Wanted::Labels(labels.collect())
            }
        };
        out.push(Batch { upper, wanted });
        rest = later;
    }
    out
}

/// `Σ weight · −log softmax` at the labels; logits become their gradient.
pub(super) fn likelihood(logits: &mut [f32], labels: &[(u32, f64)]) -> f64 {
    let vocabulary = logits.len() / labels.len();
    let mut total = 0.0;
    for (row, (label, weight)) in logits.chunks_mut(vocabulary).zip(labels) {
        let logit = f64::from(row[*label as usize]);
        total += weight * (softmax(row) - logit);
        row[*label as usize] -= 1.0;
        row.iter_mut().for_each(|x| *x *= *weight as f32);
    }
    total
}

/// The sum over rows of KL(base ‖ edited); the edited logits become their gradient times `weight`.
pub(super) fn divergence(base: &mut [f32], logits: &mut [f32], vocabulary: usize, weight: f64) -> f64 {
    let row = |(base, logits): (&mut [f32], &mut [f32])| {
        let (before, now) = (base.to_vec(), logits.to_vec());
        let (log_before, log_now) = (softmax(base), softmax(logits));
        let mut total = 0.0;
        for ((p, before), now) in base.iter().zip(&before).zip(&now) {
            total += f64::from(*p) * ((f64::from(*before) - log_before) - (f64::from(*now) - log_now));
        }
        logits.iter_mut().zip(base.iter()).for_each(|(q, p)| *q = weight as f32 * (*q - p));
        total
    };
    let rows = base.par_chunks_mut(vocabulary).zip(logits.par_chunks_mut(vocabulary)).map(row);
    let mut total = 0.0;
    for one in rows.collect::<Vec<f64>>() {
        total += one;
    }
    total
}
