//! Applies rotary position embedding (RoPE): rotates pairs of elements of each query and key by angles that are
//! proportional to the position of the token.

use crate::numeric::elementary::{cos, pow, sin};

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
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

/// The RoPE of one model: how elements are paired, and how fast each pair rotates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pairing: RopePairing,
    /// The angle by which each pair is rotated per position, in radians, after scaling.
    frequencies: Vec<f32>,
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
    pub fn new(pairing: RopePairing, numbers: usize, base: f64, scaling: RopeScaling) -> Self {
        let pairs = numbers / 2;
        let frequency = |pair: usize| {
            let own = (1.0 / pow(base, (2 * pair) as f64 / numbers as f64)) as f32;
            scaled(f64::from(own), scaling) as f32
        };
        Self { pairing, frequencies: (0..pairs).map(frequency).collect() }
    }

    /// Computes the cosines and sines for the positions `first .. first + count`. Each angle is rounded to f32 before
    /// its cosine and sine are computed, as in transformers.
    pub fn table(&self, first: usize, count: usize) -> RopeTable<'_> {
        let angles = (first..first + count)
            .flat_map(|position| self.frequencies.iter().map(move |frequency| position as f32 * frequency));
        let turns = angles.map(|angle| (cos(f64::from(angle)) as f32, sin(f64::from(angle)) as f32)).collect();
        RopeTable { rotary: self, first, turns }
    }
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
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

impl RopeTable<'_> {
    /// Rotates `head`, the query or key of one head at `position`, in place.
    pub fn apply_rope(&self, position: usize, head: &mut [f32]) {
        self.each(position, head, |a, b, cos, sin| (a * cos - b * sin, b * cos + a * sin));
    }

    /// Applies the inverse rotation in place. This is the backward pass of [`RopeTable::apply_rope`].
    pub fn apply_rope_inverse(&self, position: usize, head: &mut [f32]) {
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
            let rotary = Rope::new(pairing, 8, 10_000.0, RopeScaling::None);
            let turns = rotary.table(5, 3);
            let head: Vec<f32> = (0..10).map(|x| 1.0 + x as f32).collect();
            let mut turned = head.clone();
            turns.apply_rope(7, &mut turned);
            assert_eq!(turned[8..], head[8..]);
            assert!((turned[0] - head[0]).abs() > 0.1);
            turns.apply_rope_inverse(7, &mut turned);
            assert!(turned.iter().zip(&head).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn llama3_leaves_fast_waves_and_slows_slow_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(scaled(1.0, scaling), 1.0);
        assert_eq!(scaled(1e-5, scaling), 1e-5 / 8.0);
        let between = 2.0 * std::f64::consts::PI / 4096.0;
        let blended = scaled(between, scaling);
        assert!(blended < between && blended > between / 8.0);
        assert_eq!(scaled(1.0, RopeScaling::Linear { factor: 2.0 }), 0.5);
    }
}
