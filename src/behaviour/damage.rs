//! What a change costs on text that has nothing to do with it.

use std::path::Path;

use super::Next;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::elementary::exp64;
use crate::report::Damage;
use crate::stats::corpus::{CorpusError, Documents, count};

/// Documents that are read of a neutral text, spread evenly over it.
pub const NEUTRAL_DOCUMENTS: usize = 64;
/// A neutral document is cut behind this many tokens.
pub const NEUTRAL_TOKENS: usize = 128;

/// Documents of neutral text as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neutral(Vec<Vec<u32>>);

impl Damage {
    /// By which share perplexity grew; below zero where it fell.
    pub fn growth(&self) -> f64 {
        self.perplexity_after / self.perplexity_before - 1.0
    }
}

/// Neutral text that cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NeutralError {
    #[error(transparent)]
    Text(#[from] CorpusError),
    #[error("document {document} of the neutral text: {source}")]
    Model { document: u64, source: ModelError },
}

impl Neutral {
    /// Reads [`NEUTRAL_DOCUMENTS`] documents of the text at `path`, spread evenly over it.
    ///
    /// # Errors
    /// The text cannot be read, or the tokenizer refuses a document.
    pub fn read(path: &Path, tokens: &Tokens, limit: usize) -> Result<Self, NeutralError> {
        let (all, _) = count(path, None)?;
        let wanted = (NEUTRAL_DOCUMENTS as u64).min(all);
        let mut out = Vec::new();
        let mut index = 0;
        for (number, document) in (0..all).zip(Documents::open(path)?) {
            let document = document?;
            if number != index * all / wanted {
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
}

/// Compares two models on neutral text, one document at a time: sums in the order of the text.
///
/// # Errors
/// The weights of one of them overflow.
pub fn damage(before: &Model, after: &Model, neutral: &Neutral) -> Result<Damage, ModelError> {
    let vocabulary = before.spec().vocabulary;
    let (mut tokens, mut divergence, mut losses) = (0, 0.0, [0.0, 0.0]);
    let documents = neutral.0.iter().filter(|document| document.len() > 1);
    for document in documents.clone() {
        let row = &document[..document.len() - 1];
        let logits = [before, after].map(|model| model.logits(&[row], &[row.len()]).swap_remove(0));
        let [was, is] = &logits;
        for ((was, is), label) in was.chunks(vocabulary).zip(is.chunks(vocabulary)).zip(&document[1..]) {
            let (was, is) = (Next::new(was.to_vec()), Next::new(is.to_vec()));
            divergence += was.divergence(&is);
            losses[0] -= was.log[*label as usize];
            losses[1] -= is.log[*label as usize];
            tokens += 1;
        }
    }
    let mean = |sum: f64| if tokens == 0 { 0.0 } else { sum / tokens as f64 };
    if [divergence, losses[0], losses[1]].iter().any(|sum| !sum.is_finite()) {
        return Err(ModelError::Overflow);
    }
    Ok(Damage {
        documents: documents.count(),
        tokens,
        divergence: mean(divergence),
        perplexity_before: exp64(mean(losses[0])),
        perplexity_after: exp64(mean(losses[1])),
    })
}
