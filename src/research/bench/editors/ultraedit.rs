//! Implements UltraEdit (Gu et al. 2025, arXiv 2505.14679). Each fact needs one forward and one backward pass. For every
//! edited MLP matrix, these give one row per token: the input `h` of the matrix and the gradient `g` of the loss at its
//! output. Rows are standardised with running means and deviations (`ĥ`, `ĝ`), and the wanted change of the output is
//! `v = −η ‖ĥ‖² ĝ`. The change of the matrix is the solution of a ridge regression, `Δ = (HᵀH + I)⁻¹ HᵀV`, where the rows
//! of `H` and `V` are the vectors `h` and `v`.
//!
//! Published are η = 1e-6, turns of 100 facts whose rows are added to the statistics before the turn is solved, one set
//! of statistics for all matrices of the same shape, the matrices in [`PUBLISHED`], and rows at all tokens of prompt and
//! answer (`token: mask` in EasyEdit's files). Own choices are:
//!
//! - the matrices of all other models, see [`default_ranges`], and their η, see [`OWN_RATE`];
//! - rows without a gradient are left out: in the last layer, all tokens before those that predict the answer, and in
//!   every layer the last token of the answer;
//! - `Δ = Hᵀ (HHᵀ + I)⁻¹ V` is solved in f64. It is the same matrix, and there are fewer rows than inputs.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{EditError, Edited, Editor};
use crate::compile::presets;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::load::checkpoint::MlpMatrix::{Down, Gate, Up};
use crate::model::run::low_rank::{LowRank, Site};
use crate::model::{Model, Spec};
use crate::numeric::cholesky::Factor;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::research::hypernetworks::capture::{SiteRows, capture};
use crate::research::hypernetworks::sites::changed;
use crate::research::hypernetworks::whitening::RunningStatistics;

/// The published η, the factor of the change.
const RATE: f64 = 1e-6;
/// η times the number of edited matrices, for models without published matrices. The published η has no effect on a
/// small model, because `‖ĥ‖²` grows with the number of inputs. The value comes from trials on two models: SmolLM2-135M
/// with 20 matrices, and `counterfact-gpt2`, a model trained on CounterFact, with one matrix.
const OWN_RATE: f64 = 5e-4;
/// The published number of facts that are edited at once. The facts of the next turn are edited on the changed model.
const TURN: usize = 100;

/// A matrix and the first and last layer in which it is edited.
type Range = (MlpMatrix, usize, usize);

/// The published matrices by the name of the model in the presets, where Qwen2.5 7B has the name of Qwen2 7B.
const PUBLISHED: [(&str, &[Range]); 4] = [
    ("gpt-j-6b", &[(Down, 18, 26)]),
    ("llama-3-8b", &[(Gate, 11, 15), (Up, 18, 24)]),
    ("mistral-7b", &[(Down, 29, 30)]),
    ("qwen2-7b", &[(Gate, 18, 26), (Up, 18, 26)]),
];

pub(crate) struct UltraEdit {
    /// The factor η of the change. `None` means the published value, or for a model without published matrices,
    /// [`OWN_RATE`] divided by the number of edited matrices.
    pub rate: Option<f64>,
    /// The only layer to edit; `None` means the published or the default layers.
    pub layer: Option<usize>,
}

impl Editor for UltraEdit {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let mut model = context.model();
        let (sites, rate) = self.sites_and_rate(model.spec());
        // The statistics of the rows go on over the batches of a sequence.
        let mut statistics =
            context.sequence.borrow().as_ref().map_or_else(BTreeMap::new, |one| one.statistics.clone());
        let texts: Vec<Text> = facts.iter().map(|stated| Text::of(stated)).collect();
        for (index, turn) in texts.chunks(TURN).enumerate() {
            progress.line(&format!("turn {} of {}", index + 1, texts.len().div_ceil(TURN)));
            model = edit_turn(&model, (&sites, rate), turn, &mut statistics)?;
        }
        if let Some(sequence) = &mut *context.sequence.borrow_mut() {
            sequence.statistics = statistics;
        }
        Ok(Edited::new(model, None))
    }
}

/// The prompt and the answer of a fact as one token sequence, which ends with the `labels` tokens of the answer.
struct Text {
    tokens: Vec<u32>,
    labels: usize,
}

impl Text {
    fn of(stated: &PreparedCase) -> Self {
        let target = &stated.resolved.target;
        Self { tokens: [&stated.resolved.rows[0].ids[..], target].concat(), labels: target.len() }
    }
}

/// The running means and deviations of the rows `[h ; g]`, by the numbers of inputs and outputs of a matrix.
pub(crate) type Statistics = BTreeMap<(usize, usize), RunningStatistics>;

impl UltraEdit {
    /// Returns the matrices to edit and η.
    fn sites_and_rate(&self, spec: &Spec) -> (Vec<Site>, f64) {
        let published = presets::name(spec).and_then(|name| PUBLISHED.iter().find(|(model, _)| *model == name));
        let gated = spec.family.mlp_gate.is_some();
        let ranges = published.map_or_else(|| default_ranges(spec.layers, gated), |(_, ranges)| ranges.to_vec());
        let sites: Vec<Site> = match self.layer {
            Some(layer) => matrices(gated).iter().map(|&matrix| Site { layer, matrix }).collect(),
            None => ranges.into_iter().flat_map(of_range).collect(),
        };
        let usual = if published.is_some() { RATE } else { OWN_RATE / sites.len() as f64 };
        (sites, self.rate.unwrap_or(usual))
    }
}

/// Returns a copy of the model in which the facts of one turn are edited. Adds the rows of the turn to `statistics`.
///
/// # Errors
/// If there is only one row, or a number of the change is not finite.
fn edit_turn(
    model: &Model,
    (sites, rate): (&[Site], f64),
    texts: &[Text],
    statistics: &mut Statistics,
) -> Result<Model, EditError> {
    let mut rows = vec![SiteRows { x: Vec::new(), delta: Vec::new() }; sites.len()];
    for text in texts {
        for (all, of_fact) in rows.iter_mut().zip(rows_of(model, sites, text)) {
            all.x.extend(of_fact.x);
            all.delta.extend(of_fact.delta);
        }
    }
    let shapes: Vec<(usize, usize)> = sites.iter().map(|site| site.shape(model.spec())).collect();
    let joint: Vec<Vec<f32>> = rows.iter().zip(&shapes).map(|(rows, shape)| joined(rows, *shape)).collect();
    for (&(inputs, outputs), both) in shapes.iter().zip(&joint) {
        let of_shape = statistics.entry((inputs, outputs));
        of_shape.or_insert_with(|| RunningStatistics::new(inputs + outputs)).add(both);
    }
    let mut changes = Vec::with_capacity(sites.len());
    for ((own, &shape), both) in rows.into_iter().zip(&shapes).zip(&joint) {
        if statistics[&shape].count < 2 {
            let why = "ultraedit: the prompt and the answer give one row, whose deviation is not defined";
            return Err(EditError::Facts(why.to_owned()));
        }
        let wanted = wanted(&statistics[&shape].whiten(both), shape, rate);
        changes.push(solve(own.x, &wanted, shape)?);
    }
    Ok(changed(model, sites, &changes))
}

/// Returns the inputs of each matrix, and the gradients of the summed negative log-likelihood of the answer's tokens at
/// its outputs.
fn rows_of(model: &Model, sites: &[Site], text: &Text) -> Vec<SiteRows> {
    let (_, mut found) = capture(model, sites, &text.tokens, text.labels);
    // `capture` returns the gradient of the mean over the tokens.
    found.iter_mut().flat_map(|rows| &mut rows.delta).for_each(|x| *x *= text.labels as f32);
    found
}

fn matrices(gated: bool) -> &'static [MlpMatrix] {
    if gated { &[Gate, Up] } else { &[Down] }
}

/// Returns the matrices for a model without published ones. The layers are those of GPT-J and Qwen2.5 7B as shares of
/// the depth: from layer 18 of 28 to the last layer but one. As in these models, the matrices are the down-projection of
/// a plain MLP, and the gate and the up-projection of a gated MLP.
fn default_ranges(layers: usize, gated: bool) -> Vec<Range> {
    let first = layers * 18 / 28;
    let last = layers.saturating_sub(2).max(first);
    matrices(gated).iter().map(|&matrix| (matrix, first, last)).collect()
}

fn of_range((matrix, first, last): Range) -> impl Iterator<Item = Site> {
    (first..=last).map(move |layer| Site { layer, matrix })
}

/// Returns the rows `[h ; g]`, `[rows, inputs + outputs]`.
fn joined(rows: &SiteRows, (inputs, outputs): (usize, usize)) -> Vec<f32> {
    rows.x.chunks(inputs).zip(rows.delta.chunks(outputs)).flat_map(|(h, g)| [h, g].concat()).collect()
}

/// Returns the wanted changes of the outputs `v = −η ‖ĥ‖² ĝ`, one vector per row. `whitened` has the rows `[ĥ ; ĝ]`.
fn wanted(whitened: &[f32], (inputs, outputs): (usize, usize), rate: f64) -> Vec<Vec<f64>> {
    let one = |row: &[f32]| {
        let (h, g) = row.split_at(inputs);
        let mut square = 0.0;
        for x in h {
            square += f64::from(*x) * f64::from(*x);
        }
        g.iter().map(|x| -rate * square * f64::from(*x)).collect()
    };
    whitened.chunks(inputs + outputs).map(one).collect()
}

/// Returns the change `Hᵀ (HHᵀ + I)⁻¹ V`, where `x` has the rows of `H` and `wanted` has the rows of `V`.
///
/// # Errors
/// If a number of the change is not finite.
fn solve(x: Vec<f32>, wanted: &[Vec<f64>], (inputs, outputs): (usize, usize)) -> Result<LowRank, EditError> {
    let count = wanted.len();
    let product = |one: &[f32], other: &[f32]| {
        let mut total = 0.0;
        for (a, b) in one.iter().zip(other) {
            total += f64::from(*a) * f64::from(*b);
        }
        total
    };
    let rows: Vec<&[f32]> = x.chunks(inputs).collect();
    let of_row = |i: usize| (0..count).map(|j| product(rows[i], rows[j]) + f64::from(u8::from(i == j))).collect();
    let gram: Vec<Vec<f64>> = (0..count).into_par_iter().map(of_row).collect();
    let factor = Factor::new(count, gram.concat());
    let factor = factor.map_err(|error| EditError::Facts(format!("ultraedit: {error}")))?;
    let solved = |output: usize| factor.solve(&wanted.iter().map(|row| row[output]).collect::<Vec<_>>());
    let columns: Vec<Vec<f64>> = (0..outputs).into_par_iter().map(solved).collect();
    let b: Vec<f32> = (0..count).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect();
    if b.iter().any(|number| !number.is_finite()) {
        return Err(EditError::Facts("ultraedit: a number of the change is not finite".to_owned()));
    }
    Ok(LowRank { a: x, b })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::hypernetworks::toy::toy_model;

    #[test]
    fn published_matrices_name_known_models() {
        let names = presets::names();
        assert!(PUBLISHED.iter().all(|(model, _)| names.split(", ").any(|name| name == *model)));
    }

    #[test]
    fn default_layers_exist_in_models_of_every_depth() {
        let layers = |depth, gated| -> Vec<usize> {
            default_ranges(depth, gated).into_iter().flat_map(of_range).map(|site| site.layer).collect()
        };
        assert_eq!((layers(1, false), layers(2, false), layers(4, false)), (vec![0], vec![1], vec![2]));
        assert_eq!(layers(28, false), (18..=26).collect::<Vec<_>>());
        assert_eq!(layers(4, true), [2, 2]);
    }

    #[test]
    fn the_change_solves_the_ridge_regression() {
        let (x, shape) = (vec![1.0, 2.0, 0.5, -1.0, 3.0, 2.0], (3, 2));
        let wanted = vec![vec![0.3, -0.2], vec![1.0, 0.7]];
        let change = solve(x.clone(), &wanted, shape).expect("finite");
        // (HᵀH + I) Δ = HᵀV holds for every element.
        let delta = |input: usize, output: usize| -> f64 {
            (0..2).map(|row| f64::from(change.a[row * 3 + input]) * f64::from(change.b[row * 2 + output])).sum()
        };
        let h = |row: usize, input: usize| f64::from(x[row * 3 + input]);
        for (input, output) in (0..3).flat_map(|input| [(input, 0), (input, 1)]) {
            let gram = |k: usize| (0..2).map(|row| h(row, input) * h(row, k)).sum::<f64>();
            let left = (0..3).map(|k| gram(k) * delta(k, output)).sum::<f64>() + delta(input, output);
            let right: f64 = wanted.iter().enumerate().map(|(row, v)| h(row, input) * v[output]).sum();
            assert!((left - right).abs() < 1e-6, "{left} {right}");
        }
        let overflow = solve(vec![1.0; 3], &[vec![f64::MAX, 0.0]], shape);
        assert!(matches!(overflow, Err(EditError::Facts(_))));
    }

    #[test]
    fn edits_lower_the_loss_and_turns_share_statistics() {
        let (base, sites) = (toy_model(), [Site { layer: 1, matrix: Down }, Site { layer: 2, matrix: Down }]);
        let texts = [(&[3, 7, 1, 9, 2][..], 2), (&[5, 2, 8], 1), (&[1, 4, 10, 2], 1)];
        let texts = texts.map(|(tokens, labels)| Text { tokens: tokens.to_vec(), labels });
        let loss = |model: &Model| -> f64 {
            texts.iter().map(|text| capture(model, &sites, &text.tokens, text.labels).0).sum()
        };
        let mut statistics = Statistics::new();
        let edited = edit_turn(&base, (&sites, 0.1), &texts, &mut statistics).expect("finite");
        assert!(loss(&edited) < loss(&base) - 0.05, "{} {}", loss(&edited), loss(&base));
        // In layer 1, all tokens but the last of each text have a row. In layer 2, which is the last layer, only the
        // tokens before an answer have one. Both matrices have the same shape.
        assert_eq!((statistics.len(), statistics[&(10, 4)].count), (1, 4 + 2 + 3 + 2 + 1 + 1));
        edit_turn(&edited, (&sites, 0.1), &texts[..1], &mut statistics).expect("finite");
        assert_eq!(statistics[&(10, 4)].count, 13 + 4 + 2);
    }

    #[test]
    fn one_row_is_refused() {
        let (model, sites) = (toy_model(), [Site { layer: 2, matrix: Down }]);
        let text = Text { tokens: vec![3, 7, 1], labels: 1 };
        let refused = edit_turn(&model, (&sites, 1e-2), &[text], &mut Statistics::new());
        assert!(matches!(refused, Err(EditError::Facts(why)) if why.contains("one row")));
    }

    #[test]
    fn the_wanted_change_is_against_the_gradient() {
        // ĥ = (1, 2) and ĝ = (0.5), so v = −η · 5 · 0.5.
        assert_eq!(wanted(&[1.0, 2.0, 0.5], (2, 1), 0.1), [[-0.25]]);
    }
}
