//! The elementary functions of `portable-1`, from additions and multiplications only.
//!
//! They are written without branches and without fused operations, so that every compiler may vectorise them at
//! will and none can change a bit.

/// `e^x` in f32: 0 below −87.33 (where the result would be subnormal), infinity above 88.37.
///
/// Cody and Waite's reduction to `|r| ≤ ln 2 / 2` and a polynomial of degree six (Cephes `expf`); within 2 ulp.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.33;
    const HIGHEST: f32 = 88.37;
    // 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + SHIFT;
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    let whole = shifted - SHIFT;
    // The high part of ln 2 has nine bits: its product with `whole` is exact.
    let r = (clamped - whole * 0.693_359_4) - whole * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    let y = y * power;
    let y = if x < LOWEST { 0.0 } else { y };
    if x > HIGHEST { f32::INFINITY } else { y }
}

/// `√(2/π)`.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// The logistic function of twice the argument of GELU's tanh: `½ (1 + tanh u) = σ(2u)`.
#[inline(always)]
fn gate(x: f32) -> f32 {
    let u = ROOT * (x + CUBIC * (x * x * x));
    1.0 / (1.0 + exp(-2.0 * u))
}

/// GELU in its tanh form (`gelu_new`): `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * gate(x)
}

/// The derivative of [`gelu`].
#[inline(always)]
pub fn gelu_slope(x: f32) -> f32 {
    let s = gate(x);
    let du = ROOT * (1.0 + 3.0 * CUBIC * (x * x));
    s + x * (2.0 * s * (1.0 - s)) * du
}

/// The natural logarithm in f64 (`libm`, pinned).
#[inline]
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// `e^x` in f64 (`libm`, pinned): for the few numbers that people are shown.
#[inline]
pub fn exp64(x: f64) -> f64 {
    libm::exp(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn grid(low: f32, high: f32, count: usize) -> impl Iterator<Item = f32> {
        (0..count).map(move |i| low + (high - low) * (i as f32 / count as f32))
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for x in grid(-87.3, 88.3, 200_001) {
            let exact = libm::exp(f64::from(x));
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            let error = (f64::from(exp(x)) - exact).abs() / ulp;
            assert!(error < 2.0, "exp({x}): {error} ulp");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(100.0), f32::INFINITY);
    }

    #[test]
    fn gelu_and_its_slope_agree_with_f64() {
        for x in grid(-12.0, 12.0, 100_001) {
            let wide = f64::from(x);
            let u = 0.797_884_560_802_865_4 * (wide + 0.044_715 * wide.powi(3));
            let exact = 0.5 * wide * (1.0 + libm::tanh(u));
            assert!((f64::from(gelu(x)) - exact).abs() < 3e-7 * (1.0 + wide.abs()), "gelu({x})");
            let slope = 0.5 * (1.0 + libm::tanh(u))
                + 0.5
                    * wide
                    * (1.0 - libm::tanh(u).powi(2))
                    * 0.797_884_560_802_865_4
                    * (1.0 + 3.0 * 0.044_715 * wide * wide);
            assert!((f64::from(gelu_slope(x)) - slope).abs() < 2e-6, "slope at {x}");
        }
    }

    /// The committed bits of `portable-1`: a change of any of them is a new numerics.
    #[test]
    fn golden_bits() {
        let mut bytes = Vec::new();
        for x in grid(-90.0, 90.0, 100_000) {
            bytes.extend(exp(x).to_le_bytes());
            bytes.extend(gelu(x).to_le_bytes());
            bytes.extend(gelu_slope(x).to_le_bytes());
            bytes.extend(ln(f64::from(x).abs() + 1e-3).to_le_bytes());
            bytes.extend(exp64(f64::from(x)).to_le_bytes());
        }
        assert_eq!(Digest::of(&bytes).short(), "61dd9e5ac5e7");
    }
}
