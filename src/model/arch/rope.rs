//! Applies rotary position embedding (RoPE): rotates pairs of elements of each query and key by angles that are
//! proportional to the position of the token.

use crate::numeric::elementary::{cos, ln, pow, sin};

/// How the elements of a head's query or key are paired for the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// Pairs element `i` with element `i + n/2`, where `n` is the number of rotated elements (NeoX, Llama, Mistral,
    /// Qwen).
    Halves,
    /// Pairs element `2i` with element `2i + 1` (GPT-J).
    Neighbours,
}

/// The scaling of the rotation frequencies, which extends the context length beyond that of the training texts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// All frequencies are divided by a factor.
    Linear {
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high frequencies are unchanged, and frequencies in between are
    /// interpolated (Llama 3.1).
    Llama3 {
        factor: f64,
        /// `low_freq_factor` in config.json. A frequency is low if its wavelength, in tokens, is above
        /// `original / low`.
        low: f64,
        /// `high_freq_factor` in config.json. A frequency is high if its wavelength, in tokens, is below
        /// `original / high`.
        high: f64,
        /// `original_max_position_embeddings` in config.json: the context length before scaling, in tokens.
        original: f64,
    },
    /// YaRN (Peng et al. 2023): frequencies whose wavelength is long are divided by `factor`, those whose wavelength is
    /// short are unchanged, and a linear ramp over the index of the pair is between them.
    Yarn {
        factor: f64,
        /// `original_max_position_embeddings` in config.json: the context length before scaling, in tokens.
        original: f64,
        /// `beta_fast` in config.json. A pair that turns at least this often over `original` tokens is unchanged.
        fast: f64,
        /// `beta_slow` in config.json. A pair that turns at most this often over `original` tokens is divided.
        slow: f64,
        /// Whether the ends of the ramp are rounded to whole indices.
        truncate: bool,
    },
    /// LongRoPE (Ding et al. 2024) for texts up to the original context length: every frequency is divided by its own
    /// factor, `short_factor` in config.json.
    LongRope {
        factors: Vec<f64>,
    },
    /// NTK-aware scaling with a fixed `alpha` (Hunyuan): the base is multiplied by `alpha^(n / (n − 2))`, where `n` is
    /// the number of rotated elements.
    NtkAlpha {
        alpha: f64,
    },
}

/// The RoPE of one model: how elements are paired, and how fast each pair rotates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pairing: RopePairing,
    /// The angle by which each pair is rotated per position, in radians, after scaling.
    frequencies: Vec<f32>,
    /// The factor of every cosine and sine, which multiplies queries and keys. 1 except for YaRN and LongRoPE.
    amplitude: f32,
    /// The maximum number of positions for which these frequencies are right; `None` if there is no limit. A model
    /// rotates longer texts in another way, which is not supported.
    limit: Option<usize>,
}

/// The cosine and the sine of the rotation angle of every pair, for a range of positions.
pub struct RopeTable<'a> {
    rotary: &'a Rope,
    first: usize,
    /// The cosine and the sine of the rotation angle of each pair of elements, `[positions, pairs]`.
    turns: Vec<(f32, f32)>,
}

impl Rope {
    /// Creates a RoPE that rotates the first `numbers` elements of every head. Before scaling, pair `i` rotates by
    /// `base^(−2i / numbers)` radians per position.
    pub fn new(pairing: RopePairing, numbers: usize, base: f64, scaling: &RopeScaling) -> Self {
        let base = match scaling {
            RopeScaling::NtkAlpha { alpha } => base * pow(*alpha, numbers as f64 / (numbers as f64 - 2.0)),
            _ => base,
        };
        let frequency = |pair: usize| {
            let own = (1.0 / pow(base, (2 * pair) as f64 / numbers as f64)) as f32;
            scaled(f64::from(own), pair, (numbers, base), scaling) as f32
        };
        Self { pairing, frequencies: (0..numbers / 2).map(frequency).collect(), amplitude: 1.0, limit: None }
    }

    /// Returns this RoPE with a factor for every cosine and sine, and with the maximum number of positions.
    pub fn with(self, amplitude: f32, limit: Option<usize>) -> Self {
        Self { amplitude, limit, ..self }
    }

    /// Returns the maximum number of positions for which the frequencies are right; `None` if there is no limit.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Computes the cosines and sines for the positions `first .. first + count`. Each angle is rounded to f32 before
    /// its cosine and sine are computed, as in transformers.
    pub fn table(&self, first: usize, count: usize) -> RopeTable<'_> {
        let angles = (first..first + count)
            .flat_map(|position| self.frequencies.iter().map(move |frequency| position as f32 * frequency));
        let scaled = |number: f64| number as f32 * self.amplitude;
        let turns = angles.map(|angle| (scaled(cos(f64::from(angle))), scaled(sin(f64::from(angle))))).collect();
        RopeTable { rotary: self, first, turns }
    }
}

/// Returns the scaled frequency of the pair with the index `pair`. `numbers` is the number of rotated elements.
fn scaled(frequency: f64, pair: usize, (numbers, base): (usize, f64), scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None | RopeScaling::NtkAlpha { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::LongRope { ref factors } => frequency / factors[pair],
        RopeScaling::Yarn { factor, original, fast, slow, truncate } => {
            let (low, high) = yarn_ramp((numbers, base), original, [fast, slow], truncate);
            let share = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
            share * frequency / factor + (1.0 - share) * frequency
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            let wave = 2.0 * std::f64::consts::PI / frequency;
            if wave > original / low {
                frequency / factor
            } else if wave < original / high {
                frequency
            } else {
                let share = (original / wave - low) / (high - low);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}

/// Returns the indices of the pairs between which YaRN interpolates. `turns` are the numbers of turns over `original`
/// tokens at both ends.
fn yarn_ramp((numbers, base): (usize, f64), original: f64, turns: [f64; 2], truncate: bool) -> (f64, f64) {
    let index = |count: f64| numbers as f64 * ln(original / (count * 2.0 * std::f64::consts::PI)) / (2.0 * ln(base));
    let [low, high] = turns.map(index);
    let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(numbers as f64 - 1.0));
    // As in transformers: equal ends would divide by zero.
    if low == high { (low, high + 0.001) } else { (low, high) }
}

impl RopeTable<'_> {
    /// Rotates `head`, the query or key of one head at `position`, in place.
    pub fn apply_rope(&self, position: usize, head: &mut [f32]) {
        self.each(position, head, |a, b, cos, sin| (a * cos - b * sin, b * cos + a * sin));
    }

    /// Applies the transposed map in place: the inverse rotation, with the same amplitude. This is the backward pass of
    /// [`RopeTable::apply_rope`].
    pub fn apply_rope_transposed(&self, position: usize, head: &mut [f32]) {
        self.each(position, head, |a, b, cos, sin| (a * cos + b * sin, b * cos - a * sin));
    }

    fn each(&self, position: usize, head: &mut [f32], turned: impl Fn(f32, f32, f32, f32) -> (f32, f32)) {
        let pairs = self.rotary.frequencies.len();
        let turns = &self.turns[(position - self.first) * pairs..][..pairs];
        for (pair, &(cos, sin)) in turns.iter().enumerate() {
            let (a, b) = match self.rotary.pairing {
                RopePairing::Halves => (pair, pair + pairs),
                RopePairing::Neighbours => (2 * pair, 2 * pair + 1),
            };
            (head[a], head[b]) = turned(head[a], head[b], cos, sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes_a_rotation() {
        for pairing in [RopePairing::Halves, RopePairing::Neighbours] {
            let rotary = Rope::new(pairing, 8, 10_000.0, &RopeScaling::None);
            let turns = rotary.table(5, 3);
            let head: Vec<f32> = (0..10).map(|x| 1.0 + x as f32).collect();
            let mut turned = head.clone();
            turns.apply_rope(7, &mut turned);
            assert_eq!(turned[8..], head[8..]);
            assert!((turned[0] - head[0]).abs() > 0.1);
            turns.apply_rope_transposed(7, &mut turned);
            assert!(turned.iter().zip(&head).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn llama3_leaves_fast_waves_and_slows_slow_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let of = |frequency: f64, by: &RopeScaling| scaled(frequency, 0, (8, 1e4), by);
        assert_eq!(of(1.0, &scaling), 1.0);
        assert_eq!(of(1e-5, &scaling), 1e-5 / 8.0);
        let between = 2.0 * std::f64::consts::PI / 4096.0;
        let blended = of(between, &scaling);
        assert!(blended < between && blended > between / 8.0);
        assert_eq!(of(1.0, &RopeScaling::Linear { factor: 2.0 }), 0.5);
    }

    /// The first and the last of 64 pairs are those of a text that is not extended, and of one that is interpolated.
    #[test]
    fn yarn_divides_only_slow_pairs() {
        let yarn = RopeScaling::Yarn { factor: 4.0, original: 32_768.0, fast: 32.0, slow: 1.0, truncate: true };
        let of = |scaling| Rope::new(RopePairing::Halves, 128, 1e6, &scaling).frequencies;
        let (own, extended) = (of(RopeScaling::None), of(yarn));
        assert_eq!(own[..20], extended[..20]);
        assert!((40..64).all(|pair| (extended[pair] * 4.0 - own[pair]).abs() < 1e-6 * own[pair]));
        assert!(extended[30] < own[30] && extended[30] * 4.0 > own[30]);
        let (low, high) = yarn_ramp((4, 1e4), 64.0, [1.0, 1.0], false);
        assert!(high > low, "equal ends");
    }

    /// The backward pass multiplies by the amplitude too: `⟨R x, y⟩ = ⟨x, Rᵀ y⟩`.
    #[test]
    fn the_transposed_map_has_the_amplitude() {
        let rotary = Rope::new(RopePairing::Halves, 4, 100.0, &RopeScaling::None).with(1.5, Some(9));
        let table = rotary.table(3, 1);
        let (x, y) = ([1.0, -2.0, 0.5, 3.0], [0.25, 1.0, -1.0, 2.0]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (mut turned, mut back) = (x, y);
        table.apply_rope(3, &mut turned);
        table.apply_rope_transposed(3, &mut back);
        assert!((dot(&turned, &y) - dot(&x, &back)).abs() < 1e-5);
        assert!((dot(&turned, &turned) - 2.25 * dot(&x, &x)).abs() < 1e-4);
        assert_eq!(rotary.limit(), Some(9));
    }
}
