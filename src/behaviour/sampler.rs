//! Samples the next token by temperature and top-p (nucleus sampling, Holtzman et al. 2020).
//!
//! A seed gives the same tokens on every machine: the probabilities are computed in numerics `portable-1`, and the
//! random numbers are those of NumPy's `RandomState`.

use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::{max, softmax};

/// The temperature: the logits are divided by this number before the softmax. The help of `corrigenda diff --seed`
/// states this value.
const TEMPERATURE: f64 = 0.7;
/// The probability mass for top-p sampling: a token is sampled from the smallest set of likeliest tokens whose
/// probabilities add up to at least this value.
const TOP_P: f64 = 0.9;

/// Samples tokens from logits. The same seed gives the same tokens.
pub(super) struct Sampler {
    numbers: NumpyRandomState,
}

impl Sampler {
    pub(super) fn new(seed: u64) -> Self {
        Self { numbers: NumpyRandomState::from_key(&[seed as u32, (seed >> 32) as u32]) }
    }

    /// Returns the id of a sampled token. `logits` are finite, one per token of the vocabulary.
    pub(super) fn sample(&mut self, logits: &[f32]) -> u32 {
        // Differences to the greatest logit stay finite when they are divided.
        let most = max(logits);
        let mut probabilities: Vec<f32> = logits.iter().map(|logit| (logit - most) / TEMPERATURE as f32).collect();
        softmax(&mut probabilities);
        pick(&nucleus(&probabilities), self.numbers.double())
    }
}

/// Returns the smallest set of likeliest tokens whose probabilities add up to at least [`TOP_P`], each with its
/// probability. The likeliest token is first; of tokens with the same probability, the lower id is first.
fn nucleus(probabilities: &[f32]) -> Vec<(u32, f64)> {
    let mut order: Vec<(u32, f64)> = (0..).zip(probabilities.iter().map(|&share| f64::from(share))).collect();
    order.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut mass = 0.0;
    let tokens = order.iter().take_while(|(_, share)| {
        let below = mass < TOP_P;
        mass += share;
        below
    });
    let count = tokens.count();
    order.truncate(count);
    order
}

/// Selects one of `tokens` at random. The second number of each pair is the weight of the token: the probability of a
/// token is its weight divided by the sum of all weights. `uniform` is a random number in [0, 1).
fn pick(tokens: &[(u32, f64)], uniform: f64) -> u32 {
    let total: f64 = tokens.iter().map(|(_, share)| share).sum();
    let mut rest = uniform * total;
    for (token, share) in tokens {
        if rest < *share {
            return *token;
        }
        rest -= share;
    }
    tokens.last().expect("the nucleus has the likeliest token").0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns logits whose softmax at the sampling temperature is `probabilities`.
    fn logits(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|share| (share.ln() * TEMPERATURE) as f32).collect()
    }

    #[test]
    fn the_nucleus_ends_where_the_mass_is_reached() {
        let ids = |probabilities: &[f32]| nucleus(probabilities).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(&[0.06, 0.5, 0.04, 0.35, 0.05]), [1, 3, 0]);
        assert_eq!(ids(&[0.25, 0.25, 0.25, 0.25]), [0, 1, 2, 3]);
        assert_eq!(ids(&[0.02, 0.95, 0.03]), [1]);
    }

    #[test]
    fn a_uniform_number_selects_by_share() {
        let tokens = [(4, 0.5), (1, 0.25)];
        assert_eq!([0.0, 0.6, 0.7, 0.999_999].map(|uniform| pick(&tokens, uniform)), [4, 4, 1, 1]);
    }

    #[test]
    fn sampled_shares_are_those_of_the_nucleus() {
        let logits = logits(&[0.60, 0.04, 0.30, 0.06]);
        let mut sampler = Sampler::new(3);
        let mut counts = [0_u32; 4];
        for _ in 0..4000 {
            counts[sampler.sample(&logits) as usize] += 1;
        }
        // The nucleus contains only the tokens 0 and 2, with probabilities 2/3 and 1/3. With 4000 samples, four
        // standard deviations of the share of token 0 are 0.03.
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!((f64::from(counts[0]) / 4000.0 - 2.0 / 3.0).abs() < 0.03, "{counts:?}");
    }

    #[test]
    fn both_halves_of_the_seed_select_the_stream() {
        let logits = logits(&[0.25; 4]);
        let stream = |seed| {
            let mut sampler = Sampler::new(seed);
            (0..40).map(|_| sampler.sample(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(stream(1), stream(1));
        assert_ne!(stream(1), stream(1 + (1 << 32)));
        assert_ne!(stream(1), stream(2));
    }
}
