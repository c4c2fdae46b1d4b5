//! Converts a patch to LoRA factors: one pair of factors per changed module, all with the same rank.
//!
//! Programs multiply `B · A` by a scale, which they compute from `alpha` and the rank in different ways. With one rank
//! for all modules and `alpha = rank`, the scale is 1 in all of these programs. If a module has fewer edits than the
//! rank, its factors are padded with zeros.
//!
//! The weight change of one edit is the product of two vectors. Some programs round LoRA factors to half precision, so
//! the two vectors are first scaled to similar norms. Each is scaled by a power of two, so the product does not change.

use crate::model::Spec;
use crate::patch::{Patch, Target};
use crate::safetensors::Layout;

use super::ExportError;

/// The LoRA factors A and B of one MLP down-projection. The adapter adds `B · A` to the weight of the projection.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorPair {
    /// The index of the layer, from 0.
    pub layer: usize,
    /// The path of the module in transformers, such as `transformer.h.0.mlp.c_proj`.
    pub module: String,
    /// Whether the base stores the weight as `[out, in]` or as `[in, out]`.
    pub layout: Layout,
    /// The output width of the module, which is the hidden size.
    pub out: usize,
    /// The input width of the module, which is the MLP width.
    pub inner: usize,
    /// The factor A, `[rank, inner]`, row-major.
    pub a: Vec<f32>,
    /// The factor B, `[out, rank]`, row-major.
    pub b: Vec<f32>,
}

/// A patch in the form of LoRA factors.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The rank of every factor pair: the largest number of edits in one layer.
    pub rank: usize,
    /// One factor pair per changed module, sorted by layer.
    pub pairs: Vec<FactorPair>,
}

impl Adapter {
    /// Converts `patch` to LoRA factors for a model with the shape `spec`.
    ///
    /// # Errors
    /// If the patch is empty, or changes a weight that is not an MLP down-projection of the model.
    pub fn new(patch: &Patch, spec: &Spec) -> Result<Self, ExportError> {
        let rank = patch.targets().values().map(|target| target.edits.len()).max().ok_or(ExportError::Empty)?;
        let factor_pair = |(parameter, target): (&String, &Target)| {
            let no_module = || ExportError::NoModule { parameter: parameter.clone() };
            let layer = spec.layer_of(parameter).ok_or_else(no_module)?;
            let (a, b) = factors(target, rank);
            let (module, layout) = (spec.module(layer), target.layout);
            Ok(FactorPair { layer, module, layout, out: target.out, inner: target.inner, a, b })
        };
        let mut pairs = patch.targets().iter().map(factor_pair).collect::<Result<Vec<_>, ExportError>>()?;
        pairs.sort_by_key(|pair| pair.layer);
        // Two names, such as `h.0…` and `transformer.h.0…`, can refer to the same layer, but the model has only one of
        // these tensors. A patch that names both is rejected.
        match pairs.windows(2).find(|pair| pair[0].layer == pair[1].layer) {
            Some(pair) => Err(ExportError::NoModule { parameter: pair[1].module.clone() }),
            None => Ok(Self { rank, pairs }),
        }
    }

    /// Returns the first module or element in which the weight change of the adapter differs from that of `patch`, as
    /// text for a message. `None` if all compared elements are equal.
    pub fn difference(&self, patch: &Patch, spec: &Spec) -> Option<String> {
        if self.pairs.len() != patch.targets().len() {
            return Some("the list of modules".to_owned());
        }
        let differs = |(parameter, target): (&String, &Target)| {
            let layer = spec.layer_of(parameter);
            let Some(pair) = self.pairs.iter().find(|pair| Some(pair.layer) == layer) else {
                return Some(format!("{parameter}, which it does not change"));
            };
            if (pair.out, pair.inner, pair.layout) != (target.out, target.inner, target.layout) {
                return Some(format!("{}, its shape", pair.module));
            }
            let same = |place: &(usize, usize)| pair.at(self.rank, *place) == at(target, *place);
            let place = places(pair.out, pair.inner).find(|place| !same(place));
            place.map(|(row, column)| format!("{}, row {row}, column {column}", pair.module))
        };
        patch.targets().iter().find_map(differs)
    }
}

impl FactorPair {
    /// Returns one element of `B · A`, the weight change of the adapter, at a row and a column of the `[out, in]`
    /// weight.
    fn at(&self, rank: usize, (row, column): (usize, usize)) -> f64 {
        let mut sum = 0.0;
        for edit in 0..rank {
            sum += f64::from(self.b[row * rank + edit]) * f64::from(self.a[edit * self.inner + column]);
        }
        sum
    }
}

/// Returns one element of `u · v`, the weight change in a patch, at a row and a column. The shapes are
/// `[out, edits]` for `u` and `[edits, in]` for `v`.
fn at(target: &Target, (row, column): (usize, usize)) -> f64 {
    let edits = target.edits.len();
    let mut sum = 0.0;
    for edit in 0..edits {
        sum += f64::from(target.u[row * edits + edit]) * f64::from(target.v[edit * target.inner + column]);
    }
    sum
}

/// The maximum number of elements of a weight for which [`Adapter::difference`] compares all elements. Of a larger
/// weight, it compares only a selection.
const ALL: usize = 1 << 16;

/// Returns the rows and columns of the elements that [`Adapter::difference`] compares. For a weight with at most
/// [`ALL`] elements, these are all elements. For a larger weight, these are `max(out, inner)` elements, with at least
/// one in every row and every column.
fn places(out: usize, inner: usize) -> Box<dyn Iterator<Item = (usize, usize)>> {
    if out.saturating_mul(inner) <= ALL {
        return Box::new((0..out * inner).map(move |place| (place / inner, place % inner)));
    }
    // From one element to the next, the column advances by 1 and the row by a large prime. With a step of 1 for both,
    // all elements would be on one diagonal.
    const STEP: usize = 1_000_003;
    Box::new((0..out.max(inner)).map(move |place| (place.wrapping_mul(STEP) % out, place % inner)))
}

/// Returns the LoRA factors A and B of one changed weight, scaled by [`balanced`] and padded with zeros to `rank`.
fn factors(target: &Target, rank: usize) -> (Vec<f32>, Vec<f32>) {
    let (edits, inner) = (target.edits.len(), target.inner);
    let (mut a, mut b) = (vec![0.0; rank * inner], vec![0.0; target.out * rank]);
    for edit in 0..edits {
        let column: Vec<f32> = target.u.iter().skip(edit).step_by(edits).copied().collect();
        let (column, row) = balanced(&column, &target.v[edit * inner..(edit + 1) * inner]);
        a[edit * inner..(edit + 1) * inner].copy_from_slice(&row);
        for (place, number) in b.iter_mut().skip(edit).step_by(rank).zip(column) {
            *place = number;
        }
    }
    (a, b)
}

/// Returns `u · 2^-e` and `v · 2^e`, which have the same product as `u` and `v`. The exponent `e` is chosen so that the
/// two norms differ by less than a factor of two. If this would round an element, `e` is moved towards 0 until no
/// element is rounded.
fn balanced(u: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut exponent = (log2(norm(u) / norm(v)) + 1).div_euclid(2);
    loop {
        if let Some(pair) = scaled(u, -exponent).zip(scaled(v, exponent)) {
            return pair;
        }
        // The loop ends at exponent 0 at the latest, because scaling by 2^0 is exact.
        exponent -= exponent.signum();
    }
}

/// Multiplies the numbers by `2^exponent`; `None` if one of the results is not exact in `f32`.
fn scaled(numbers: &[f32], exponent: i32) -> Option<Vec<f32>> {
    let factor = power(exponent);
    let scale = |number: &f32| {
        let exact = f64::from(*number) * factor;
        let rounded = exact as f32;
        (f64::from(rounded) == exact).then_some(rounded)
    };
    numbers.iter().map(scale).collect()
}

/// Returns `2^exponent`. The exponent must be in the range of normal `f64` numbers.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52)
}

/// Returns the exponent of the largest power of two that is not larger than `number`.
fn log2(number: f64) -> i32 {
    // `number` is a ratio of nonzero norms of `f32` vectors, so it is never subnormal in `f64`.
    (number.to_bits() >> 52) as i32 - 1023
}

fn norm(numbers: &[f32]) -> f64 {
    let mut square = 0.0;
    for &number in numbers {
        square += f64::from(number) * f64::from(number);
    }
    square.sqrt()
}

/// Provides a small patch and model shape for the tests of all adapter formats.
#[cfg(test)]
pub(super) mod samples {
    use serde_json::json;

    use super::*;
    use crate::digest::Digest;
    use crate::safetensors::Dtype;

    pub(in super::super) fn spec() -> Spec {
        let config =
            json!({ "model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 8, "vocab_size": 9 });
        Spec::parse(std::path::Path::new("config.json"), &config).expect("a shape")
    }

    /// Returns a test value: the change that `edits` edits make to a weight `[out, inner]`. The magnitudes of its
    /// elements range over many powers of two.
    pub(in super::super) fn target(edits: usize, out: usize, inner: usize) -> Target {
        let mut digests: Vec<_> = (0..edits).map(|edit| Digest::of(&[edit as u8])).collect();
        digests.sort_unstable();
        let number = |at: usize| power(((at * 7919) % 41) as i32 - 20) as f32 * (1.0 + at as f32 / 1000.0);
        Target {
            base: Digest::of(b"base"),
            dtype: Dtype::F32,
            layout: Layout::Conv1d,
            out,
            inner,
            edits: digests,
            u: (0..out * edits).map(|at| number(at) * 1e3).collect(),
            v: (0..edits * inner).map(|at| -number(at + 3) * 1e-6).collect(),
        }
    }

    /// Returns a patch with one edit in layer 0 and three edits in layer 2.
    pub(in super::super) fn patch() -> Patch {
        let targets =
            [("transformer.h.2.mlp.c_proj.weight", target(3, 8, 32)), ("h.0.mlp.c_proj.weight", target(1, 8, 32))];
        Patch::new(targets.into_iter().map(|(name, target)| (name.to_owned(), target)).collect()).expect("valid")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::samples::{patch, spec, target};
    use super::*;

    #[test]
    fn one_rank_for_every_module_and_the_same_sums() {
        let patch = patch();
        let adapter = Adapter::new(&patch, &spec()).expect("an adapter");
        assert_eq!(adapter.rank, 3);
        let modules: Vec<_> = adapter.pairs.iter().map(|pair| (pair.layer, pair.module.as_str())).collect();
        assert_eq!(modules, [(0, "transformer.h.0.mlp.c_proj"), (2, "transformer.h.2.mlp.c_proj")]);
        assert!(adapter.pairs[0].a[32..].iter().all(|number| *number == 0.0));
        assert!(adapter.pairs.iter().all(|pair| (pair.a.len(), pair.b.len()) == (96, 24)));
        assert_eq!(adapter.difference(&patch, &spec()), None);
        // `difference` detects a change of the lowest bit in any element of A. Its message names the module and the
        // row.
        for at in 0..96 {
            let mut other = adapter.clone();
            other.pairs[1].a[at] = f32::from_bits(other.pairs[1].a[at].to_bits() ^ 1);
            let said = other.difference(&patch, &spec()).expect("another product");
            assert!(said.starts_with("transformer.h.2.mlp.c_proj, row"), "{said}");
        }
        let mut fewer = adapter.clone();
        fewer.pairs.pop();
        assert!(fewer.difference(&patch, &spec()).is_some());
    }

    #[test]
    fn of_a_large_weight_every_row_and_column_is_compared() {
        for (out, inner) in [(300, 700), (700, 300), (1600, 6400)] {
            let places: Vec<_> = places(out, inner).collect();
            let rows: std::collections::BTreeSet<_> = places.iter().map(|place| place.0).collect();
            let columns: std::collections::BTreeSet<_> = places.iter().map(|place| place.1).collect();
            assert_eq!((rows.len(), columns.len()), (out, inner));
        }
    }

    #[test]
    fn factors_are_balanced_by_a_power_of_two() {
        for (u, v) in
            [(1e20, 1e-20), (1e-20, 1e20), (3.0, 3.0), (4.0, 1.0), (1.0, 4.1), (1.5e30, 2.5e-33), (7e-12, 1e5)]
        {
            let (u, v) = (vec![u, -u / 3.0], vec![v / 7.0, v]);
            let (b, a) = balanced(&u, &v);
            let ratio = norm(&b) / norm(&a);
            assert!((0.5..2.0).contains(&ratio), "{u:?} {v:?}: {ratio}");
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                assert_eq!(f64::from(u[i]) * f64::from(v[j]), f64::from(b[i]) * f64::from(a[j]));
            }
        }
    }

    #[test]
    fn balancing_never_rounds_a_number() {
        // Scaling down `tiny`, which is almost subnormal, would lose bits.
        let tiny = f32::from_bits(0x0080_0001);
        let (u, v) = (vec![1e30, tiny], vec![1e-30]);
        let (b, a) = balanced(&u, &v);
        assert_eq!((b, a), (u, v));
        // `larger` can be scaled down by at most 2^10 without rounding an element. Equal norms would need a larger
        // factor, so 2^10 is used.
        let larger = vec![1e30, tiny * 1024.0];
        let (partial_b, partial_a) = balanced(&larger, &[1e-30]);
        assert_eq!((partial_b[1], partial_a[0]), (tiny, 1e-30 * 1024.0));
    }

    #[test]
    fn patches_without_an_adapter_are_refused() {
        assert!(matches!(Adapter::new(&Patch::default(), &spec()), Err(ExportError::Empty)));
        for name in ["h.3.mlp.c_proj.weight", "h.0.mlp.c_proj", "h.0.attn.c_proj.weight", "h.0.mlp.c_fc.weight"] {
            let patch = Patch::new(BTreeMap::from([(name.to_owned(), target(1, 8, 32))])).expect("valid");
            let error = Adapter::new(&patch, &spec()).expect_err("no module");
            assert!(matches!(error, ExportError::NoModule { .. }) && error.to_string().contains(name), "{error}");
        }
    }
}
