//! Caches model measurements in the store, so that a prompt is not run again through the same model.
//!
//! The address of a measurement is a digest of all its inputs: the arithmetic, the base model, the patches and the
//! token ids. Verdicts are not cached, so a change of a threshold needs no new measurement. A damaged file counts as
//! missing.

use super::ask::{Inquiry, PredictionPair};
use super::cache_bytes;
use super::cache_bytes::CacheHeader;
use super::continuation::ContinuationOptions;
use super::damage::Neutral;
use super::task::encode::EncodedItem;
use super::task::score::{Answers, TEXT_TOKENS};
use crate::behaviour::damage::Damage;
use crate::digest::{Digest, FieldHasher};
use crate::model::Model;
use crate::numeric::NUMERICS;
use crate::store::{EntryKind, Store};

/// The cache of measurements of two models. Both are the same base model, each with a patch or without one.
#[derive(Clone, Copy)]
pub struct MeasurementCache<'a> {
    /// The store that contains the cache; `None` disables the cache.
    store: Option<&'a Store>,
    header: CacheHeader,
}

impl<'a> MeasurementCache<'a> {
    /// Returns a cache that neither stores nor returns measurements, for example for a checkpoint, whose weights have
    /// no digest.
    pub fn disabled() -> Self {
        Self { store: None, header: CacheHeader { base: Digest::of(b""), before: None, after: None } }
    }

    /// Returns the cache for two models. Each model is given by the id of its patch on the base model; `None` is the
    /// base model without a patch.
    pub fn new(store: &'a Store, base: Digest, before: Option<Digest>, after: Option<Digest>) -> Self {
        Self { store: Some(store), header: CacheHeader { base, before, after } }
    }

    /// Returns a cache of measurements of the earlier model alone.
    #[must_use]
    pub fn of_before(&self) -> Self {
        Self { header: CacheHeader { after: None, ..self.header }, ..*self }
    }

    /// Returns a cache of measurements of the later model alone. Its entries are those of another pair whose earlier
    /// model this is.
    #[must_use]
    pub fn of_after(&self) -> Self {
        Self { header: CacheHeader { before: self.header.after, after: None, ..self.header }, ..*self }
    }

    /// Returns the caches of the single models: that of the earlier and that of the later model.
    pub fn of_each(&self) -> [Self; 2] {
        let of = |patch| Self { header: CacheHeader { before: patch, after: None, ..self.header }, ..*self };
        [of(self.header.before), of(self.header.after)]
    }

    /// Returns the cached predictions of both models for a group of prompts; `None` if the group is not cached.
    pub fn answers(&self, inquiries: &[Inquiry]) -> Option<Vec<PredictionPair>> {
        let key = self.answers_address(inquiries);
        let parse = |bytes: &[u8]| cache_bytes::decode_answers(bytes, &self.header, inquiries);
        self.store?.recall_if_any(EntryKind::Measured, &key, parse)
    }

    pub(super) fn store_answers(&self, inquiries: &[Inquiry], pairs: &[PredictionPair]) {
        // Predictions with a number that is not finite are not cached, so the next run computes them again.
        if let Some(store) = self.store.filter(|_| pairs.iter().all(PredictionPair::is_finite)) {
            let bytes = cache_bytes::encode_answers(&self.header, pairs);
            store.put_optional(EntryKind::Measured, &self.answers_address(inquiries), &bytes);
        }
    }

    /// Returns the cached greedy continuation of `row`, the token ids of a prompt, by the earlier model. Returns `None`
    /// if it is not cached, or if `generation` has a seed, because sampled text is not cached.
    pub fn text(&self, row: &[u32], generation: ContinuationOptions) -> Option<String> {
        let parse = |bytes: &[u8]| cache_bytes::decode_text(bytes, &self.header);
        self.store.filter(|_| generation.seed.is_none())?.recall_if_any(
            EntryKind::Measured,
            &self.text_address(row, generation),
            parse,
        )
    }

    /// Caches the text that the earlier model generated after the tokens `row`. A sampled text is not cached.
    pub fn store_text(&self, row: &[u32], generation: ContinuationOptions, text: &str) {
        if let Some(store) = self.store.filter(|_| generation.seed.is_none()) {
            let bytes = cache_bytes::encode_text(&self.header, text);
            store.put_optional(EntryKind::Measured, &self.text_address(row, generation), &bytes);
        }
    }

    fn text_address(&self, row: &[u32], generation: ContinuationOptions) -> Digest {
        let mut hasher = start_address("measured-text/1", &self.header);
        hasher.field("row", &bytes_of(row)).number("tokens", generation.tokens as u64).finish()
    }

    /// Returns the cached answers of the earlier model to some questions of a task; `None` if they are not cached.
    pub(super) fn task_answers(&self, questions: &[EncodedItem]) -> Option<Answers> {
        let parse = |bytes: &[u8]| cache_bytes::decode_task(bytes, &self.header, questions);
        self.store?.recall_if_any(EntryKind::Measured, &self.task_address(questions), parse)
    }

    pub(super) fn store_task_answers(&self, questions: &[EncodedItem], answers: &Answers) {
        if let Some(store) = self.store {
            let bytes = cache_bytes::encode_task(&self.header, answers);
            store.put_optional(EntryKind::Measured, &self.task_address(questions), &bytes);
        }
    }

    /// Returns the address of the answers to some questions of a task. The right answers are not part of it.
    fn task_address(&self, questions: &[EncodedItem]) -> Digest {
        let mut hasher = start_address("measured-task/1", &self.header);
        hasher.number("questions", questions.len() as u64);
        for question in questions {
            if let Some(row) = question.row() {
                hasher.field("row", &bytes_of(row)).number("tokens", TEXT_TOKENS as u64);
            }
            let answers = question.answers().unwrap_or_default();
            hasher.number("choices", answers.len() as u64);
            for choice in answers {
                hasher.field("row", &bytes_of(&choice.row)).field("answer", &bytes_of(&choice.answer));
            }
        }
        hasher.finish()
    }

    /// Returns the cached damage (KL divergence and perplexities) on neutral text; `None` if the damage is not cached.
    pub fn damage(&self, neutral: &Neutral) -> Option<Damage> {
        let parse = |bytes: &[u8]| cache_bytes::decode_damage(bytes, &self.header);
        self.store?.recall_if_any(EntryKind::Measured, &self.damage_address(neutral), parse)
    }

    pub(super) fn store_damage(&self, neutral: &Neutral, damage: &Damage) {
        if let Some(store) = self.store {
            store.put_optional(
                EntryKind::Measured,
                &self.damage_address(neutral),
                &cache_bytes::encode_damage(&self.header, damage),
            );
        }
    }

    /// Returns the final hidden states of the earlier model, `before`, for all groups in order. A group is a list of
    /// pairs: a token row, and the number of positions at the end of this row for which states are returned. The
    /// missing states of all groups are computed in one batch, and then cached.
    pub(super) fn states(&self, before: &Model, groups: &[Vec<(&[u32], usize)>]) -> Vec<f32> {
        let header = CacheHeader { after: None, ..self.header };
        let size = |group: &Vec<(&[u32], usize)>| group.iter().map(|(_, tail)| tail * before.spec().hidden_size).sum();
        let recall = |group| {
            let parse = |bytes: &[u8]| cache_bytes::decode_states(bytes, &header, size(group));
            self.store?.recall_if_any(EntryKind::Measured, &states_address(&header, group), parse)
        };
        let recalled: Vec<Option<Vec<f32>>> = groups.iter().map(recall).collect();
        let missing = || groups.iter().zip(&recalled).filter(|(_, found)| found.is_none()).map(|(group, _)| group);
        let (tokens, tails): (Vec<&[u32]>, Vec<usize>) = missing().flatten().copied().unzip();
        let computed = before.last_states(&tokens, &tails);
        let mut rest = computed.as_slice();
        let mut out = Vec::new();
        for (group, found) in groups.iter().zip(&recalled) {
            if let Some(found) = found {
                out.extend_from_slice(found);
                continue;
            }
            let (own, later) = rest.split_at(size(group));
            self.store_states(&header, group, own);
            out.extend_from_slice(own);
            rest = later;
        }
        out
    }

    fn store_states(&self, header: &CacheHeader, group: &[(&[u32], usize)], states: &[f32]) {
        if let Some(store) = self.store.filter(|_| states.iter().all(|number| number.is_finite())) {
            store.put_optional(
                EntryKind::Measured,
                &states_address(header, group),
                &cache_bytes::encode_states(header, states),
            );
        }
    }

    fn answers_address(&self, inquiries: &[Inquiry]) -> Digest {
        let mut hasher = start_address("measured-answers/1", &self.header);
        hasher.number("likeliest", super::ask::TOP as u64).number("inquiries", inquiries.len() as u64);
        for inquiry in inquiries {
            inquiry.address(&mut hasher);
        }
        hasher.finish()
    }

    fn damage_address(&self, neutral: &Neutral) -> Digest {
        let mut hasher = start_address("measured-damage/1", &self.header);
        hasher.number("documents", neutral.documents().len() as u64);
        for document in neutral.documents() {
            hasher.field("tokens", &bytes_of(document));
        }
        hasher.finish()
    }
}

fn states_address(header: &CacheHeader, rows: &[(&[u32], usize)]) -> Digest {
    let mut hasher = start_address("measured-states/1", header);
    hasher.number("rows", rows.len() as u64);
    for (tokens, tail) in rows {
        hasher.field("tokens", &bytes_of(tokens)).number("tail", *tail as u64);
    }
    hasher.finish()
}

fn start_address(domain: &str, header: &CacheHeader) -> FieldHasher {
    let mut hasher = FieldHasher::new(domain);
    hasher.text("numerics", NUMERICS).digest("base", &header.base);
    for (name, patch) in [("before", &header.before), ("after", &header.after)] {
        if let Some(patch) = patch {
            hasher.digest(name, patch);
        }
    }
    hasher
}

/// Converts token ids to little-endian bytes, for hashing.
pub(super) fn bytes_of(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
