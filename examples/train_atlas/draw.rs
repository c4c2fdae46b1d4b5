//! Samples training text with a seeded generator: sentences, documents and batches.

use tokenizers::Tokenizer;

use crate::Fallible;
use crate::seed::Draw;
use crate::vocabulary::{END, encode};
use crate::world::World;

/// The settings for the sampling of training text.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Recipe {
    /// Share of sentences that follow an unrelated sentence
    #[arg(long, default_value_t = 0.4)]
    pub behind: f64,
    /// Share of the unrelated sentences that state no fact
    #[arg(long, default_value_t = 0.3)]
    pub filler: f64,
    /// Weight of an object's tokens in the loss; all others have weight 1
    #[arg(long, default_value_t = 4.0)]
    pub object_weight: f32,
}

/// Token ids, each with the weight of its prediction in the loss.
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

/// A source of random training text about the facts of one world.
pub(crate) struct Source<'a> {
    pub world: &'a World,
    pub tokenizer: &'a Tokenizer,
    pub recipe: &'a Recipe,
}

impl Source<'_> {
    /// Appends the sentence of a random fact in a random trained phrasing.
    fn fact(&self, draw: &mut Draw, text: &mut Text) -> Fallible<()> {
        let fact = &self.world.facts[draw.below(self.world.facts.len())];
        let trained = self.world.trained(fact);
        let phrasing = trained[draw.below(trained.len())];
        let whole = encode(self.tokenizer, &self.world.sentence(fact, phrasing))?;
        // The object is between a space and a full stop. No token crosses these two boundaries, so the parts can be
        // tokenized separately.
        let prompt = encode(self.tokenizer, &self.world.prompt(fact, phrasing))?.len();
        let object = prompt..prompt + encode(self.tokenizer, &format!(" {}", fact.object))?.len();
        for (index, id) in whole.into_iter().enumerate() {
            text.push(id, if object.contains(&index) { self.recipe.object_weight } else { 1.0 });
        }
        Ok(())
    }

    /// Appends a document: the sentence of a fact and the token that ends a document. With probability `behind`, an
    /// unrelated sentence comes first.
    fn document(&self, draw: &mut Draw, text: &mut Text) -> Fallible<()> {
        if draw.unit() < self.recipe.behind {
            if draw.unit() < self.recipe.filler && !self.world.fillers.is_empty() {
                let filler = &self.world.fillers[draw.below(self.world.fillers.len())];
                encode(self.tokenizer, filler)?.into_iter().for_each(|id| text.push(id, 1.0));
            } else {
                self.fact(draw, text)?;
            }
        }
        self.fact(draw, text)?;
        text.push(END, 1.0);
        Ok(())
    }

    /// Returns `count` rows of `length` tokens. Each row starts with the token that separates documents.
    pub(crate) fn batch(&self, draw: &mut Draw, count: usize, length: usize) -> Fallible<Vec<Text>> {
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let mut text = Text::default();
            text.push(END, 1.0);
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
