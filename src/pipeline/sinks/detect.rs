//! Measures whether a subject is at an attention sink, and lists the texts (prefaces) that can be put before its
//! prompt.
//!
//! An attention sink is a position, usually one of the first in a text, where the norm of the residual stream is many
//! times as large as elsewhere. The output of the MLP is small compared with this norm, so an edit has no effect there.

use crate::compile::Resolved;
use crate::compile::optimiser::norm;
use crate::compile::presets::{TEMPLATES, lines};
use crate::digest::FieldHasher;
use crate::model::Model;
use crate::numeric::NUMERICS;
use crate::pipeline::{Base, Setup};
use crate::store::{EntryKind, Store, StoreError};

/// The minimum relative norm at an attention sink. The relative norm is the norm of the residual stream, divided by the
/// median norm over the tokens of the built-in context templates.
pub const SINK_NORM: f64 = 2.0;

/// The number of positions at the start of a text that are checked for an attention sink. Sinks at later positions are
/// not detected.
pub const FIRST_UNCHECKED: usize = 4;

/// The preface that is tried last. A preface is a text before the prompt that moves the subject away from an attention
/// sink.
const LINE_BREAK: &str = "\n";

/// The measurements for a subject whose last token is at an attention sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// The norm of the residual stream after the edited layer, at the subject's last token. It is divided by the median
    /// norm over the tokens of the built-in context templates.
    pub relative_norm: f64,
    /// The text that is put before the prompt to avoid the sink; `None` if no text avoids it.
    pub preface: Option<String>,
    /// The texts that were put before the prompt but did not move the subject away from the sink, in the order in which
    /// they were tried.
    pub failed_prefaces: Vec<String>,
}

/// The norms of the residual stream after one layer. They are measured on demand and cached in the store.
pub struct ResidualNorms<'a> {
    base: &'a Base,
    layer: usize,
    store: &'a Store,
}

impl<'a> ResidualNorms<'a> {
    /// Selects the residual stream after the edited layer of `setup`. The norms are measured later, by
    /// [`ResidualNorms::relative_norms`].
    pub fn new(base: &'a Base, setup: &Setup, store: &'a Store) -> Self {
        Self { base, layer: setup.layer, store }
    }

    /// Returns the norm of the residual stream at the last token of each row of token ids. Each norm is divided by the
    /// median norm over the tokens of the built-in context templates.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn relative_norms(&self, rows: &[Vec<u32>]) -> Result<Vec<f64>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut hasher = FieldHasher::new("sinks/1");
        hasher.text("numerics", NUMERICS).digest("base", &self.base.locked.digest).number("layer", self.layer as u64);
        for row in rows {
            let ids: Vec<String> = row.iter().map(u32::to_string).collect();
            hasher.texts("row", ids.iter().map(String::as_str));
        }
        let address = hasher.finish();
        // The norms are stored as the bits of `f64`, because the decimal text of a number may not parse to the same
        // value.
        let read = |bytes: &[u8]| serde_json::from_slice::<Vec<u64>>(bytes).ok().filter(|all| all.len() == rows.len());
        if let Some(bits) = self.store.recall(EntryKind::Report, &address, read)? {
            return Ok(bits.into_iter().map(f64::from_bits).collect());
        }
        let median_norm = median_norm(&self.base.model, self.base, self.layer);
        let relative_norms: Vec<f64> =
            last_norms(&self.base.model, self.layer, rows).into_iter().map(|norm| norm / median_norm).collect();
        let bits: Vec<u64> = relative_norms.iter().map(|relative_norm| relative_norm.to_bits()).collect();
        self.store.put_optional(
            EntryKind::Report,
            &address,
            &serde_json::to_vec(&bits).expect("numbers can be serialized"),
        );
        Ok(relative_norms)
    }
}

/// Returns the token ids of the prompt alone, without a context template, up to the subject's last token. Returns
/// `None` if that token is at position [`FIRST_UNCHECKED`] or later.
pub fn early_subject(resolved: &Resolved) -> Option<Vec<u32>> {
    let bare = &resolved.rows[0];
    (bare.position < FIRST_UNCHECKED).then(|| bare.ids[..=bare.position].to_vec())
}

/// Returns the texts that are tried before a prompt to avoid an attention sink. The first texts are those of the
/// model's start tokens, for example `<|endoftext|>`; the last is a line break.
pub fn candidate_prefaces(base: &Base) -> Vec<String> {
    let mut all = base.tokens.start_texts();
    all.push(LINE_BREAK.to_owned());
    all
}

/// Returns the context templates. If there is a preface, it is put before the first template, `{}`; the other templates
/// are unchanged.
pub fn with_preface(templates: &[String], preface: Option<&str>) -> Vec<String> {
    let mut templates = templates.to_vec();
    if let (Some(preface), Some(bare)) = (preface, templates.first_mut()) {
        *bare = [preface, bare.as_str()].concat();
    }
    templates
}

/// Returns the norm of the residual stream after `layer` at the last token of each row of token ids.
fn last_norms(model: &Model, layer: usize, rows: &[Vec<u32>]) -> Vec<f64> {
    let mut out = Vec::with_capacity(rows.len());
    for some in rows.chunks(64) {
        let tokens: Vec<&[u32]> = some.iter().map(Vec::as_slice).collect();
        let (states, width) = (model.hidden_states(&tokens, layer + 1), model.spec().hidden_size);
        let mut end = 0;
        for row in some {
            end += row.len() * width;
            out.push(l2_norm(&states[end - width..end]));
        }
    }
    out
}

fn l2_norm(state: &[f32]) -> f64 {
    norm(&state.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
}

/// Returns the median norm of the residual stream after `layer` over the tokens of the built-in context templates. The
/// first [`FIRST_UNCHECKED`] positions of each template are left out, because they may be sinks.
fn median_norm(model: &Model, base: &Base, layer: usize) -> f64 {
    let sentences = lines(TEMPLATES).into_iter().skip(1).map(|line| line.replace("{}", ""));
    let rows: Vec<Vec<u32>> =
        sentences.filter_map(|text| base.tokens.encode(text.trim()).ok()).map(|cut| cut.ids).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).filter(|row| row.len() > FIRST_UNCHECKED).collect();
    let (states, width) = (model.hidden_states(&rows, layer + 1), model.spec().hidden_size);
    let (mut norms, mut start) = (Vec::new(), 0);
    for row in rows {
        norms.extend((FIRST_UNCHECKED..row.len()).map(|at| l2_norm(&states[(start + at) * width..][..width])));
        start += row.len();
    }
    norms.sort_by(f64::total_cmp);
    norms.get(norms.len() / 2).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_prompt_follows_the_preface() {
        let all = ["{}".to_owned(), "Yes. {}".to_owned()];
        assert_eq!(with_preface(&all, Some("\n")), ["\n{}", "Yes. {}"]);
        assert_eq!(with_preface(&all, None), all);
    }
}
