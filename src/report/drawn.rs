//! How texts were made with which both sides go on.

use schemars::JsonSchema;
use serde::Serialize;

/// How texts were made with which both sides go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Drawn {
    /// Tokens after the prompt, at most.
    pub tokens: usize,
    /// The seed, where the texts were drawn; without one, the likeliest token followed every time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Prompts after which it was not looked how both sides go on: there were too many.
    pub left_out: usize,
}

impl Drawn {
    /// The same in words, as the end of a sentence.
    pub fn words(&self) -> String {
        let left = match self.left_out {
            0 => String::new(),
            count => format!("; {count} more prompts were left out"),
        };
        match self.seed {
            None => format!("{} tokens at most, the likeliest each time{left}", self.tokens),
            Some(seed) => format!(
                "{} tokens at most, drawn with seed {seed}: a draw need not begin with the likeliest answer{left}",
                self.tokens
            ),
        }
    }
}
