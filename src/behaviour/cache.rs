//! Caches model measurements in the store, so that a prompt is not run again through the same model.
//!
//! The address of an entry covers everything that its content depends on: the numeric specification, the base, the
//! patches, and the token ids. Tokenizer and chat template affect the token ids, so they need no separate field.
//! Thresholds are not part of an entry, because verdicts are computed in every run. For the earlier model the final
//! hidden states are cached, from which the LM head computes identical logits. For a pair of models the cache stores
//! the answers of both and their KL divergence. An entry that is damaged or cannot be written is treated as missing.

use super::ask::{Both, Inquiry};
use super::cache_bytes;
use super::cache_bytes::Head;
use super::continuation::Draw;
use super::damage::Neutral;
use crate::behaviour::damage::Damage;
use crate::digest::{Digest, FieldHasher};
use crate::model::Model;
use crate::numeric::NUMERICS;
use crate::store::{EntryKind, Store};

/// The measurement cache for two models on one base.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// The store that contains the cache; `None` disables the cache.
    store: Option<&'a Store>,
    head: Head,
}

impl<'a> Kept<'a> {
    /// Returns a disabled cache, for models without a digest.
    pub fn nothing() -> Self {
        Self { store: None, head: Head { base: Digest::of(b""), before: None, after: None } }
    }

    /// Returns the cache for a base with the patches of two models; `None` stands for the base itself.
    pub fn of(store: &'a Store, base: Digest, before: Option<Digest>, after: Option<Digest>) -> Self {
        Self { store: Some(store), head: Head { base, before, after } }
    }

    /// Returns the cached answers of both models to a group of inquiries, if there are any.
    pub fn answers(&self, inquiries: &[Inquiry]) -> Option<Vec<Both>> {
        let key = self.answers_address(inquiries);
        let parse = |bytes: &[u8]| cache_bytes::answers(bytes, &self.head, inquiries);
        self.store?.recall_if_any(EntryKind::Measured, &key, parse)
    }

    pub(super) fn keep_answers(&self, inquiries: &[Inquiry], said: &[Both]) {
        // Answers with numbers that are not finite are not cached.
        if let Some(store) = self.store.filter(|_| said.iter().all(Both::is_finite)) {
            let bytes = cache_bytes::of_answers(&self.head, said);
            store.put_optional(EntryKind::Measured, &self.answers_address(inquiries), &bytes);
        }
    }

    /// Returns the earlier model's cached greedy continuation of `row`, if there is one. Sampled text is not cached.
    pub fn text(&self, row: &[u32], draw: Draw) -> Option<String> {
        let parse = |bytes: &[u8]| cache_bytes::text(bytes, &self.head);
        self.store.filter(|_| draw.seed.is_none())?.recall_if_any(
            EntryKind::Measured,
            &self.text_address(row, draw),
            parse,
        )
    }

    /// Stores a continuation of the earlier model, unless it is sampled.
    pub fn keep_text(&self, row: &[u32], draw: Draw, text: &str) {
        if let Some(store) = self.store.filter(|_| draw.seed.is_none()) {
            let bytes = cache_bytes::of_text(&self.head, text);
            store.put_optional(EntryKind::Measured, &self.text_address(row, draw), &bytes);
        }
    }

    fn text_address(&self, row: &[u32], draw: Draw) -> Digest {
        let mut canon = begun("measured-text/1", &self.head);
        canon.field("row", &bytes_of(row)).number("tokens", draw.tokens as u64).finish()
    }

    /// Returns the cached damage on neutral text; `None` if it is not cached or the cache is disabled.
    pub fn damage(&self, neutral: &Neutral) -> Option<Damage> {
        let parse = |bytes: &[u8]| cache_bytes::damage(bytes, &self.head);
        self.store?.recall_if_any(EntryKind::Measured, &self.damage_address(neutral), parse)
    }

    pub(super) fn keep_damage(&self, neutral: &Neutral, damage: &Damage) {
        if let Some(store) = self.store {
            store.put_optional(
                EntryKind::Measured,
                &self.damage_address(neutral),
                &cache_bytes::of_damage(&self.head, damage),
            );
        }
    }

    /// Returns the earlier model's final hidden states at the last positions of every row, group by group. States
    /// that are not cached are computed in one batch and stored.
    pub(super) fn states(&self, before: &Model, groups: &[Vec<(&[u32], usize)>]) -> Vec<f32> {
        let head = Head { after: None, ..self.head };
        let size = |group: &Vec<(&[u32], usize)>| group.iter().map(|(_, tail)| tail * before.spec().hidden_size).sum();
        let recall = |group| {
            let parse = |bytes: &[u8]| cache_bytes::states(bytes, &head, size(group));
            self.store?.recall_if_any(EntryKind::Measured, &states_address(&head, group), parse)
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
            self.keep_states(&head, group, own);
            out.extend_from_slice(own);
            rest = later;
        }
        out
    }

    fn keep_states(&self, head: &Head, group: &[(&[u32], usize)], states: &[f32]) {
        if let Some(store) = self.store.filter(|_| states.iter().all(|number| number.is_finite())) {
            store.put_optional(
                EntryKind::Measured,
                &states_address(head, group),
                &cache_bytes::of_states(head, states),
            );
        }
    }

    fn answers_address(&self, inquiries: &[Inquiry]) -> Digest {
        let mut canon = begun("measured-answers/1", &self.head);
        canon.number("likeliest", super::ask::TOP as u64).number("inquiries", inquiries.len() as u64);
        for inquiry in inquiries {
            inquiry.address(&mut canon);
        }
        canon.finish()
    }

    fn damage_address(&self, neutral: &Neutral) -> Digest {
        let mut canon = begun("measured-damage/1", &self.head);
        canon.number("documents", neutral.documents().len() as u64);
        for document in neutral.documents() {
            canon.field("tokens", &bytes_of(document));
        }
        canon.finish()
    }
}

fn states_address(head: &Head, rows: &[(&[u32], usize)]) -> Digest {
    let mut canon = begun("measured-states/1", head);
    canon.number("rows", rows.len() as u64);
    for (tokens, tail) in rows {
        canon.field("tokens", &bytes_of(tokens)).number("tail", *tail as u64);
    }
    canon.finish()
}

fn begun(domain: &str, head: &Head) -> FieldHasher {
    let mut canon = FieldHasher::new(domain);
    canon.text("numerics", NUMERICS).digest("base", &head.base);
    for (name, patch) in [("before", &head.before), ("after", &head.after)] {
        if let Some(patch) = patch {
            canon.digest(name, patch);
        }
    }
    canon
}

/// Returns the token ids as little-endian bytes, for hashing.
pub(super) fn bytes_of(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
