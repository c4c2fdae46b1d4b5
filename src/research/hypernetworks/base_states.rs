//! Computes what a training needs of the unedited base, and keeps the results for later steps.
//!
//! The base does not change during a training, so a fact or a text that is drawn again needs no second computation. The
//! kept results have a limit in bytes. Whether a result is kept does not affect any number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capture::{SiteRows, capture_all};
use super::objective::UnrelatedStates;
use super::sites::first_layer;
use super::train::{FactText, TrainingData, TrainingError};
use crate::model::Model;
use crate::model::run::low_rank::Site;

/// The maximum size of the kept results without logits, in bytes (2 GiB).
const MOST_BYTES: usize = 2 << 30;
/// The maximum size of the kept logits, in bytes (1 GiB).
const MOST_LOGIT_BYTES: usize = 1 << 30;
/// The maximum number of texts that are computed together.
const TOGETHER: usize = 32;

/// The facts of a training: those of the steps, or those of the validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Training,
    Validation,
}

/// A text that states a fact: the stated text itself, or one of its paraphrases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OuterText {
    Stated,
    Rephrased(usize),
}

pub(super) struct BaseStates<'t> {
    base: &'t Model,
    sites: Vec<Site>,
    data: &'t TrainingData,
    rows: Kept<(Part, usize), Vec<SiteRows>>,
    outer: Kept<(Part, usize, OuterText), Vec<f32>>,
    unrelated: Kept<(Part, usize), UnrelatedStates>,
    /// The number of bytes of results that may still be kept.
    room: usize,
    /// The number of bytes of logits that may still be kept.
    logit_room: usize,
}

type Kept<K, T> = BTreeMap<K, Arc<T>>;

impl<'t> BaseStates<'t> {
    pub(super) fn new(base: &'t Model, sites: &[Site], data: &'t TrainingData) -> Self {
        Self {
            base,
            sites: sites.to_vec(),
            data,
            rows: Kept::new(),
            outer: Kept::new(),
            unrelated: Kept::new(),
            room: MOST_BYTES,
            logit_room: MOST_LOGIT_BYTES,
        }
    }

    fn stated(&self, part: Part, fact: usize) -> &'t FactText {
        match part {
            Part::Training => &self.data.facts[fact].stated,
            Part::Validation => &self.data.validation[fact].stated,
        }
    }

    /// Returns the inputs and output gradients of each edited matrix for some facts.
    pub(super) fn rows(&mut self, part: Part, facts: &[usize]) -> Result<Vec<Arc<Vec<SiteRows>>>, TrainingError> {
        let keys: Vec<_> = facts.iter().map(|fact| (part, *fact)).collect();
        let (base, sites) = (self.base, self.sites.clone());
        let texts: Vec<&FactText> = facts.iter().map(|fact| self.stated(part, *fact)).collect();
        let compute = |missing: &[usize]| {
            let missing_texts: Vec<(&[u32], usize)> =
                missing.iter().map(|index| (&texts[*index].tokens[..], texts[*index].labels)).collect();
            capture_all(base, &sites, &missing_texts).into_iter().map(|(_, rows)| rows).collect()
        };
        let numbers = |rows: &Vec<SiteRows>| rows.iter().map(|one| one.x.len() + one.delta.len()).sum();
        let found = all(&mut self.rows, &keys, &mut self.room, compute, numbers);
        let finite = |rows: &Arc<Vec<SiteRows>>| {
            rows.iter().all(|one| one.x.iter().chain(&one.delta).all(|number| number.is_finite()))
        };
        match found.iter().position(|rows| !finite(rows)) {
            Some(index) => Err(TrainingError::NotFinite { fact: facts[index] }),
            None => Ok(found),
        }
    }

    /// Returns the hidden states before the first edited block for texts of facts, each without its last token.
    pub(super) fn outer(&mut self, part: Part, texts: &[(usize, OuterText)]) -> Vec<Arc<Vec<f32>>> {
        let keys: Vec<_> = texts.iter().map(|(fact, text)| (part, *fact, *text)).collect();
        let (base, first, data) = (self.base, first_layer(&self.sites), self.data);
        let tokens: Vec<&[u32]> = texts
            .iter()
            .map(|(fact, text)| {
                let text = match text {
                    OuterText::Stated => self.stated(part, *fact),
                    OuterText::Rephrased(index) => &data.facts[*fact].rephrased[*index],
                };
                &text.tokens[..text.tokens.len() - 1]
            })
            .collect();
        let compute = |missing: &[usize]| {
            let missing_tokens: Vec<&[u32]> = missing.iter().map(|index| tokens[*index]).collect();
            let states = base.hidden_states(&missing_tokens, first);
            let mut rest = &states[..];
            let one = |row: &&[u32]| {
                let (own, later) = rest.split_at(row.len() * base.spec().hidden_size);
                rest = later;
                own.to_vec()
            };
            missing_tokens.iter().map(one).collect()
        };
        all(&mut self.outer, &keys, &mut self.room, compute, Vec::len)
    }

    /// Returns the states of some unrelated texts.
    pub(super) fn unrelated(&mut self, part: Part, texts: &[usize]) -> Vec<Arc<UnrelatedStates>> {
        let keys: Vec<_> = texts.iter().map(|text| (part, *text)).collect();
        let (base, sites, data) = (self.base, self.sites.clone(), self.data);
        let of_part = match part {
            Part::Training => &data.unrelated,
            Part::Validation => &data.validation_unrelated,
        };
        let logit_room = &mut self.logit_room;
        let compute = |missing: &[usize]| {
            let tokens: Vec<&[u32]> = missing.iter().map(|index| &of_part[texts[*index]][..]).collect();
            let mut found = UnrelatedStates::of_texts(base, &sites, &tokens);
            for (states, text) in found.iter_mut().zip(&tokens) {
                if let Some(rest) = logit_room.checked_sub(4 * text.len() * base.spec().vocabulary) {
                    *logit_room = rest;
                    states.compute_logits(base);
                }
            }
            found
        };
        all(&mut self.unrelated, &keys, &mut self.room, compute, UnrelatedStates::numbers_without_logits)
    }
}

/// Returns the results for all keys, in their order. Calls `compute` with the indices of keys whose results are missing,
/// and keeps its results as long as there is room. `numbers` returns how many f32 numbers a result has.
fn all<K: Ord + Copy, T>(
    kept: &mut Kept<K, T>,
    keys: &[K],
    room: &mut usize,
    mut compute: impl FnMut(&[usize]) -> Vec<T>,
    numbers: impl Fn(&T) -> usize,
) -> Vec<Arc<T>> {
    let mut found: BTreeMap<K, Arc<T>> = BTreeMap::new();
    let mut missing: BTreeMap<K, usize> = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        match kept.get(key) {
            Some(result) => drop(found.insert(*key, Arc::clone(result))),
            None => drop(missing.insert(*key, index)),
        }
    }
    let missing: Vec<(K, usize)> = missing.into_iter().collect();
    for some in missing.chunks(TOGETHER) {
        let indices: Vec<usize> = some.iter().map(|(_, index)| *index).collect();
        for ((key, _), result) in some.iter().zip(compute(&indices)) {
            let result = Arc::new(result);
            if let Some(rest) = room.checked_sub(4 * numbers(&result)) {
                *room = rest;
                kept.insert(*key, Arc::clone(&result));
            }
            found.insert(*key, result);
        }
    }
    keys.iter().map(|key| Arc::clone(&found[key])).collect()
}
