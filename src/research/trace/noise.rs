//! Computes the noise that causal tracing adds to the token embeddings of a subject. Equal seeds give equal noise.

use std::fmt;
use std::str::FromStr;

use crate::model::{Model, ModelError, Tokens};
use crate::numeric::random::NumpyRandomState;

/// The largest number in a noise rule, such as the 3 in `s3`. The limit keeps the noise in the range of `f32`.
const MOST: f64 = 1e6;

/// The distribution and the scale of the noise. On the command line, a rule is a text such as `u0.2`, for uniform noise
/// between −0.2 and 0.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoiseRule {
    /// Normal noise. The number is a multiple of the standard deviation of the subjects' embeddings: `s3` means three
    /// standard deviations.
    Spread(f64),
    /// Normal noise. The number is the standard deviation: `0.1` means a standard deviation of 0.1.
    Fixed(f64),
    /// Uniform noise between −x and x for the number x: `u0.2` means x = 0.2.
    Uniform(f64),
}

impl Default for NoiseRule {
    /// Returns the rule `s3`: normal noise of three standard deviations of the subjects' embeddings (Meng et al. 2022).
    fn default() -> Self {
        Self::Spread(3.0)
    }
}

impl FromStr for NoiseRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |level: &str| {
            let number = level.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= MOST);
            number.ok_or_else(|| {
                format!(
                    "`{level}` is not a noise level: expected s3 (standard deviations), 0.1 (fixed) or u0.2 (uniform)"
                )
            })
        };
        match text.as_bytes().first() {
            Some(b's') if text.len() == 1 => Ok(Self::Spread(1.0)),
            Some(b's') => number(&text[1..]).map(Self::Spread),
            Some(b'u') => number(&text[1..]).map(Self::Uniform),
            _ => number(text).map(Self::Fixed),
        }
    }
}

impl fmt::Display for NoiseRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread(factor) => write!(f, "s{factor}"),
            Self::Fixed(scale) => write!(f, "{scale}"),
            Self::Uniform(scale) => write!(f, "u{scale}"),
        }
    }
}

/// The settings of the noise that is added to the embeddings of a subject. The random stream starts again for each
/// fact, so the random numbers for a fact do not depend on the other facts.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The rule from which `scale` is computed.
    pub rule: NoiseRule,
    /// The scale of the noise: the standard deviation of normal noise, or the largest absolute value of uniform noise.
    pub scale: f64,
    /// The seed of the random stream (NumPy's `RandomState`).
    pub seed: u32,
    /// The number of corrupted runs per fact, over which the probabilities are averaged.
    pub samples: usize,
}

impl Noise {
    /// Creates the noise settings and computes the scale of the random numbers from `rule`. `subjects` are the subjects
    /// of all facts; only [`NoiseRule::Spread`] uses them.
    pub fn new(
        rule: NoiseRule,
        model: &Model,
        tokens: &Tokens,
        subjects: &[&str],
        seed: u32,
        samples: usize,
    ) -> Result<Self, ModelError> {
        let scale = match rule {
            NoiseRule::Spread(factor) => factor * spread(model, tokens, subjects)?,
            NoiseRule::Fixed(scale) | NoiseRule::Uniform(scale) => scale,
        };
        Ok(Self { rule, scale, seed, samples })
    }

    /// Returns noise for a subject of `tokens` tokens, `[samples, tokens, width]`. The random stream is divided into
    /// blocks of this size, and `block` is the index of the block that is used, from 0.
    pub(crate) fn draw(&self, tokens: usize, width: usize, block: usize) -> Vec<f64> {
        let mut stream = NumpyRandomState::new(self.seed);
        let uniform = matches!(self.rule, NoiseRule::Uniform(_));
        let mut number = || if uniform { stream.uniform() } else { stream.normal() };
        let count = self.samples * tokens * width;
        (0..block * count).for_each(|_| {
            number();
        });
        (0..count).map(|_| self.scale * number()).collect()
    }
}

/// Returns the standard deviation of all components of the subjects' token embeddings, with divisor n − 1 as in the
/// published code. Each subject is tokenized alone, without special tokens.
fn spread(model: &Model, tokens: &Tokens, subjects: &[&str]) -> Result<f64, ModelError> {
    let mut numbers: Vec<f32> = Vec::new();
    for subject in subjects {
        let encoded = tokens.encode(subject)?;
        let own = encoded.ids.iter().zip(&encoded.spans).filter(|(_, span)| !span.is_empty());
        own.for_each(|(id, _)| numbers.extend(model.token_embedding(*id)));
    }
    let count = numbers.len() as f64;
    let mut total = 0.0;
    for number in &numbers {
        total += f64::from(*number);
    }
    let mean = total / count;
    let mut squares = 0.0;
    for number in &numbers {
        let from = f64::from(*number) - mean;
        squares += from * from;
    }
    Ok((squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for (text, rule) in
            [("s3", NoiseRule::Spread(3.0)), ("0.1", NoiseRule::Fixed(0.1)), ("u0.2", NoiseRule::Uniform(0.2))]
        {
            assert_eq!(text.parse(), Ok(rule));
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!("s".parse(), Ok(NoiseRule::Spread(1.0)));
        for wrong in ["", "x", "s-1", "u", "0", "nan", "inf", "1e7", "m", "t5", "é"] {
            assert!(wrong.parse::<NoiseRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_noise() {
        let noise = Noise { rule: NoiseRule::Fixed(2.0), scale: 2.0, seed: 1, samples: 2 };
        let drawn = noise.draw(1, 3, 0);
        assert_eq!(drawn.len(), 6);
        assert_eq!(drawn[..2], [2.0 * 1.6243453636632417, 2.0 * -0.6117564136500754]);
        assert_eq!(drawn, noise.draw(1, 3, 0));
        let uniform = Noise { rule: NoiseRule::Uniform(0.5), ..noise }.draw(5, 100, 0);
        assert!(uniform.iter().all(|x| x.abs() <= 2.0));
    }
}
