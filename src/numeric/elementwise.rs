//! One function over many numbers, compiled for the instructions that are there.
//!
//! What is called takes each number on its own, without fused operations (see [`elementary`](super::elementary)): how
//! many are taken at once changes the time and no bit.

use rayon::prelude::*;

use super::isa::{Isa, Kind};
use super::rows::GRAIN;

/// `x ← f(x)` for every number.
pub fn map(isa: Isa, xs: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    xs.par_chunks_mut(GRAIN).for_each(|xs| one(isa, xs, &f));
}

/// `x ← f(x, y)` for every number of two slices of one length.
pub fn zip(isa: Isa, xs: &mut [f32], ys: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    debug_assert_eq!(xs.len(), ys.len());
    xs.par_chunks_mut(GRAIN).zip(ys.par_chunks(GRAIN)).for_each(|(xs, ys)| two(isa, xs, ys, &f));
}

#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn one(isa: Isa, xs: &mut [f32], f: impl Fn(f32) -> f32) {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX2 was detected.
        Kind::Avx2 => unsafe { x86::one_avx2(xs, f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX-512F and AVX2 were detected.
        Kind::Avx512 => unsafe { x86::one_avx512(xs, f) },
        _ => each(xs, f),
    }
}

#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn two(isa: Isa, xs: &mut [f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX2 was detected.
        Kind::Avx2 => unsafe { x86::two_avx2(xs, ys, f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX-512F and AVX2 were detected.
        Kind::Avx512 => unsafe { x86::two_avx512(xs, ys, f) },
        _ => pairs(xs, ys, f),
    }
}

#[inline(always)]
fn each(xs: &mut [f32], f: impl Fn(f32) -> f32) {
    xs.iter_mut().for_each(|x| *x = f(*x));
}

#[inline(always)]
fn pairs(xs: &mut [f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) {
    xs.iter_mut().zip(ys).for_each(|(x, y)| *x = f(*x, *y));
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{each, pairs};

    #[target_feature(enable = "avx2")]
    pub(super) fn one_avx2(xs: &mut [f32], f: impl Fn(f32) -> f32) {
        each(xs, f);
    }

    #[target_feature(enable = "avx2,avx512f")]
    pub(super) fn one_avx512(xs: &mut [f32], f: impl Fn(f32) -> f32) {
        each(xs, f);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn two_avx2(xs: &mut [f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) {
        pairs(xs, ys, f);
    }

    #[target_feature(enable = "avx2,avx512f")]
    pub(super) fn two_avx512(xs: &mut [f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) {
        pairs(xs, ys, f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::elementary::{gelu, gelu_exact, gelu_slope, silu};

    #[test]
    fn every_instruction_set_gives_what_one_number_alone_gives() {
        // A length that fills no vector, and more than one thread takes.
        let xs: Vec<f32> = (0..GRAIN + 37).map(|i| (i as f32 * 0.37).sin() * 20.0).collect();
        let functions: [fn(f32) -> f32; 4] = [gelu, gelu_slope, silu, gelu_exact];
        let bits = |xs: &[f32]| -> Vec<u32> { xs.iter().map(|x| x.to_bits()).collect() };
        for isa in Isa::all() {
            for function in functions {
                let want: Vec<f32> = xs.iter().map(|&x| std::hint::black_box(function)(x)).collect();
                let mut mapped = xs.clone();
                map(isa, &mut mapped, function);
                assert_eq!(bits(&mapped), bits(&want), "{}", isa.name());
            }
            let want: Vec<f32> = xs.iter().map(|&x| std::hint::black_box(x) * gelu_slope(x)).collect();
            let mut zipped = xs.clone();
            zip(isa, &mut zipped, &xs, |g, x| g * gelu_slope(x));
            assert_eq!(bits(&zipped), bits(&want), "{}", isa.name());
            let mut inlined = xs.clone();
            map(isa, &mut inlined, gelu);
            let want: Vec<f32> = xs.iter().map(|&x| std::hint::black_box(gelu as fn(f32) -> f32)(x)).collect();
            assert_eq!(bits(&inlined), bits(&want), "{}", isa.name());
        }
    }
}
