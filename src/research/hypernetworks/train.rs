//! Trains an editor: one step edits a batch of facts, each on the unedited base, and updates the parameters.
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

/// The number of facts whose rows are added to the statistics before the first step. Rows cannot be whitened without
/// statistics.
const WARM_UP: usize = 10;

/// The token ids of a prompt with the target of a fact at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactText {
    pub tokens: Vec<u32>,
    /// The number of tokens at the end of `tokens` that are the target.
    pub labels: usize,
}

impl FactText {
    /// Tokenizes a prompt and the answer that continues it.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or prompt and answer together are longer than `limit`, the context
    /// length in tokens.
    pub fn new(tokens: &Tokens, prompt: &str, answer: &str, limit: usize) -> Result<Self, ModelError> {
        let mut question = Question::new(tokens, prompt.into(), answer, limit)?;
        question.row.extend(question.answer.last());
        Ok(Self { tokens: question.row, labels: question.answer.len() })
    }
}

/// A fact for training or validation: one text that states it, and paraphrases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingFact {
    /// The prompt with the target, from whose gradients the editor computes the change of the model.
    pub stated: FactText,
    /// Paraphrases of `stated`, at least one. A training step measures the edited model on one of them.
    pub rephrased: Vec<FactText>,
}

/// The facts and the unrelated texts with which an editor is trained and validated.
#[derive(Clone, Debug, Default)]
pub struct TrainingData {
    pub facts: Vec<TrainingFact>,
    /// The token ids of texts that are unrelated to the facts. An edit should not change the predictions on them.
    pub unrelated: Vec<Vec<u32>>,
    /// The facts on which [`Training::validate`] measures the loss; they are not used in training steps. The edited
    /// model is measured on [`TrainingFact::stated`], not on the paraphrases.
    pub validation: Vec<TrainingFact>,
    /// The token ids of one unrelated text per fact in `validation`, in the same order.
    pub validation_unrelated: Vec<Vec<u32>>,
}

/// The batch size, the loss weights, the limit on the gradient and the seed of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingSettings {
    /// The number of facts per step.
    pub batch: usize,
    pub weights: LossWeights,
    /// The maximum norm of the gradient of all parameters together. A longer gradient is scaled down to this norm.
    pub clip: f64,
    pub seed: u32,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self { batch: 10, weights: LossWeights { edit: 0.1, locality: 1.0 }, clip: 100.0, seed: 0 }
    }
}

/// The numbers of one parameter, such as a weight matrix, with their gradients and their learning rate.
pub struct Trained<'p> {
    pub values: &'p mut [f32],
    pub gradient: &'p mut [f32],
    pub rate: f64,
}

/// An editor with trainable parameters, MEND or KE, as [`Training`] uses it.
pub trait Learner {
    type Edit;
    type Gradients;

    fn sites(&self) -> &[Site];

    /// Adds the inputs and output gradients of one fact to the statistics for whitening. Does nothing for an editor
    /// without statistics.
    fn observe(&mut self, rows: &[SiteRows]);

    /// Computes the change of each edited matrix for one fact in a training step. The rows are added to the statistics
    /// if the editor has statistics.
    fn learn(&mut self, text: &[u32], rows: &[SiteRows]) -> Self::Edit;

    /// Computes the change of each edited matrix for one fact, without changing the statistics.
    fn apply(&self, text: &[u32], rows: &[SiteRows]) -> Self::Edit;

    /// Returns the changes of the edited matrices, in the order of [`Learner::sites`].
    fn changes(edit: &Self::Edit) -> &[LowRank];

    fn zero_gradients(&self) -> Self::Gradients;

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_change` has the gradients of the two factors of each change.
    fn reverse(&self, edit: &Self::Edit, rows: &[SiteRows], by_change: &[LowRank], sums: &mut Self::Gradients);

    /// Returns each parameter with its gradient and its learning rate. Every call returns the same order, because
    /// [`Training`] keeps the state of Adam by position.
    fn trained<'p>(&'p mut self, gradients: &'p mut Self::Gradients) -> Vec<Trained<'p>>;
}

/// The loss of one training step, and the number of skipped facts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The loss before the update, averaged over the facts of the step. A skipped fact counts as 0.
    pub loss: Loss,
    /// The number of facts that were skipped because the gradient of a change was not finite.
    pub skipped: usize,
}

/// The state of a training: the editor, the moments of Adam, the random numbers, and the facts that remain in the
/// current pass.
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
    /// Prepares a training: adds the inputs and output gradients of the first ten facts to the statistics of the
    /// editor.
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

    /// Runs one training step: edits each fact of a batch on the unedited base, and updates the parameters with the
    /// mean gradient.
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

    /// Returns the mean loss over the facts in [`TrainingData::validation`]. The editor is not changed.
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

    /// Divides the summed gradients by the batch size, clips their norm, and updates the parameters by one step of
    /// Adam.
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

/// Draws a random integer from 0 to `count - 1`.
fn below(numbers: &mut NumpyRandomState, count: usize) -> usize {
    (numbers.double() * count as f64) as usize
}

/// The state of Adam (Kingma and Ba 2015) for one parameter. Each element is computed in f64 and rounded to f32.
struct ParameterAdam {
    first: Vec<f32>,
    second: Vec<f32>,
    /// β₁ᵗ and β₂ᵗ after t steps, for the bias correction. They are computed by repeated multiplication.
    powers: [f64; 2],
}

impl ParameterAdam {
    const BETA: [f64; 2] = [0.9, 0.999];
    const EPSILON: f64 = 1e-8;

    fn new(width: usize) -> Self {
        Self { first: vec![0.0; width], second: vec![0.0; width], powers: [1.0, 1.0] }
    }

    /// Updates `values` by one step of Adam for the gradient times `factor`.
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
