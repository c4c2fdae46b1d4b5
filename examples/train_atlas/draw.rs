//! Seeded draws: numbers, sentences, documents, batches.

use tokenizers::Tokenizer;

use crate::Fallible;
use crate::vocabulary::{END, encode};
use crate::world::World;

/// The output function of splitmix64.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// splitmix64; its whole state is one number.
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub u64);

impl Draw {
    /// A stream for `seed`; neighbouring seeds give unrelated streams.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// From the standard normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts `list` into a drawn order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// How training text is drawn.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Recipe {
    /// Share of sentences that stand behind an unrelated one
    #[arg(long, default_value_t = 0.4)]
    pub behind: f64,
    /// Share of the unrelated sentences that state no fact
    #[arg(long, default_value_t = 0.3)]
    pub filler: f64,
    /// Weight of an object's tokens in the loss; all others count 1
    #[arg(long, default_value_t = 4.0)]
    pub object_weight: f32,
}

/// Token ids, each with its weight in the loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub ids: Vec<u32>,
    pub weights: Vec<f32>,
}

impl Text {
    fn push(&mut self, id: u32, weight: f32) {
        self.ids.push(id);
        self.weights.push(weight);
    }
}

/// Draws training text of one world.
pub(crate) struct Source<'a> {
    pub world: &'a World,
    pub tokenizer: &'a Tokenizer,
    pub recipe: &'a Recipe,
}

impl Source<'_> {
    /// A fact in a trained phrasing, behind `lead`.
    fn fact(&self, draw: &mut Draw, lead: &str, text: &mut Text) -> Fallible<()> {
        let fact = &self.world.facts[draw.below(self.world.facts.len())];
        let trained = self.world.trained(fact);
        let phrasing = trained[draw.below(trained.len())];
        let prompt = encode(self.tokenizer, &format!("{lead}{}", self.world.prompt(fact, phrasing)))?;
        let object = encode(self.tokenizer, &format!(" {}", fact.object))?;
        prompt.into_iter().for_each(|id| text.push(id, 1.0));
        object.into_iter().for_each(|id| text.push(id, self.recipe.object_weight));
        encode(self.tokenizer, ".")?.into_iter().for_each(|id| text.push(id, 1.0));
        Ok(())
    }

    /// A fact, sometimes behind an unrelated sentence, and the end of the document.
    fn document(&self, draw: &mut Draw, text: &mut Text) -> Fallible<()> {
        let mut lead = "";
        if draw.unit() < self.recipe.behind {
            if draw.unit() < self.recipe.filler && !self.world.fillers.is_empty() {
                let filler = &self.world.fillers[draw.below(self.world.fillers.len())];
                encode(self.tokenizer, filler)?.into_iter().for_each(|id| text.push(id, 1.0));
            } else {
                self.fact(draw, "", text)?;
            }
            lead = " ";
        }
        self.fact(draw, lead, text)?;
        text.push(END, 1.0);
        Ok(())
    }

    /// `count` rows of `length` tokens, each starting with a document's first token.
    pub(crate) fn batch(&self, draw: &mut Draw, count: usize, length: usize) -> Fallible<Vec<Text>> {
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let mut text = Text::default();
            while text.ids.len() < length {
                self.document(draw, &mut text)?;
            }
            text.ids.truncate(length);
            text.weights.truncate(length);
            rows.push(text);
        }
        Ok(rows)
    }
}
