//! Causal attention over ragged rows, and its reverse pass: kernels on slices.
//!
//! One query sees its row's past (cached keys and values) and then the row itself up to its own position, in that
//! order; sums over what it sees run sequentially, so a cached position and a computed one give the same bits.

mod block;
mod reverse;

use std::ops::Range;

use rayon::prelude::*;

use super::isa::{Isa, Kind};
pub use reverse::attend_reverse;

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
    let asking: usize = rows.iter().map(|row| row.tail).sum();
    let mut out = vec![0.0; asking * heads.width()];
    let mut rest = out.as_mut_slice();
    let mut jobs = Vec::new();
    for row in rows {
        let length = row.length(heads);
        for first in (length - row.tail..length).step_by(block::QUERIES) {
            let positions = first..length.min(first + block::QUERIES);
            let (own, after) = rest.split_at_mut(positions.len() * heads.width());
            rest = after;
            jobs.push((row, positions, own));
        }
    }
    let compute =
        |(row, positions, out): (&Row, Range<usize>, &mut [f32])| asked(isa, heads, row, positions, out, keep);
    let kept: Vec<Vec<Vec<f32>>> = jobs.into_par_iter().map(compute).collect();
    (out, kept.into_iter().flatten().collect())
}

/// Some queries of a row, compiled for the instructions that are there: the sums are those of
/// [`rows`](super::rows), without fused operations, so that how many terms are taken at once changes no bit.
#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn asked(isa: Isa, heads: Heads, row: &Row, positions: Range<usize>, out: &mut [f32], keep: bool) -> Vec<Vec<f32>> {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX2 was detected.
        Kind::Avx2 => unsafe { x86::queries_avx2(heads, row, positions, out, keep) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX-512F and AVX2 were detected.
        Kind::Avx512 => unsafe { x86::queries_avx512(heads, row, positions, out, keep) },
        _ => block::queries(heads, row, positions, out, keep),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Heads, Range, Row, block};

    #[target_feature(enable = "avx2")]
    pub(super) fn queries_avx2(
        heads: Heads,
        row: &Row,
        at: Range<usize>,
        out: &mut [f32],
        keep: bool,
    ) -> Vec<Vec<f32>> {
        block::queries(heads, row, at, out, keep)
    }

    #[target_feature(enable = "avx2,avx512f")]
    pub(super) fn queries_avx512(
        heads: Heads,
        row: &Row,
        at: Range<usize>,
        out: &mut [f32],
        keep: bool,
    ) -> Vec<Vec<f32>> {
        block::queries(heads, row, at, out, keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::rows::{add_scaled, dot, softmax};

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

    /// One query and one head at a time, by the kernels on rows.
    fn defined(heads: Heads, row: &Row, position: usize) -> (Vec<f32>, Vec<f32>) {
        let seen = row.past(heads) + position + 1;
        let (mut out, mut kept) = (vec![0.0; heads.width()], Vec::new());
        for h in 0..heads.count {
            let seen = heads.first(seen)..seen;
            let score = |j| dot(row.query(heads, position, h), row.key(heads, j, h)) * heads.scale;
            let mut p: Vec<f32> = seen.clone().map(score).collect();
            softmax(&mut p);
            for (j, p) in seen.zip(&p) {
                add_scaled(&mut out[heads.query(h)], *p, row.value(heads, j, h));
            }
            kept.extend(p);
        }
        (out, kept)
    }

    #[test]
    fn blocks_of_queries_give_what_each_gives_alone() {
        let bits = |xs: &[f32]| -> Vec<u32> { xs.iter().map(|x| x.to_bits()).collect() };
        for (head, window, past) in [(4, None, 0), (16, Some(7), 3), (80, None, 70), (64, Some(90), 33), (100, None, 1)]
        {
            let heads = Heads { count: 4, groups: 2, head, scale: 0.3, window };
            let own = ramp(150 * heads.fused(), 0.0);
            let past = [ramp(past * heads.shared(), 3.0), ramp(past * heads.shared(), 4.0)];
            let row = |tail| Row { past_keys: &past[0], past_values: &past[1], fused: &own, tail };
            let rows = [row(150), row(1), row(70)];
            let asking: Vec<usize> = (0..150).chain(149..150).chain(80..150).collect();
            for isa in Isa::all() {
                let (out, kept) = attend(isa, heads, &rows, true);
                assert_eq!(bits(&attend(isa, heads, &rows, false).0), bits(&out));
                for (index, position) in asking.iter().enumerate() {
                    let want = defined(heads, &rows[0], *position);
                    let got = &out[index * heads.width()..][..heads.width()];
                    assert_eq!(bits(got), bits(&want.0), "{} {head} at {position}", isa.name());
                    assert_eq!(bits(&kept[index]), bits(&want.1), "{} {head} at {position}", isa.name());
                }
            }
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
