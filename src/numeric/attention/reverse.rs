//! The reverse pass of attention.

use rayon::prelude::*;

use super::{Heads, Row};
use crate::numeric::isa::{Isa, Kind};
use crate::numeric::rows::{add_scaled, dot};

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

#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn reversed(isa: Isa, heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these variants of `Isa` exist only where AVX2 was detected.
        Kind::Avx2 | Kind::Avx512 => unsafe { row_reverse_avx2(heads, row, probabilities, gradient) },
        _ => row_reverse(heads, row, probabilities, gradient),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn row_reverse_avx2(heads: Heads, row: &Row, probabilities: &[Vec<f32>], gradient: &[f32]) -> Vec<f32> {
    row_reverse(heads, row, probabilities, gradient)
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
