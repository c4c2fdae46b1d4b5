//! Causal attention over ragged rows, and its reverse pass: kernels on slices.
//!
//! One query sees its row's past (cached keys and values) and then the row itself up to its own position, in that
//! order; sums over what it sees run sequentially, so a cached position and a computed one give the same bits.

use rayon::prelude::*;

use super::rows::{add_scaled, dot, softmax};

/// What one row offers to its queries. All matrices are row-major with `width` columns (queries, keys and values
/// of the row itself with `3 · width`).
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Cached keys, `[past, width]`.
    pub past_keys: &'a [f32],
    /// Cached values, `[past, width]`.
    pub past_values: &'a [f32],
    /// Query, key and value of every position of the row, `[length, 3 · width]`.
    pub fused: &'a [f32],
    /// How many of its last positions ask.
    pub tail: usize,
}

/// The heads of one layer.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// `count` times the width of a head.
    pub width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl Heads {
    fn head(&self) -> usize {
        self.width / self.count
    }
}

impl<'a> Row<'a> {
    fn past(&self, width: usize) -> usize {
        self.past_keys.len() / width
    }

    fn length(&self, width: usize) -> usize {
        self.fused.len() / (3 * width)
    }

    fn part(&self, width: usize, position: usize, part: usize) -> &'a [f32] {
        &self.fused[position * 3 * width + part * width..][..width]
    }

    /// Key of the `seen`-th position, past first.
    fn key(&self, width: usize, seen: usize) -> &'a [f32] {
        let past = self.past(width);
        if seen < past { &self.past_keys[seen * width..][..width] } else { self.part(width, seen - past, 1) }
    }

    fn value(&self, width: usize, seen: usize) -> &'a [f32] {
        let past = self.past(width);
        if seen < past { &self.past_values[seen * width..][..width] } else { self.part(width, seen - past, 2) }
    }
}

/// The attended values of every asking position, `[Σ tails, width]`, and, when `keep` is set, the probabilities of
/// each: `[heads, seen]`, as the reverse pass needs them.
pub fn attend(heads: Heads, rows: &[Row], keep: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let width = heads.width;
    let queries: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, r)| (r.length(width) - r.tail..r.length(width)).map(move |position| (row, position)))
        .collect();
    let mut out = vec![0.0; queries.len() * width];
    let kept = out
        .par_chunks_mut(width)
        .zip(&queries)
        .map(|(out, &(row, position))| query(heads, &rows[row], position, out, keep))
        .collect();
    (out, kept)
}

fn query(heads: Heads, row: &Row, position: usize, out: &mut [f32], keep: bool) -> Vec<f32> {
    let (width, head) = (heads.width, heads.head());
    let seen = row.past(width) + position + 1;
    let query = row.part(width, position, 0);
    let mut probabilities = vec![0.0; seen * if keep { heads.count } else { 1 }];
    for h in 0..heads.count {
        let slice = h * head..(h + 1) * head;
        let p = if keep { &mut probabilities[h * seen..][..seen] } else { &mut probabilities[..] };
        for (index, p) in p.iter_mut().enumerate() {
            *p = dot(&query[slice.clone()], &row.key(width, index)[slice.clone()]) * heads.scale;
        }
        softmax(p);
        for (index, p) in p.iter().enumerate() {
            add_scaled(&mut out[slice.clone()], *p, &row.value(width, index)[slice.clone()]);
        }
    }
    if keep { probabilities } else { Vec::new() }
}

/// The gradient by `fused` of every row, laid end to end (`[Σ lengths, 3 · width]`), from the gradient by the
/// attended values (`[Σ tails, width]`). What is cached is constant and gets none.
pub fn attend_reverse(heads: Heads, rows: &[Row], probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    let width = heads.width;
    let mut first = 0;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        jobs.push((row, first));
        first += row.tail;
    }
    let parts: Vec<Vec<f32>> = jobs
        .par_iter()
        .map(|&(row, first)| {
            let gradient = &gradient[first * width..][..row.tail * width];
            row_reverse(heads, row, &probabilities[first..][..row.tail], gradient)
        })
        .collect();
    parts.concat()
}

fn row_reverse(heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    let (width, head) = (heads.width, heads.head());
    let (past, length) = (row.past(width), row.length(width));
    let mut out = vec![0.0; length * 3 * width];
    for (index, probabilities) in probabilities.iter().enumerate() {
        let position = length - row.tail + index;
        let seen = past + position + 1;
        for h in 0..heads.count {
            let slice = h * head..(h + 1) * head;
            let upstream = &gradient[index * width..][slice.clone()];
            let p = &probabilities[h * seen..][..seen];
            let slopes: Vec<f32> = (0..seen).map(|j| dot(upstream, &row.value(width, j)[slice.clone()])).collect();
            let mean = dot(p, &slopes);
            let query = &row.part(width, position, 0)[slice.clone()];
            for j in 0..seen {
                let score = p[j] * (slopes[j] - mean) * heads.scale;
                let key = &row.key(width, j)[slice.clone()];
                add_scaled(&mut out[position * 3 * width..][slice.clone()], score, key);
                if j >= past {
                    let at = (j - past) * 3 * width;
                    add_scaled(&mut out[at + width..][slice.clone()], score, query);
                    add_scaled(&mut out[at + 2 * width..][slice.clone()], p[j], upstream);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { count: 2, width: 8, scale: 0.5 };

    fn ramp(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.77 + seed).sin()).collect()
    }

    #[test]
    fn a_cached_position_gives_the_same_bits_as_a_computed_one() {
        let fused = ramp(5 * 24, 0.0);
        let whole = Row { past_keys: &[], past_values: &[], fused: &fused, tail: 2 };
        let (want, _) = attend(HEADS, &[whole], false);
        let part =
            |part: usize| -> Vec<f32> { (0..3).flat_map(|p| fused[p * 24 + part * 8..][..8].to_vec()).collect() };
        let (keys, values) = (part(1), part(2));
        let cached = Row { past_keys: &keys, past_values: &values, fused: &fused[3 * 24..], tail: 2 };
        let (got, _) = attend(HEADS, &[cached], true);
        assert_eq!(want, got);
    }

    #[test]
    fn the_reverse_agrees_with_finite_differences() {
        let (past_keys, past_values) = (ramp(16, 3.0), ramp(16, 4.0));
        let fused = ramp(4 * 24, 1.0);
        let weight = ramp(3 * 8, 2.0);
        fn row<'a>(past: &'a [Vec<f32>; 2], fused: &'a [f32]) -> Row<'a> {
            Row { past_keys: &past[0], past_values: &past[1], fused, tail: 3 }
        }
        let past = [past_keys, past_values];
        let loss = |fused: &[f32]| -> f64 {
            let (out, _) = attend(HEADS, &[row(&past, fused)], false);
            out.iter().zip(&weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let (_, kept) = attend(HEADS, &[row(&past, &fused)], true);
        let gradient = attend_reverse(HEADS, &[row(&past, &fused)], &kept, &weight);
        for i in 0..fused.len() {
            let (mut up, mut down) = (fused.clone(), fused.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 2e-3, "{i}: {slope} {}", gradient[i]);
        }
    }
}
