//! Editors that spread a change over layers (Meng et al. 2023, "Mass-editing memory in a transformer", section 4.3).
//!
//! A target state `z` is found for every fact behind the last of the layers, on the model as it is. Then, from the
//! lowest layer up and with the layers below already changed, each layer takes an equal share of what is still missing
//! there. What differs between editors is how a layer's rows come from its keys.

use super::site::Site;
use super::system::{Parallel, System};
use crate::compile::Resolved;
use crate::compile::value::weighted;
use crate::model::Model;
use crate::patch::PatchError;

/// Rows of a layer, from its keys.
pub trait Rows {
    /// `[f]` a fact: what of an input asks for each fact's column.
    ///
    /// # Errors
    /// Keys that cannot be told apart.
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, Parallel>;
}

/// Why a change could not be spread.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SpreadError {
    #[error(transparent)]
    Parallel(#[from] Parallel),
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// Spreads the targets over the layers, the last of which is that of the targets. `targets` are states behind that
/// layer at the subjects' last tokens, `[d]` a fact.
///
/// # Errors
/// Keys that cannot be told apart, or a changed weight that is not finite.
pub fn spread(
    base: &Model,
    layers: &[usize],
    facts: &[&Resolved],
    targets: &[&[f32]],
    rows: &dyn Rows,
) -> Result<(Vec<Site>, Model), SpreadError> {
    let (mut model, mut sites) = (base.clone(), Vec::new());
    let last = layers.last().copied().unwrap_or_default();
    for (index, &layer) in layers.iter().enumerate() {
        let keys: Vec<Vec<f32>> = facts.iter().map(|fact| key(&model, layer, fact)).collect();
        let share = 1.0 / (layers.len() - index) as f64;
        let missing = facts.iter().zip(targets).map(|(fact, target)| {
            let state = state(&model, last, fact);
            target.iter().zip(&state).map(|(want, is)| (f64::from(*want) - f64::from(*is)) * share).collect()
        });
        let columns = missing.collect();
        let rows = rows.rows(layer, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let site = Site { layer, columns, rows };
        model = site.laid_on(&model)?;
        sites.push(site);
    }
    Ok((sites, model))
}

/// The key of a fact: half of it that of the bare prompt, the other half the mean over the contexts.
fn key(model: &Model, layer: usize, fact: &Resolved) -> Vec<f32> {
    let rows: Vec<&[u32]> = fact.rows.iter().map(|row| &row.ids[..=row.position]).collect();
    let positions: Vec<usize> = fact.rows.iter().map(|row| row.position).collect();
    weighted(&model.hooked(layer, &rows, &positions).keys, Some(0.5))
}

/// The state behind a layer at the subject's last token of the bare prompt.
fn state(model: &Model, layer: usize, fact: &Resolved) -> Vec<f32> {
    let row = &fact.rows[0];
    let hooked = model.hooked(layer, &[&row.ids[..=row.position]], &[row.position]);
    hooked.after[row.position * model.spec().width..].to_vec()
}

/// Rows from the factors of the layers' second moments, with an absolute ridge: what MEMIT and EMMET come to.
pub(super) fn ridged(
    factor: &crate::numeric::cholesky::Factor,
    keys: &[&[f32]],
    ridge: f64,
) -> Result<Vec<Vec<f64>>, Parallel> {
    let all: Vec<usize> = (0..keys.len()).collect();
    Ok(System::new(factor, keys).solve_with(&all, ridge)?.rows)
}
