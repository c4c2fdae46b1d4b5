//! Causal attention over ragged rows, and its reverse pass: kernels on slices.
//!
//! One query sees its row's past (cached keys and values) and then the row itself up to its own position, in that
//! order; sums over what it sees run sequentially, so a cached position and a computed one give the same bits.

use std::ops::Range;

use rayon::prelude::*;

use super::isa::{Isa, Kind};
use super::rows::{add_scaled, dot, softmax};

/// What one row offers to its queries. All matrices are row-major.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Cached keys, `[past, shared]`.
    pub past_keys: &'a [f32],
    /// Cached values, `[past, shared]`.
    pub past_values: &'a [f32],
    /// Queries, keys and values of every position of the row, `[length, fused]`.
    pub fused: &'a [f32],
    /// How many of its last positions ask.
    pub tail: usize,
}

/// The heads of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of heads that ask.
    pub count: usize,
    /// Number of heads that have a key and a value: `count / groups` queries share one.
    pub groups: usize,
    /// Width of one head.
    pub head: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// How many positions a query sees, its own included; all before it where nothing is said.
    pub window: Option<usize>,
}

impl Heads {
    /// Width of all queries, and of what they attend to.
    pub fn width(self) -> usize {
        self.count * self.head
    }

    /// Width of all keys, and of all values.
    pub fn shared(self) -> usize {
        self.groups * self.head
    }

    /// Width of queries, keys and values side by side.
    pub fn fused(self) -> usize {
        self.width() + 2 * self.shared()
    }

    /// Where all queries stand among the fused numbers of a position.
    pub fn queries(self) -> Range<usize> {
        0..self.width()
    }

    /// Where all keys stand there.
    pub fn keys(self) -> Range<usize> {
        self.width()..self.width() + self.shared()
    }

    /// Where all values stand there.
    pub fn values(self) -> Range<usize> {
        self.width() + self.shared()..self.fused()
    }

    /// Where the key of head `h` stands among all keys.
    fn group(self, h: usize) -> Range<usize> {
        let first = h / (self.count / self.groups) * self.head;
        first..first + self.head
    }

    /// Where the query of head `h` stands.
    fn query(self, h: usize) -> Range<usize> {
        h * self.head..(h + 1) * self.head
    }

    /// The first position that the last of `seen` sees.
    fn first(self, seen: usize) -> usize {
        self.window.map_or(0, |window| seen.saturating_sub(window))
    }
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn past(&self, heads: Heads) -> usize {
        self.past_keys.len() / heads.shared()
    }

    #[inline(always)]
    fn length(&self, heads: Heads) -> usize {
        self.fused.len() / heads.fused()
    }

    #[inline(always)]
    fn query(&self, heads: Heads, position: usize, h: usize) -> &'a [f32] {
        &self.fused[position * heads.fused()..][heads.query(h)]
    }

    /// Key of head `h` at the `seen`-th position, past first.
    #[inline(always)]
    fn key(&self, heads: Heads, seen: usize, h: usize) -> &'a [f32] {
        let past = self.past(heads);
        match seen.checked_sub(past) {
            None => &self.past_keys[seen * heads.shared()..][heads.group(h)],
            Some(own) => &self.fused[own * heads.fused() + heads.width()..][heads.group(h)],
        }
    }

    #[inline(always)]
    fn value(&self, heads: Heads, seen: usize, h: usize) -> &'a [f32] {
        let past = self.past(heads);
        match seen.checked_sub(past) {
            None => &self.past_values[seen * heads.shared()..][heads.group(h)],
            Some(own) => &self.fused[own * heads.fused() + heads.width() + heads.shared()..][heads.group(h)],
        }
    }
}

/// The attended values of every asking position, `[Σ tails, width]`, and, when `keep` is set, the probabilities of
/// each: `[heads, seen]`, as the reverse pass needs them.
pub fn attend(isa: Isa, heads: Heads, rows: &[Row], keep: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let queries: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, r)| (r.length(heads) - r.tail..r.length(heads)).map(move |position| (row, position)))
        .collect();
    let mut out = vec![0.0; queries.len() * heads.width()];
    let kept = out
        .par_chunks_mut(heads.width())
        .zip(&queries)
        .map(|(out, &(row, position))| asked(isa, heads, &rows[row], position, out, keep))
        .collect();
    (out, kept)
}

/// One query of every head, compiled for the instructions that are there: the sums are those of
/// [`rows`](super::rows), without fused operations, so that how many terms are taken at once changes no bit.
#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn asked(isa: Isa, heads: Heads, row: &Row, position: usize, out: &mut [f32], keep: bool) -> Vec<f32> {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these variants of `Isa` exist only where AVX2 was detected.
        Kind::Avx2 | Kind::Avx512 => unsafe { x86::query(heads, row, position, out, keep) },
        _ => query(heads, row, position, out, keep),
    }
}

#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn reversed(isa: Isa, heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these variants of `Isa` exist only where AVX2 was detected.
        Kind::Avx2 | Kind::Avx512 => unsafe { x86::row_reverse(heads, row, probabilities, gradient) },
        _ => row_reverse(heads, row, probabilities, gradient),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Heads, Row};

    #[target_feature(enable = "avx2")]
    pub(super) fn query(heads: Heads, row: &Row, position: usize, out: &mut [f32], keep: bool) -> Vec<f32> {
        super::query(heads, row, position, out, keep)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn row_reverse(heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
        super::row_reverse(heads, row, probabilities, gradient)
    }
}

#[inline(always)]
fn query(heads: Heads, row: &Row, position: usize, out: &mut [f32], keep: bool) -> Vec<f32> {
    let seen = row.past(heads) + position + 1;
    let first = heads.first(seen);
    let count = seen - first;
    let mut probabilities = vec![0.0; count * if keep { heads.count } else { 1 }];
    for h in 0..heads.count {
        let query = row.query(heads, position, h);
        let p = if keep { &mut probabilities[h * count..][..count] } else { &mut probabilities[..] };
        for (index, p) in p.iter_mut().enumerate() {
            *p = dot(query, row.key(heads, first + index, h)) * heads.scale;
        }
        softmax(p);
        for (index, p) in p.iter().enumerate() {
            add_scaled(&mut out[heads.query(h)], *p, row.value(heads, first + index, h));
        }
    }
    if keep { probabilities } else { Vec::new() }
}

/// The gradient by `fused` of every row, laid end to end (`[Σ lengths, fused]`), from the gradient by the attended
/// values (`[Σ tails, width]`). What is cached is constant and gets none.
pub fn attend_reverse(isa: Isa, heads: Heads, rows: &[Row], probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    let width = heads.width();
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
            reversed(isa, heads, row, &probabilities[first..][..row.tail], gradient)
        })
        .collect();
    parts.concat()
}

#[inline(always)]
fn row_reverse(heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    let (past, length) = (row.past(heads), row.length(heads));
    let mut out = vec![0.0; length * heads.fused()];
    for (index, probabilities) in probabilities.iter().enumerate() {
        let position = length - row.tail + index;
        let seen = past + position + 1;
        let first = heads.first(seen);
        for h in 0..heads.count {
            let upstream = &gradient[index * heads.width()..][heads.query(h)];
            let p = &probabilities[h * (seen - first)..][..seen - first];
            let slopes: Vec<f32> = (first..seen).map(|j| dot(upstream, row.value(heads, j, h))).collect();
            let mean = dot(p, &slopes);
            let query = row.query(heads, position, h);
            for (j, (p, slope)) in (first..).zip(p.iter().zip(&slopes)) {
                let score = p * (slope - mean) * heads.scale;
                let at = position * heads.fused();
                add_scaled(&mut out[at..][heads.query(h)], score, row.key(heads, j, h));
                if let Some(own) = j.checked_sub(past) {
                    let at = own * heads.fused() + heads.width();
                    add_scaled(&mut out[at..][heads.group(h)], score, query);
                    add_scaled(&mut out[at + heads.shared()..][heads.group(h)], *p, upstream);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { count: 2, groups: 2, head: 4, scale: 0.5, window: None };
    /// Two queries share a key, and a query sees three positions.
    const SHARED: Heads = Heads { count: 2, groups: 1, head: 4, scale: 0.5, window: Some(3) };

    fn ramp(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.77 + seed).sin()).collect()
    }

    #[test]
    fn a_cached_position_gives_the_same_bits_as_a_computed_one() {
        for heads in [HEADS, SHARED] {
            let (width, shared, fused) = (heads.width(), heads.shared(), heads.fused());
            let all = ramp(5 * fused, 0.0);
            let whole = Row { past_keys: &[], past_values: &[], fused: &all, tail: 2 };
            let (want, _) = attend(Isa::detect(), heads, &[whole], false);
            let part = |from: usize| -> Vec<f32> {
                (0..3).flat_map(|position| all[position * fused + from..][..shared].to_vec()).collect()
            };
            let (keys, values) = (part(width), part(width + shared));
            let cached = Row { past_keys: &keys, past_values: &values, fused: &all[3 * fused..], tail: 2 };
            let (got, _) = attend(Isa::detect(), heads, &[cached], true);
            assert_eq!(want, got);
        }
    }

    #[test]
    fn the_reverse_agrees_with_finite_differences() {
        for heads in [HEADS, SHARED] {
            check_reverse(heads);
        }
    }

    fn check_reverse(heads: Heads) {
        let past = [ramp(2 * heads.shared(), 3.0), ramp(2 * heads.shared(), 4.0)];
        let fused = ramp(4 * heads.fused(), 1.0);
        let weight = ramp(3 * heads.width(), 2.0);
        fn row<'a>(past: &'a [Vec<f32>; 2], fused: &'a [f32]) -> Row<'a> {
            Row { past_keys: &past[0], past_values: &past[1], fused, tail: 3 }
        }
        let loss = |fused: &[f32]| -> f64 {
            let (out, _) = attend(Isa::detect(), heads, &[row(&past, fused)], false);
            out.iter().zip(&weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let (_, kept) = attend(Isa::detect(), heads, &[row(&past, &fused)], true);
        let gradient = attend_reverse(Isa::detect(), heads, &[row(&past, &fused)], &kept, &weight);
        for i in 0..fused.len() {
            let (mut up, mut down) = (fused.clone(), fused.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 2e-3, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_window_hides_what_is_far() {
        let far = |heads: Heads| {
            let mut fused = ramp(5 * heads.fused(), 0.0);
            let (before, _) = attend(
                Isa::detect(),
                heads,
                &[Row { past_keys: &[], past_values: &[], fused: &fused, tail: 1 }],
                false,
            );
            fused[..2 * heads.fused()].fill(9.0);
            let (after, _) = attend(
                Isa::detect(),
                heads,
                &[Row { past_keys: &[], past_values: &[], fused: &fused, tail: 1 }],
                false,
            );
            before == after
        };
        assert!(far(SHARED) && !far(HEADS));
    }
}
