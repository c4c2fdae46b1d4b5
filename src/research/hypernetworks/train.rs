//! Trains an editor: one step edits a batch of facts, each on the unedited base, and improves the parameters.
//!
//! The random numbers are drawn in a fixed order: a permutation of the facts per pass, then, for each fact of a step,
//! the index of its rephrased text and the index of the unrelated text. Sums over the facts are in the order of the
//! facts. Training therefore gives the same parameters on every machine.

use super::capture::{SiteRows, capture};
use super::objective::{JudgedTexts, Loss, LossWeights, loss, loss_and_gradients};
use super::sites::{LowRank, Site};
use crate::behaviour::Question;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::random::NumpyRandomState;

/// The number of facts whose rows are added to the statistics before the first step, so that they can be whitened.
const WARM_UP: usize = 10;

/// A text that ends in the target of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactText {
    pub tokens: Vec<u32>,
    /// The number of tokens of the target.
    pub labels: usize,
}

impl FactText {
    /// Tokenizes a prompt and the answer that continues it.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or prompt and answer exceed `limit`, the context length in tokens.
    pub fn new(tokens: &Tokens, prompt: &str, answer: &str, limit: usize) -> Result<Self, ModelError> {
        let mut question = Question::new(tokens, prompt.into(), answer, limit)?;
        question.row.extend(question.answer.last());
        Ok(Self { tokens: question.row, labels: question.answer.len() })
    }
}

/// A fact to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingFact {
    /// The text that is edited.
    pub stated: FactText,
    /// The fact in other words, on which the edited model is judged. Not empty.
    pub rephrased: Vec<FactText>,
}

/// The texts of a training.
#[derive(Clone, Debug, Default)]
pub struct TrainingData {
    pub facts: Vec<TrainingFact>,
    /// Unrelated texts, whose predictions should not change.
    pub unrelated: Vec<Vec<u32>>,
    /// The facts that measure the loss and are not learned from. Each is judged on the text that is edited.
    pub validation: Vec<TrainingFact>,
    /// The unrelated text of each fact in `validation`.
    pub validation_unrelated: Vec<Vec<u32>>,
}

/// The settings of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingSettings {
    /// The number of facts per step.
    pub batch: usize,
    pub weights: LossWeights,
    /// The norm to which the gradient of all parameters is clipped.
    pub clip: f64,
    pub seed: u32,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self { batch: 10, weights: LossWeights { edit: 0.1, locality: 1.0 }, clip: 100.0, seed: 0 }
    }
}

/// A parameter with its gradient and its learning rate.
pub struct Trained<'p> {
    pub values: &'p mut [f32],
    pub gradient: &'p mut [f32],
    pub rate: f64,
}

/// An editor that can be trained.
pub trait Learner {
    type Edit;
    type Gradients;

    fn sites(&self) -> &[Site];

    /// Adds the rows of a fact to the editor's statistics, if it has any.
    fn observe(&mut self, rows: &[SiteRows]);

    /// Computes the changes of one fact during training. The statistics may change.
    fn learn(&mut self, text: &[u32], rows: &[SiteRows]) -> Self::Edit;

    /// Computes the changes of one fact.
    fn apply(&self, text: &[u32], rows: &[SiteRows]) -> Self::Edit;

    /// Returns one change per site.
    fn changes(edit: &Self::Edit) -> &[LowRank];

    fn zero_gradients(&self) -> Self::Gradients;

    /// Adds the gradients of the parameters to `sums`. `by_change` are the gradients of the factors of each change.
    fn reverse(&self, edit: &Self::Edit, rows: &[SiteRows], by_change: &[LowRank], sums: &mut Self::Gradients);

    /// Pairs all parameters with their gradients, in the order in which they are stored.
    fn trained<'p>(&'p mut self, gradients: &'p mut Self::Gradients) -> Vec<Trained<'p>>;
}

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The mean loss of the facts of the step.
    pub loss: Loss,
    /// The number of facts that were left out because a gradient was not finite.
    pub skipped: usize,
}

/// A training in progress.
pub struct Training<'t, L: Learner> {
    base: &'t Model,
    data: &'t TrainingData,
    settings: TrainingSettings,
    pub learner: L,
    adam: Vec<ParameterAdam>,
    numbers: NumpyRandomState,
    order: Vec<usize>,
}

impl<'t, L: Learner> Training<'t, L> {
    /// Starts a training, and adds the first facts to the statistics of the editor.
    ///
    /// # Panics
    /// If there are no facts or no unrelated texts.
    pub fn new(base: &'t Model, data: &'t TrainingData, settings: TrainingSettings, mut learner: L) -> Self {
        assert!(!data.facts.is_empty() && !data.unrelated.is_empty(), "a training needs facts and unrelated texts");
        for fact in data.facts.iter().take(WARM_UP) {
            let (_, rows) = capture(base, learner.sites(), &fact.stated.tokens, fact.stated.labels);
            learner.observe(&rows);
        }
        let numbers = NumpyRandomState::new(settings.seed);
        Self { base, data, settings, learner, adam: Vec::new(), numbers, order: Vec::new() }
    }

    /// Runs one step.
    pub fn step(&mut self) -> StepResult {
        let (base, data, weights) = (self.base, self.data, self.settings.weights);
        let mut sums = self.learner.zero_gradients();
        let (mut mean, mut skipped) = (Loss::default(), 0);
        for _ in 0..self.settings.batch {
            let fact = &data.facts[self.next_fact()];
            let outer = &fact.rephrased[below(&mut self.numbers, fact.rephrased.len())];
            let locality = &data.unrelated[below(&mut self.numbers, data.unrelated.len())];
            let (_, rows) = capture(base, self.learner.sites(), &fact.stated.tokens, fact.stated.labels);
            let edit = self.learner.learn(&fact.stated.tokens, &rows);
            let texts = JudgedTexts { outer: &outer.tokens, labels: outer.labels, locality };
            let (loss, by_change) = loss_and_gradients(base, self.learner.sites(), L::changes(&edit), texts, weights);
            if !by_change.iter().all(|one| one.a.iter().chain(&one.b).all(|x| x.is_finite())) {
                skipped += 1;
                continue;
            }
            self.learner.reverse(&edit, &rows, &by_change, &mut sums);
            mean.edit += loss.edit / self.settings.batch as f64;
            mean.divergence += loss.divergence / self.settings.batch as f64;
        }
        self.improve(&mut sums);
        StepResult { loss: mean, skipped }
    }

    /// Returns the mean loss over the facts of the validation. The statistics do not change.
    pub fn validate(&self) -> Loss {
        let mut mean = Loss::default();
        let pairs = self.data.validation.iter().zip(&self.data.validation_unrelated);
        let count = pairs.len() as f64;
        for (fact, locality) in pairs {
            let FactText { tokens, labels } = &fact.stated;
            let (_, rows) = capture(self.base, self.learner.sites(), tokens, *labels);
            let edit = self.learner.apply(tokens, &rows);
            let texts = JudgedTexts { outer: tokens, labels: *labels, locality };
            let one = loss(self.base, self.learner.sites(), L::changes(&edit), texts);
            mean.edit += one.edit / count;
            mean.divergence += one.divergence / count;
        }
        mean
    }

    /// Returns the next fact of the current pass over the facts; a new pass has a new order.
    fn next_fact(&mut self) -> usize {
        if self.order.is_empty() {
            self.order = (0..self.data.facts.len()).collect();
            for index in (1..self.order.len()).rev() {
                self.order.swap(index, below(&mut self.numbers, index + 1));
            }
        }
        self.order.pop().expect("a pass has facts")
    }

    /// Divides the gradients by the number of facts, clips them and makes one step of Adam.
    fn improve(&mut self, sums: &mut L::Gradients) {
        let share = 1.0 / self.settings.batch as f64;
        let mut trained = self.learner.trained(sums);
        let mut square = 0.0;
        for one in &mut trained {
            for x in one.gradient.iter_mut() {
                *x = (f64::from(*x) * share) as f32;
                square += f64::from(*x) * f64::from(*x);
            }
        }
        let norm = square.sqrt();
        let factor = if norm > self.settings.clip { self.settings.clip / norm } else { 1.0 };
        if self.adam.is_empty() {
            self.adam = trained.iter().map(|one| ParameterAdam::new(one.values.len())).collect();
        }
        for (adam, one) in self.adam.iter_mut().zip(trained) {
            adam.step(one, factor);
        }
    }
}

/// Returns a number from 0 to `count - 1`.
fn below(numbers: &mut NumpyRandomState, count: usize) -> usize {
    (numbers.double() * count as f64) as usize
}

/// Adam (Kingma and Ba 2015) for parameters in f32. Each element is computed in f64 and rounded.
struct ParameterAdam {
    first: Vec<f32>,
    second: Vec<f32>,
    /// β₁ᵗ and β₂ᵗ after t steps, by multiplication.
    powers: [f64; 2],
}

impl ParameterAdam {
    const BETA: [f64; 2] = [0.9, 0.999];
    const EPSILON: f64 = 1e-8;

    fn new(width: usize) -> Self {
        Self { first: vec![0.0; width], second: vec![0.0; width], powers: [1.0, 1.0] }
    }

    /// Makes one step with `factor` times the gradient.
    fn step(&mut self, Trained { values, gradient, rate }: Trained<'_>, factor: f64) {
        let [beta_1, beta_2] = Self::BETA;
        self.powers = [self.powers[0] * beta_1, self.powers[1] * beta_2];
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, x), (first, second)) in values.iter_mut().zip(gradient.iter()).zip(moments) {
            let g = f64::from(*x) * factor;
            let (m, v) =
                (beta_1 * f64::from(*first) + (1.0 - beta_1) * g, beta_2 * f64::from(*second) + (1.0 - beta_2) * g * g);
            (*first, *second) = (m as f32, v as f32);
            let (m, v) = (m / (1.0 - self.powers[0]), v / (1.0 - self.powers[1]));
            *value = (f64::from(*value) - rate * m / (v.sqrt() + Self::EPSILON)) as f32;
        }
    }
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
