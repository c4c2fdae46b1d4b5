//! The comparison of two answers: ES, PS and NS with their magnitudes, and S.
//!
//! The likelihood of an answer is that of a token of it: e to the mean log-likelihood of its tokens. A rewrite or a
//! paraphrase succeeds where the new answer is likelier than the true one, a neighbour where its true answer is. Both
//! are strict. A record counts its paraphrases, and its neighbours, as one figure: their mean.

use serde::{Deserialize, Serialize};

use crate::behaviour::{Question, Score, scores};
use crate::bench::data::Case;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Mean;
use crate::numeric::elementary::exp64;

/// The questions of one record: of each prompt the answer that should be likelier, then the other.
pub struct Questions {
    questions: Vec<Question>,
    paraphrases: usize,
}

/// What one kind of prompts of a record came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The share that succeeds.
    pub success: f64,
    /// The mean of the likelihood that should be greater minus the other.
    pub magnitude: f64,
    /// The share whose answer that should be likelier is the arg-max at each of its tokens.
    pub exact: f64,
}

/// What one record came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// ES and EM.
    pub rewrite: Part,
    /// PS and PM; none where the record has no paraphrase.
    pub paraphrase: Option<Part>,
    /// NS and NM; none where it has no neighbour.
    pub neighbour: Option<Part>,
}

impl Questions {
    /// The questions of a record that says what is true.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or one does not fit the context.
    pub fn new(case: &Case, tokens: &Tokens, limit: usize) -> Result<Self, ModelError> {
        let (new, old) = (case.target.as_str(), case.was.as_deref().unwrap_or_default());
        let filled = case.filled();
        let mut asked = vec![(filled.as_str(), new, old)];
        asked.extend(case.paraphrases.iter().map(|prompt| (prompt.as_str(), new, old)));
        asked.extend(case.neighbours.iter().map(|asked| (asked.prompt.as_str(), asked.answer.as_str(), new)));
        let mut questions = Vec::with_capacity(2 * asked.len());
        for (prompt, wanted, other) in asked {
            for answer in [wanted, other] {
                questions.push(Question::new(tokens, prompt.into(), answer, limit)?);
            }
        }
        Ok(Self { questions, paraphrases: case.paraphrases.len() })
    }

    /// Asks a model.
    pub fn measure(&self, model: &Model) -> Measured {
        self.of(&scores(model, &self.questions))
    }

    fn of(&self, scores: &[Score]) -> Measured {
        let (rewrite, rest) = scores.split_at(2);
        let (paraphrase, neighbour) = rest.split_at(2 * self.paraphrases);
        let some = |scores: &[Score]| (!scores.is_empty()).then(|| Part::of(scores));
        Measured { rewrite: Part::of(rewrite), paraphrase: some(paraphrase), neighbour: some(neighbour) }
    }
}

impl Part {
    /// Of pairs of scores: the answer that should be likelier, and the other.
    fn of(scores: &[Score]) -> Self {
        // A model that says no number says nothing: its answers have no likelihood.
        let likelihood = |score: &Score| if score.nll.is_finite() { exp64(-score.nll) } else { 0.0 };
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

/// The figures over records, in shares of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// ES, EM and exact efficacy.
    pub rewrite: [Mean; 3],
    /// PS, PM and exact paraphrases.
    pub paraphrase: [Mean; 3],
    /// NS, NM and exact neighbours.
    pub neighbour: [Mean; 3],
}

impl Figures {
    /// The means over records, with the deviation of n.
    pub fn of(measured: &[Measured]) -> Self {
        let means = |part: &dyn Fn(&Measured) -> Option<Part>| {
            let parts: Vec<Part> = measured.iter().filter_map(part).collect();
            let mean = |number: fn(&Part) -> f64| Mean::of_all(&parts.iter().map(number).collect::<Vec<_>>());
            [mean(|part| part.success), mean(|part| part.magnitude), mean(|part| part.exact)]
        };
        Self {
            rewrite: means(&|one| Some(one.rewrite)),
            paraphrase: means(&|one| one.paraphrase),
            neighbour: means(&|one| one.neighbour),
        }
    }

    /// S: the harmonic mean of ES, PS and NS, of those that there are.
    pub fn score(&self) -> f64 {
        let parts = [self.rewrite[0], self.paraphrase[0], self.neighbour[0]];
        harmonic(parts.iter().filter(|part| part.count > 0).map(|part| part.value))
    }
}

/// The harmonic mean; zero of nothing, and where a number is zero.
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

    fn score(probability: f64, holds: bool) -> Score {
        Score { holds, probability, nll: -probability.ln() }
    }

    #[test]
    fn parts_compare_strictly_and_means_are_over_records() {
        let questions = Questions { questions: Vec::new(), paraphrases: 2 };
        let measured = questions.of(&[
            score(0.6, true),
            score(0.1, false),
            // Paraphrases: one succeeds, the other is equal, which is no success.
            score(0.5, true),
            score(0.25, false),
            score(0.25, false),
            score(0.25, false),
            // A neighbour whose true answer is less likely.
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
        let other = Measured { paraphrase: None, neighbour: Some(paraphrase), ..measured };
        let figures = Figures::of(&[measured, other]);
        near(figures.neighbour[0].value, 0.25);
        // The deviation of 0 and 0.5 is 0.25.
        near(figures.neighbour[0].half, 1.96 * 0.25 / 2.0_f64.sqrt());
        assert_eq!(figures.paraphrase[0].count, 1);
        near(figures.score(), 3.0 / (1.0 + 2.0 + 4.0));
    }

    /// The rows of the paper's table 4 that are quoted everywhere: its S comes back from its ES, PS and NS.
    #[test]
    fn the_published_scores_come_back() {
        for (es, ps, ns, s) in [(22.2, 24.7, 78.1, 30.5), (100.0, 96.4, 75.4, 89.2), (99.1, 48.7, 70.3, 66.9)] {
            assert!((harmonic([es, ps, ns]) - s).abs() < 0.07);
        }
        assert_eq!((harmonic([]), harmonic([0.0, 1.0])), (0.0, 0.0));
    }
}
