use schemars::JsonSchema;
use serde::Serialize;

use super::NamedBase;

/// The JSON that `ask --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct AskAnswer {
    /// The base model.
    pub base: NamedBase,
    /// The name of the model that was asked beside the base: `patched`, or the state given with `--patch`; absent if
    /// only the base was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patched: Option<String>,
    /// Whether the prompts are user messages.
    pub chat: bool,
    /// The maximum number of generated tokens.
    pub tokens: usize,
    /// The seed of the sampling; absent if the likeliest token was taken each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The prompts in the given order, each with the texts that were generated after it.
    pub answers: Vec<AskedPrompt>,
}

/// A prompt, and the texts that the models generated after it.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct AskedPrompt {
    /// The prompt as it was given.
    pub prompt: String,
    /// The text of the base.
    pub base: AskedText,
    /// The text of the other model; absent if only the base was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patched: Option<AskedText>,
}

/// A generated text.
#[derive(Clone, Serialize, JsonSchema)]
pub(in crate::cli) struct AskedText {
    /// The text after the prompt.
    pub text: String,
    /// Why the text ended: the model gave an end token (`end-token`), the maximum number of tokens was reached
    /// (`tokens`), or the text fills the context of the model (`context`).
    pub end: &'static str,
}
