//! Fused multiply-add, in hardware or computed exactly.

/// How a kernel multiplies and adds with a single rounding.
pub trait Fused {
    /// `a * b + c`, rounded once to nearest even.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// The processor's own instruction. Only for code compiled with the feature: elsewhere `mul_add` would call the
/// platform's `fmaf`.
pub struct Hardware;

impl Fused for Hardware {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Through f64, bit-exact and without branches, so that it vectorises.
pub struct Emulated;

impl Fused for Emulated {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        emulated(a, b, c)
    }
}

/// The product of two f32 is exact in f64 (24 + 24 ≤ 53 bits). The sum may not be: Knuth's TwoSum gives its error,
/// and rounding the sum *to odd* keeps what the last rounding, to f32, must know (53 ≥ 24 + 2 bits).
#[inline(always)]
fn emulated(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let addend = f64::from(c);
    let sum = product + addend;
    let back = sum - product;
    let error = (product - (sum - back)) + (addend - back);
    let bits = sum.to_bits();
    // Inexact and even: move one unit in the direction of the error, which makes it odd. An overflow to infinity
    // or a NaN makes the error NaN, for which `> 0` and `< 0` are both false.
    let even = bits & 1 == 0;
    let away = (error > 0.0) == (sum > 0.0);
    let inexact = error > 0.0 || error < 0.0;
    let step = if away { 1_u64 } else { u64::MAX };
    let odd = if even && inexact { bits.wrapping_add(step) } else { bits };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        #[test]
        fn emulated_equals_fused(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            let (ours, theirs) = (emulated(a, b, c), a.mul_add(b, c));
            prop_assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{a:e} {b:e} {c:e}: {ours:e} {theirs:e}");
        }

        // Operands of like size, where cancellation and ties happen.
        #[test]
        fn emulated_equals_fused_nearby(a in -4096i32..4096, b in -4096i32..4096, c in -16_777_216i32..16_777_216, s in 0i32..60) {
            let scale = f32::from_bits(((127 - s) as u32) << 23);
            let (a, b, c) = (a as f32 * 1.000_1, b as f32 * scale, c as f32 * scale);
            prop_assert_eq!(emulated(a, b, c).to_bits(), a.mul_add(b, c).to_bits());
        }
    }

    #[test]
    fn ties_and_edges() {
        let tiny = f32::from_bits(1);
        for (a, b, c) in [
            (tiny, 0.5, 0.0),
            (tiny, 0.5, tiny),
            (1.0 + f32::EPSILON, 1.0 + f32::EPSILON, -1.0),
            (f32::MAX, 2.0, -f32::MAX),
            (0.0, -1.0, 0.0),
            (-0.0, 1.0, -0.0),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE, 1.0),
            (f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 1.0 + f32::EPSILON),
        ] {
            assert_eq!(emulated(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{a:e} {b:e} {c:e}");
        }
    }
}
