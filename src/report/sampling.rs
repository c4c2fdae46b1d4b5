//! Defines the settings with which the two compared models generate continuations of prompts.

use schemars::JsonSchema;
use serde::Serialize;

/// The settings with which the two compared models generated their continuations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Drawn")]
pub struct ContinuationSettings {
    /// The maximum number of tokens that are generated after a prompt.
    pub tokens: usize,
    /// The seed of the sampling; absent for greedy decoding, which always takes the likeliest token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The number of prompts that were not continued, because the number of continuations in a report is limited.
    pub left_out: usize,
}

impl ContinuationSettings {
    /// Formats the settings and the number of omitted prompts for the end of a sentence, for example "at most 20
    /// tokens, the likeliest one each time; 3 more prompts were left out".
    pub fn words(&self) -> String {
        let left = match self.left_out {
            0 => String::new(),
            count => format!("; {count} more prompts were left out"),
        };
        match self.seed {
            None => format!("at most {} tokens, the likeliest one each time{left}", self.tokens),
            Some(seed) => format!(
                "at most {} tokens, sampled with seed {seed}: a sample may not begin with the likeliest answer{left}",
                self.tokens
            ),
        }
    }
}
