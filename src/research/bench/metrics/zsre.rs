//! Computes the metrics of zsRE: shares of correctly predicted tokens. Each token of an answer is predicted after the
//! prompt and the earlier tokens of the answer. As in the released evaluation, the prompt and these tokens are joined
//! as text and tokenized together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::behaviour::{next, prompt};
use crate::model::text::tokens::target_text;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Mean;
use crate::research::bench::data::Case;

/// One token to predict: the input tokens, and the correct next token.
struct TokenPrediction {
    row: Vec<u32>,
    right: u32,
}

/// The tokens to predict for the edited prompt, the paraphrases and the neighbours of one record.
pub struct TokenQuestions {
    predictions: Vec<TokenPrediction>,
    /// The number of predictions for the edited prompt, and the number for the paraphrases. The remaining predictions
    /// are for the neighbours.
    parts: [usize; 2],
}

/// The results of one record, as shares of correctly predicted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ZsreMetrics")]
pub struct TokenMetrics {
    /// Efficacy: the share of correct tokens for the edited prompt.
    pub rewrite: f64,
    /// The share of correct tokens for the paraphrases; `None` if the record has no paraphrases.
    pub paraphrase: Option<f64>,
    /// Specificity: the share of correct tokens for the neighbours; `None` if the record has no neighbours. Tokens are
    /// compared with the answer in the record, not with the prediction of the base model.
    pub neighbour: Option<f64>,
}

impl TokenQuestions {
    /// Tokenizes the prompts and answers of a record.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a text is longer than `limit` tokens.
    pub fn new(case: &Case, tokens: &Tokens, limit: usize) -> Result<Self, ModelError> {
        Self::after_prefix("", case, tokens, limit)
    }

    /// Does the same as [`TokenQuestions::new`], but with the text `prefix` before every prompt.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a text with its prefix is longer than `limit` tokens.
    pub fn after_prefix(prefix: &str, case: &Case, tokens: &Tokens, limit: usize) -> Result<Self, ModelError> {
        let asked = |prompt: &str, answer: &str| predict(&format!("{prefix}{prompt}"), answer, tokens, limit);
        let mut predictions = asked(&case.filled(), &case.target)?;
        let rewrite = predictions.len();
        for paraphrase in &case.paraphrases {
            predictions.extend(asked(paraphrase, &case.target)?);
        }
        let paraphrase = predictions.len() - rewrite;
        for neighbour in &case.neighbours {
            predictions.extend(asked(&neighbour.prompt, &neighbour.answer)?);
        }
        Ok(Self { predictions, parts: [rewrite, paraphrase] })
    }

    /// Runs the model on the edited prompt, the paraphrases and the neighbours. Returns for each of the three the share
    /// of answer tokens that are the model's likeliest token.
    pub fn measure(&self, model: &Model) -> TokenMetrics {
        let rows: Vec<Vec<u32>> = self.predictions.iter().map(|predictions| predictions.row.clone()).collect();
        let said = next(model, &rows);
        self.of(&said.iter().map(|next| next.top).collect::<Vec<_>>())
    }

    fn of(&self, said: &[u32]) -> TokenMetrics {
        let right: Vec<f64> = self
            .predictions
            .iter()
            .zip(said)
            .map(|(predictions, said)| f64::from(u8::from(predictions.right == *said)))
            .collect();
        let (rewrite, rest) = right.split_at(self.parts[0]);
        let (paraphrase, neighbour) = rest.split_at(self.parts[1]);
        let some = |part: &[f64]| (!part.is_empty()).then(|| Mean::of(part).value);
        TokenMetrics { rewrite: Mean::of(rewrite).value, paraphrase: some(paraphrase), neighbour: some(neighbour) }
    }
}

/// Returns one prediction per token of an answer: the input tokens, and the correct next token. As in the released
/// evaluation, each token of the answer is decoded and the resulting text is tokenized alone. The first token of the
/// result is the correct one.
fn predict(text: &str, answer: &str, tokens: &Tokens, limit: usize) -> Result<Vec<TokenPrediction>, ModelError> {
    let answer = tokens.continuation(&target_text(text, answer))?;
    let mut predictions = Vec::with_capacity(answer.len());
    for (index, token) in answer.iter().enumerate() {
        let row = prompt(tokens, format!("{text}{}", tokens.decode_after(&answer[..index])).as_str().into(), limit)?;
        let right = tokens.continuation(&tokens.decode_after(&[*token]))?.first().copied();
        // A token that is only a part of a character decodes to no text, so its prediction always counts as wrong.
        predictions.push(TokenPrediction { row, right: right.unwrap_or(u32::MAX) });
    }
    Ok(predictions)
}

/// Returns the means of efficacy, paraphrase and specificity over the records, as shares from 0 to 1.
pub fn means(measured: &[TokenMetrics]) -> [Mean; 3] {
    let mean = |number: &dyn Fn(&TokenMetrics) -> Option<f64>| {
        Mean::of_population(&measured.iter().filter_map(number).collect::<Vec<_>>())
    };
    [mean(&|one| Some(one.rewrite)), mean(&|one| one.paraphrase), mean(&|one| one.neighbour)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_within_a_record_first() {
        let predictions = [1, 2, 3, 4, 5, 6].map(|right| TokenPrediction { row: Vec::new(), right });
        let questions = TokenQuestions { predictions: predictions.into_iter().collect(), parts: [3, 1] };
        let one = questions.of(&[1, 2, 9, 9, 5, 9]);
        assert!((one.rewrite - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((one.paraphrase, one.neighbour), (Some(0.0), Some(0.5)));
        let other = TokenMetrics { rewrite: 1.0, paraphrase: None, neighbour: None };
        let of_both = means(&[one, other]);
        assert!((of_both[0].value - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!((of_both[1].count, of_both[2].value), (1, 0.5));
    }
}
