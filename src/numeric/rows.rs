//! Kernels on rows: reductions, normalisation, softmax, and what their reverse pass needs.
//!
//! A row reduction has one order: [`LANES`] interleaved chains, element `i` in chain `i mod 16`, joined by halving
//! (0 with 8, 1 with 9, …; then 0 with 4, …). A row's result depends on nothing but the row.

use rayon::prelude::*;

use super::elementary::exp;
use super::fresh::{Part, fresh};

/// The number of interleaved chains of a row reduction.
pub const LANES: usize = 16;

/// Rows handed to a thread at a time are at least this many elements: below it, threads cost more than they bring.
pub(super) const GRAIN: usize = 1 << 14;

#[inline(always)]
fn join(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ term(x_i, y_i)` in the fixed order. The two slices have one length.
#[inline(always)]
fn reduce(xs: &[f32], ys: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    debug_assert_eq!(xs.len(), ys.len());
    let mut lanes = [0.0_f32; LANES];
    let (x_whole, x_rest) = xs.as_chunks::<LANES>();
    let (y_whole, y_rest) = ys.as_chunks::<LANES>();
    for (x, y) in x_whole.iter().zip(y_whole) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    for (lane, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[lane] += term(*x, *y);
    }
    join(lanes)
}

/// `Σ x_i`.
#[inline(always)]
pub fn sum(xs: &[f32]) -> f32 {
    reduce(xs, xs, |x, _| x)
}

/// `Σ x_i y_i`.
#[inline]
pub fn dot(xs: &[f32], ys: &[f32]) -> f32 {
    reduce(xs, ys, |x, y| x * y)
}

/// `y += scale · x`, each element on its own.
#[inline]
pub fn add_scaled(ys: &mut [f32], scale: f32, xs: &[f32]) {
    for (y, x) in ys.iter_mut().zip(xs) {
        *y += scale * x;
    }
}

/// `y += x`, each element on its own.
pub fn add(ys: &mut [f32], xs: &[f32]) {
    match ys.len() > GRAIN {
        true => ys.par_chunks_mut(GRAIN).zip(xs.par_chunks(GRAIN)).for_each(|(ys, xs)| add_near(ys, xs)),
        false => add_near(ys, xs),
    }
}

/// The same of what is small or near the processor: by this thread alone.
#[inline]
pub fn add_near(ys: &mut [f32], xs: &[f32]) {
    ys.iter_mut().zip(xs).for_each(|(y, x)| *y += x);
}

/// The greatest element, whose sign is not told where it is zero; NaN never wins, and an empty row gives −∞.
#[inline(always)]
pub fn greatest(xs: &[f32]) -> f32 {
    let greater = |best: f32, x: f32| if x > best { x } else { best };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = xs.as_chunks::<LANES>();
    for xs in whole {
        for lane in 0..LANES {
            lanes[lane] = greater(lanes[lane], xs[lane]);
        }
    }
    let mut best = f32::NEG_INFINITY;
    for x in lanes.iter().chain(rest) {
        best = greater(best, *x);
    }
    best
}

/// Applies `row` to every row of `[rows, width]`, threads taking whole rows.
pub fn each_row(xs: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    let rows_per_task = (GRAIN / width.max(1)).max(1);
    xs.par_chunks_mut(rows_per_task * width).enumerate().for_each(|(task, chunk)| {
        for (index, xs) in chunk.chunks_mut(width).enumerate() {
            row(task * rows_per_task + index, xs);
        }
    });
}

/// Replaces a row by its softmax and returns `log Σ e^x` (f64).
#[inline(always)]
pub fn softmax(xs: &mut [f32]) -> f64 {
    let peak = greatest(xs);
    for x in xs.iter_mut() {
        *x = exp(*x - peak);
    }
    let total = sum(xs);
    let inverse = 1.0 / total;
    for x in xs.iter_mut() {
        *x *= inverse;
    }
    f64::from(peak) + super::elementary::ln(f64::from(total))
}

/// What the reverse pass of a layer norm needs: the normalised rows and each row's `1/σ`.
pub struct Normalised {
    /// `(x − mean) / σ`, `[rows, width]`.
    pub unit: Vec<f32>,
    /// `1 / √(variance + ε)`, one per row.
    pub inverse: Vec<f32>,
}

/// Layer norm of every row: returns what the reverse pass needs and the output `unit · gain + bias`.
pub fn layer_norm(xs: &[f32], width: usize, gain: &[f32], bias: &[f32], epsilon: f32) -> (Normalised, Vec<f32>) {
    let count = width as f32;
    let row = |xs: &[f32], unit: &mut [f32], out: &mut [f32]| {
        let mean = sum(xs) / count;
        unit.iter_mut().zip(xs).for_each(|(unit, x)| *unit = x - mean);
        let variance = dot(unit, unit) / count;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        unit.iter_mut().for_each(|x| *x *= inverse);
        for (((out, x), g), b) in out.iter_mut().zip(unit).zip(gain).zip(bias) {
            *out = *x * g + b;
        }
        inverse
    };
    normalise(xs, width, row)
}

/// Norms every row by `row`, which is given the row, where its unit form and its output go, and gives its `1/σ`.
fn normalise(
    xs: &[f32],
    width: usize,
    row: impl Fn(&[f32], &mut [f32], &mut [f32]) -> f32 + Sync,
) -> (Normalised, Vec<f32>) {
    let (mut unit, mut inverse) = (Vec::new(), vec![0.0; xs.len() / width]);
    let rows_per_task = (GRAIN / width).max(1);
    let task = rows_per_task * width;
    let several = |((unit, out), (inverse, xs)): ((Part, Part), (&mut [f32], &[f32]))| {
        let places = unit.clear().chunks_mut(width).zip(out.clear().chunks_mut(width));
        for ((unit, out), (inverse, xs)) in places.zip(inverse.iter_mut().zip(xs.chunks(width))) {
            *inverse = row(xs, unit, out);
        }
    };
    let out = fresh(xs.len(), |out| {
        unit = fresh(xs.len(), |unit| {
            let places = unit.chunks(task).zip(out.chunks(task));
            let tasks: Vec<_> = places.zip(inverse.chunks_mut(rows_per_task).zip(xs.chunks(task))).collect();
            tasks.into_par_iter().for_each(several);
        });
    });
    (Normalised { unit, inverse }, out)
}

/// The reverse of [`layer_norm`]: turns the gradient of its output, in place, into the gradient of its input.
pub fn layer_norm_reverse(gradient: &mut [f32], width: usize, gain: &[f32], forward: &Normalised) {
    let count = width as f32;
    each_row(gradient, width, |index, row| {
        let unit = &forward.unit[index * width..][..width];
        for (g, gain) in row.iter_mut().zip(gain) {
            *g *= gain;
        }
        let mean = sum(row) / count;
        let slope = dot(row, unit) / count;
        let inverse = forward.inverse[index];
        for (g, u) in row.iter_mut().zip(unit) {
            *g = inverse * ((*g - mean) - u * slope);
        }
    });
}

/// Root norm of every row: `x / √(mean of x² + ε)`, then the gain. Returns what [`layer_norm`] returns.
pub fn root_norm(xs: &[f32], width: usize, gain: &[f32], epsilon: f32) -> (Normalised, Vec<f32>) {
    let count = width as f32;
    let row = |xs: &[f32], unit: &mut [f32], out: &mut [f32]| {
        let inverse = 1.0 / (dot(xs, xs) / count + epsilon).sqrt();
        unit.iter_mut().zip(xs).for_each(|(unit, x)| *unit = x * inverse);
        for ((out, x), g) in out.iter_mut().zip(unit).zip(gain) {
            *out = *x * g;
        }
        inverse
    };
    normalise(xs, width, row)
}

/// The reverse of [`root_norm`]: turns the gradient of its output, in place, into the gradient of its input.
pub fn root_norm_reverse(gradient: &mut [f32], width: usize, gain: &[f32], forward: &Normalised) {
    let count = width as f32;
    each_row(gradient, width, |index, row| {
        let unit = &forward.unit[index * width..][..width];
        for (g, gain) in row.iter_mut().zip(gain) {
            *g *= gain;
        }
        let slope = dot(row, unit) / count;
        let inverse = forward.inverse[index];
        for (g, u) in row.iter_mut().zip(unit) {
            *g = inverse * (*g - u * slope);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.37 + seed).sin() * 3.0).collect()
    }

    #[test]
    fn the_order_of_a_reduction_is_the_one_written_down() {
        let xs = ramp(53, 0.3);
        let mut lanes = [0.0_f32; 16];
        for (i, x) in xs.iter().enumerate() {
            lanes[i % 16] += x;
        }
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        assert_eq!(sum(&xs).to_bits(), lanes[0].to_bits());
    }

    #[test]
    fn softmax_sums_to_one_and_knows_its_logarithm() {
        let mut xs = ramp(301, 1.0);
        let wide: f64 = xs.iter().map(|&x| f64::from(x).exp()).sum();
        let log = softmax(&mut xs);
        assert!((log - wide.ln()).abs() < 1e-6);
        assert!((f64::from(sum(&xs)) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_reverse_of_both_norms_agrees_with_finite_differences() {
        let (width, epsilon) = (24, 1e-5);
        let (xs, gain, bias, weight) = (ramp(48, 0.0), ramp(24, 2.0), ramp(24, 3.0), ramp(48, 4.0));
        let norm = |xs: &[f32], root: bool| match root {
            true => root_norm(xs, width, &gain, epsilon),
            false => layer_norm(xs, width, &gain, &bias, epsilon),
        };
        for root in [false, true] {
            let loss = |xs: &[f32]| -> f64 {
                norm(xs, root).1.iter().zip(&weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let (forward, _) = norm(&xs, root);
            let mut gradient = weight.clone();
            let reverse = if root { root_norm_reverse } else { layer_norm_reverse };
            reverse(&mut gradient, width, &gain, &forward);
            for i in 0..48 {
                let (mut up, mut down) = (xs.clone(), xs.clone());
                up[i] += 1e-2;
                down[i] -= 1e-2;
                let slope = (loss(&up) - loss(&down)) / 2e-2;
                assert!((slope - f64::from(gradient[i])).abs() < 2e-2, "{i}: {slope} {}", gradient[i]);
            }
        }
    }
}
