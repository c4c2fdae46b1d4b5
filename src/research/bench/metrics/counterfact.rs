//! Computes the metrics of CounterFact (Meng et al. 2022) from the likelihoods of the new and the true answer: the
//! success rates ES, PS and NS, the magnitudes EM, PM and NM, and the score S.
//!
//! The letters E, P and N stand for efficacy (the edited prompt), paraphrases and neighbours. The likelihood of an
//! answer is the geometric mean of the probabilities of its tokens. An edited prompt or a paraphrase succeeds if the
//! new answer is likelier than the true answer. A neighbour succeeds if its true answer is likelier than the new
//! answer. Equal likelihoods are not a success.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::behaviour::{AnswerScore, Question, scores};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Mean;
use crate::numeric::elementary::exp64;
use crate::research::bench::data::Case;

/// The tokenized prompts and answers of one record. Each prompt is included twice: first with the answer that should be
/// likelier, then with the answer that should be less likely.
pub struct LikelihoodQuestions {
    questions: Vec<Question>,
    paraphrases: usize,
}

/// The metrics of one record for one kind of prompt: its edited prompt, its paraphrases or its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PromptMetrics {
    /// The share of prompts, from 0 to 1, for which the expected answer is likelier than the unexpected one.
    pub success: f64,
    /// The mean likelihood of the expected answers minus the mean likelihood of the unexpected ones.
    pub magnitude: f64,
    /// The share of prompts for which the model predicts every token of the expected answer.
    pub exact: f64,
}

/// The metrics of CounterFact for one record: for its edited prompt, its paraphrases and its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CounterFactMetrics")]
pub struct LikelihoodMetrics {
    /// The results for the edited prompt: ES (`success`) and EM (`magnitude`).
    pub rewrite: PromptMetrics,
    /// The results for the paraphrases: PS (`success`) and PM (`magnitude`). `None` if the record has no paraphrases.
    pub paraphrase: Option<PromptMetrics>,
    /// The results for the neighbours: NS (`success`) and NM (`magnitude`). `None` if the record has no neighbours.
    pub neighbour: Option<PromptMetrics>,
}

impl LikelihoodQuestions {
    /// Tokenizes the prompts and answers of a record, which must state the true answer.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a text is longer than `limit` tokens.
    pub fn new(case: &Case, tokens: &Tokens, limit: usize) -> Result<Self, ModelError> {
        Self::after_prefix("", case, tokens, limit)
    }

    /// Does the same as [`LikelihoodQuestions::new`], but with the text `prefix` before every prompt.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a text with its prefix is longer than `limit` tokens.
    pub fn after_prefix(prefix: &str, case: &Case, tokens: &Tokens, limit: usize) -> Result<Self, ModelError> {
        let (new, old) = (case.target.as_str(), case.was.as_deref().unwrap_or_default());
        let filled = case.filled();
        let mut asked = vec![(filled.as_str(), new, old)];
        asked.extend(case.paraphrases.iter().map(|prompt| (prompt.as_str(), new, old)));
        asked.extend(case.neighbours.iter().map(|one| (one.prompt.as_str(), one.answer.as_str(), new)));
        let mut questions = Vec::with_capacity(2 * asked.len());
        for (prompt, wanted, other) in asked {
            let prompt = format!("{prefix}{prompt}");
            for answer in [wanted, other] {
                questions.push(Question::new(tokens, prompt.as_str().into(), answer, limit)?);
            }
        }
        Ok(Self { questions, paraphrases: case.paraphrases.len() })
    }

    pub fn measure(&self, model: &Model) -> LikelihoodMetrics {
        self.of(&scores(model, &self.questions))
    }

    fn of(&self, scores: &[AnswerScore]) -> LikelihoodMetrics {
        let (rewrite, rest) = scores.split_at(2);
        let (paraphrase, neighbour) = rest.split_at(2 * self.paraphrases);
        let some = |part: &[AnswerScore]| (!part.is_empty()).then(|| PromptMetrics::of(part));
        LikelihoodMetrics {
            rewrite: PromptMetrics::of(rewrite),
            paraphrase: some(paraphrase),
            neighbour: some(neighbour),
        }
    }
}

impl PromptMetrics {
    /// Computes the metrics from pairs of scores. Each pair has the score of the expected answer, then the score of the
    /// unexpected answer.
    fn of(scores: &[AnswerScore]) -> Self {
        // The likelihood counts as 0 if the logits are not finite.
        let likelihood = |score: &AnswerScore| if score.nll.is_finite() { exp64(-score.nll) } else { 0.0 };
        let (pairs, mut part) = (scores.as_chunks::<2>().0, Self::default());
        for [wanted, other] in pairs {
            part.success += f64::from(u8::from(wanted.nll < other.nll));
            part.magnitude += likelihood(wanted) - likelihood(other);
            part.exact += f64::from(u8::from(wanted.holds));
        }
        let count = pairs.len() as f64;
        Self { success: part.success / count, magnitude: part.magnitude / count, exact: part.exact / count }
    }
}

/// The means of the CounterFact metrics over all records, with 95 % intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LikelihoodMeans {
    /// The means of the three metrics of edited prompts over all records: ES (success), EM (magnitude) and
    /// [`PromptMetrics::exact`].
    pub rewrite: [Mean; 3],
    /// The means of the three metrics of paraphrases over the records that have paraphrases: PS (success), PM
    /// (magnitude) and [`PromptMetrics::exact`].
    pub paraphrase: [Mean; 3],
    /// The means of the three metrics of neighbours over the records that have neighbours: NS (success), NM (magnitude)
    /// and [`PromptMetrics::exact`].
    pub neighbour: [Mean; 3],
}

impl LikelihoodMeans {
    /// Computes the means over the records. The 95 % intervals use the population standard deviation (divisor n).
    pub fn of(measured: &[LikelihoodMetrics]) -> Self {
        let means = |select: &dyn Fn(&LikelihoodMetrics) -> Option<PromptMetrics>| {
            let parts: Vec<PromptMetrics> = measured.iter().filter_map(select).collect();
            let mean =
                |number: fn(&PromptMetrics) -> f64| Mean::of_population(&parts.iter().map(number).collect::<Vec<_>>());
            [mean(|part| part.success), mean(|part| part.magnitude), mean(|part| part.exact)]
        };
        Self {
            rewrite: means(&|one| Some(one.rewrite)),
            paraphrase: means(&|one| one.paraphrase),
            neighbour: means(&|one| one.neighbour),
        }
    }

    /// Returns the score S: the harmonic mean of ES, PS and NS. PS is left out if no record has paraphrases, and NS if
    /// no record has neighbours.
    pub fn score(&self) -> f64 {
        let parts = [self.rewrite[0], self.paraphrase[0], self.neighbour[0]];
        harmonic(parts.iter().filter(|part| part.count > 0).map(|part| part.value))
    }
}

/// Returns the harmonic mean; 0 if `numbers` is empty or contains 0.
pub fn harmonic(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut inverse) = (0.0, 0.0);
    for number in numbers {
        count += 1.0;
        inverse += 1.0 / number;
    }
    if count > 0.0 { count / inverse } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(probability: f64, holds: bool) -> AnswerScore {
        AnswerScore { holds, probability, nll: -probability.ln() }
    }

    #[test]
    fn parts_compare_strictly_and_means_are_over_records() {
        let questions = LikelihoodQuestions { questions: Vec::new(), paraphrases: 2 };
        let measured = questions.of(&[
            score(0.6, true),
            score(0.1, false),
            // The first paraphrase succeeds. The second does not, because both answers are equally likely.
            score(0.5, true),
            score(0.25, false),
            score(0.25, false),
            score(0.25, false),
            // The true answer of the neighbour is less likely than the new answer.
            score(0.2, false),
            score(0.7, true),
        ]);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(measured.rewrite.success, 1.0);
        near(measured.rewrite.magnitude, 0.5);
        let (paraphrase, neighbour) = (measured.paraphrase.expect("two"), measured.neighbour.expect("one"));
        near(paraphrase.success, 0.5);
        near(paraphrase.magnitude, 0.125);
        near(paraphrase.exact, 0.5);
        near(neighbour.success, 0.0);
        near(neighbour.magnitude, -0.5);
        let other = LikelihoodMetrics { paraphrase: None, neighbour: Some(paraphrase), ..measured };
        let figures = LikelihoodMeans::of(&[measured, other]);
        near(figures.neighbour[0].value, 0.25);
        // The standard deviation of 0 and 0.5 is 0.25.
        near(figures.neighbour[0].ci95, 1.96 * 0.25 / 2.0_f64.sqrt());
        assert_eq!(figures.paraphrase[0].count, 1);
        near(figures.score(), 3.0 / (1.0 + 2.0 + 4.0));
    }

    /// Checks `harmonic` with ES, PS, NS and the score S from three rows of table 4 of Meng et al. 2022.
    #[test]
    fn published_scores_are_reproduced() {
        for (es, ps, ns, s) in [(22.2, 24.7, 78.1, 30.5), (100.0, 96.4, 75.4, 89.2), (99.1, 48.7, 70.3, 66.9)] {
            assert!((harmonic([es, ps, ns]) - s).abs() < 0.07);
        }
        assert_eq!((harmonic([]), harmonic([0.0, 1.0])), (0.0, 0.0));
    }
}
