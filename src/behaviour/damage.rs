//! Measures damage: the KL divergence and the change in perplexity between two models on neutral text.
//!
//! Neutral text is unrelated to the edits. Sums run in the order of the text, so that results do not depend on the
//! number of threads.

use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::NextTokenDistribution;
use super::cache::MeasurementCache;
use super::me_ppl;
pub use super::me_ppl::RecordsError;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::elementary::exp64;
use crate::progress::{NoProgress, Progress};
use crate::stats::corpus::{CorpusError, Documents, count};

/// The maximum number of documents that are read from a neutral text. The documents are evenly spaced in the text.
pub const NEUTRAL_DOCUMENTS: usize = 64;
/// The maximum number of tokens per neutral document; longer documents are truncated.
pub const NEUTRAL_TOKENS: usize = 128;

/// The token ids of each document of a neutral text, at most [`NEUTRAL_TOKENS`] per document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neutral(Vec<Vec<u32>>);

/// The damage on neutral text: how far the predictions of two models differ on this text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// The number of documents of neutral text on which the damage was measured.
    pub documents: usize,
    /// The number of predicted tokens in these documents: all tokens except the first of each document.
    pub tokens: usize,
    /// The mean of KL(before ‖ after) of the next token over the predicted tokens, in nats.
    pub divergence: f64,
    /// The perplexity of the earlier model, usually the base model.
    pub perplexity_before: f64,
    /// The perplexity of the later model, usually the patched model.
    pub perplexity_after: f64,
}

impl Damage {
    /// Returns the relative growth of perplexity, `after / before - 1`; negative if the later model has the lower
    /// perplexity.
    pub fn growth(&self) -> f64 {
        self.perplexity_after / self.perplexity_before - 1.0
    }
}

/// The reason why a neutral text cannot be used: the file cannot be read, is not valid UTF-8, has a line of more than
/// 64 MiB or no document, or the tokenizer rejects a document.
#[derive(Debug, thiserror::Error)]
pub enum NeutralError {
    #[error(transparent)]
    Text(#[from] CorpusError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("document {document} of the neutral text: {source}")]
    Model { document: u64, source: ModelError },
}

impl Neutral {
    /// Reads up to [`NEUTRAL_DOCUMENTS`] evenly spaced documents of the text at `path`. `limit` is the context length
    /// in tokens.
    ///
    /// # Errors
    /// If the text cannot be read, or the tokenizer rejects a document.
    pub fn read(path: &Path, tokens: &Tokens, limit: usize) -> Result<Self, NeutralError> {
        let (all, _) = count(path, None)?;
        let chosen = (NEUTRAL_DOCUMENTS as u64).min(all);
        let mut out = Vec::new();
        let mut index = 0;
        for (number, document) in (0..all).zip(Documents::open(path)?) {
            let document = document?;
            if number != index * all / chosen {
                continue;
            }
            index += 1;
            let cut = tokens.encode(&document);
            let mut ids = cut.map_err(|source| NeutralError::Model { document: number + 1, source })?.ids;
            ids.truncate(limit.min(NEUTRAL_TOKENS));
            out.push(ids);
        }
        Ok(Self(out))
    }

    /// Reads up to [`NEUTRAL_DOCUMENTS`] evenly spaced texts of a file in the form of ME-PPL. `limit` is the context
    /// length in tokens.
    ///
    /// # Errors
    /// If the file cannot be read, a record has no text, or the tokenizer rejects a text.
    pub fn read_records(path: &Path, tokens: &Tokens, limit: usize) -> Result<Self, NeutralError> {
        let texts = me_ppl::texts(path)?;
        let chosen = NEUTRAL_DOCUMENTS.min(texts.len());
        let encode = |index: usize| {
            let number = index * texts.len() / chosen;
            let encoded = tokens.encode(&texts[number]);
            let mut ids = encoded.map_err(|source| NeutralError::Model { document: number as u64 + 1, source })?.ids;
            ids.truncate(limit.min(NEUTRAL_TOKENS));
            Ok(ids)
        };
        (0..chosen).map(encode).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the token ids of each document, in the order of the text.
    pub fn documents(&self) -> &[Vec<u32>] {
        &self.0
    }
}

/// Measures the damage on neutral text between two models, without a cache.
///
/// # Errors
/// If the logits of a model are not finite.
pub fn damage(before: &Model, after: &Model, neutral: &Neutral) -> Result<Damage, ModelError> {
    damage_cached(&MeasurementCache::disabled(), before, after, neutral, &NoProgress)
}

/// The token ids of a text that a model reads before every document.
#[derive(Clone, Copy, Debug)]
pub struct PrefixTokens<'a> {
    pub ids: &'a [u32],
    /// The number of special tokens at the start of `ids` that the tokenizer puts before every text. The documents
    /// start with them too, and they are not repeated after the prefix.
    pub special: usize,
}

/// Measures the damage on neutral text between `before`, which reads each document alone, and `after`, which reads
/// `prefix` and then the document. A document is cut to the positions that the prefix leaves in the context.
///
/// # Errors
/// If the logits of a model are not finite.
pub fn damage_after_prefix(
    before: &Model,
    after: &Model,
    prefix: PrefixTokens<'_>,
    neutral: &Neutral,
) -> Result<Damage, ModelError> {
    measure(&MeasurementCache::disabled(), (before, after), prefix, neutral, &NoProgress)
}

/// Measures the damage on neutral text between two models. The final hidden states of the earlier model and the result
/// are cached.
///
/// # Errors
/// If the logits of a model are not finite.
pub fn damage_cached(
    cache: &MeasurementCache<'_>,
    before: &Model,
    after: &Model,
    neutral: &Neutral,
    progress: &dyn Progress,
) -> Result<Damage, ModelError> {
    let damage = measure(cache, (before, after), PrefixTokens { ids: &[], special: 0 }, neutral, progress)?;
    cache.store_damage(neutral, &damage);
    Ok(damage)
}

fn measure(
    cache: &MeasurementCache<'_>,
    (before, after): (&Model, &Model),
    prefix: PrefixTokens<'_>,
    neutral: &Neutral,
    progress: &dyn Progress,
) -> Result<Damage, ModelError> {
    let (mut tokens, mut divergence, mut losses, mut documents) = (0, 0.0, [0.0, 0.0], 0);
    let free = (before.spec().max_positions + prefix.special).saturating_sub(prefix.ids.len());
    for (done, document) in neutral.0.iter().enumerate().filter(|(_, document)| document.len() > 1) {
        let length = free.min(document.len() - 1);
        let (row, labels) = (&document[..length], &document[1..=length]);
        let was = before.lm_head(&cache.states(before, &[vec![(row, row.len())]]));
        let read = [prefix.ids, &row[prefix.special.min(length)..]].concat();
        let is = after.logits(&[&read], &[row.len()]).swap_remove(0);
        for [between, first, second] in compare_positions(&was, &is, labels, before.spec().vocabulary) {
            divergence += between;
            losses[0] -= first;
            losses[1] -= second;
            tokens += 1;
        }
        documents += 1;
        progress.set_position(done as u64 + 1);
    }
    let mean = |sum: f64| if tokens == 0 { 0.0 } else { sum / tokens as f64 };
    if [divergence, losses[0], losses[1]].iter().any(|sum| !sum.is_finite()) {
        return Err(ModelError::Overflow);
    }
    Ok(Damage {
        documents,
        tokens,
        divergence: mean(divergence),
        perplexity_before: exp64(mean(losses[0])),
        perplexity_after: exp64(mean(losses[1])),
    })
}

/// Returns three numbers per position: KL(before ‖ after) of the next token, and the log-probability of the label with
/// each model. A label is the token that follows in the text. `was` and `is` are the logits of the earlier and the
/// later model, `[positions, vocabulary]`.
fn compare_positions(was: &[f32], is: &[f32], labels: &[u32], vocabulary: usize) -> Vec<[f64; 3]> {
    let rows = was.par_chunks(vocabulary).zip(is.par_chunks(vocabulary)).zip(labels);
    rows.map(|((was_row, is_row), &label)| {
        let [before, after] = [was_row, is_row].map(NextTokenDistribution::of);
        [before.divergence(&after), before.log[label as usize], after.log[label as usize]]
    })
    .collect()
}
