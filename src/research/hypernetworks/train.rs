//! Trains an editor: one step edits a batch of facts, each on the unedited base, and updates the parameters.
//!
//! The random numbers are drawn in a fixed order: a permutation of the facts per pass, then, for each fact of a step,
//! the index of its rephrased text and the index of the unrelated text. Sums over the facts are in the order of the
//! facts. Training therefore gives the same parameters on every machine. The draws do not depend on computed numbers,
//! so a resumed training repeats the draws of the earlier steps and needs no stored random state.

use std::sync::Arc;

use super::adam::{ParameterAdam, norm};
use super::base_states::{BaseStates, OuterText, Part};
use super::capture::{CapturedFact, SiteRows};
use super::learner::Learner;
use super::objective::{JudgedFact, Loss, LossWeights, UnrelatedStates, losses, losses_and_gradients};
use crate::behaviour::Question;
use crate::model::run::low_rank::LowRank;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::malloc::{RetainFreedMemory, retain_freed_memory};
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

    fn captured<'f>(&'f self, rows: &'f [SiteRows]) -> CapturedFact<'f> {
        CapturedFact { text: &self.tokens, rows }
    }

    /// Returns the tokens of the target.
    pub fn target(&self) -> &[u32] {
        &self.tokens[self.tokens.len() - self.labels..]
    }
}

/// A fact for training or validation: one text that states it, and paraphrases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingFact {
    /// The prompt with the target, from whose gradients the editor computes the change of the model.
    pub stated: FactText,
    /// Paraphrases of `stated`, at least one. A training step measures the edited model on one of them, drawn at random.
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

/// The reason why a training cannot start or continue.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum TrainingError {
    #[error("the training data has no facts")]
    NoFacts,
    #[error("the training data has no unrelated texts")]
    NoUnrelated,
    #[error("fact {fact} of the training data has no target or no paraphrase")]
    Incomplete { fact: usize },
    #[error("the gradients of fact {fact} of the training data are not finite in the base model")]
    NotFinite { fact: usize },
    #[error("the first facts give fewer than two rows to whiten: the training needs more facts")]
    FewRows,
    #[error("step {step}: the loss or a gradient is not finite; choose a smaller learning rate")]
    Diverged { step: usize },
}

/// The state of a training: the editor, the moments of Adam, the random numbers, and the facts that remain in the
/// current pass.
pub struct Training<'t, L: Learner> {
    base: &'t Model,
    data: &'t TrainingData,
    settings: TrainingSettings,
    pub learner: L,
    pub adam: ParameterAdam,
    gradients: L::Gradients,
    states: BaseStates<'t>,
    numbers: NumpyRandomState,
    order: Vec<usize>,
    /// The number of steps that were made.
    steps: usize,
    /// Every step allocates and frees the same large buffers, so the allocator keeps them.
    _retained: RetainFreedMemory,
}

/// The random choices for one fact of a step: the indices of the fact, of its rephrased text and of the unrelated text.
struct Draw {
    fact: usize,
    rephrased: usize,
    unrelated: usize,
}

impl<'t, L: Learner> Training<'t, L> {
    /// Prepares a training: adds the inputs and output gradients of the first ten facts to the statistics of the
    /// editor.
    ///
    /// # Errors
    /// If the data is not sufficient, or the gradients of a fact are not finite in the base.
    pub fn new(
        base: &'t Model,
        data: &'t TrainingData,
        settings: TrainingSettings,
        mut learner: L,
    ) -> Result<Self, TrainingError> {
        data.check()?;
        let _retained = retain_freed_memory();
        let mut states = BaseStates::new(base, learner.sites(), data);
        let first: Vec<usize> = (0..data.facts.len().min(WARM_UP)).collect();
        states.rows(Part::Training, &first)?.iter().for_each(|rows| learner.observe(rows));
        if !learner.can_edit() {
            return Err(TrainingError::FewRows);
        }
        let mut gradients = learner.zero_gradients();
        let adam = ParameterAdam::new(learner.trained(&mut gradients).iter().map(|one| one.values.len()));
        // The parameters of the editor are drawn with the key `[seed]`. Another key gives other random numbers.
        let numbers = NumpyRandomState::from_key(&[settings.seed, 1]);
        let (order, steps) = (Vec::new(), 0);
        Ok(Self { base, data, settings, learner, adam, gradients, states, numbers, order, steps, _retained })
    }

    /// Returns the number of steps that were made.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Repeats the draws of `steps` steps without computing anything. The caller sets the parameters and the moments to
    /// those after these steps.
    pub fn skip(&mut self, steps: usize) {
        (0..steps).for_each(|_| drop(self.draw()));
        self.adam.skip(steps);
        self.steps = steps;
    }

    /// Runs one training step: edits each fact of a batch on the unedited base, and updates the parameters with the
    /// mean gradient. Returns the loss before the update, averaged over the facts.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite. The parameters are then unchanged.
    pub fn step(&mut self) -> Result<Loss, TrainingError> {
        let draws = self.draw();
        let rows = self.states.rows(Part::Training, &draws.iter().map(|draw| draw.fact).collect::<Vec<_>>())?;
        let captured = draws.iter().zip(&rows).map(|(draw, rows)| self.data.facts[draw.fact].stated.captured(rows));
        let facts: Vec<CapturedFact<'_>> = captured.collect();
        let edits = self.learner.learn(&facts);
        let rephrased = draws.iter().map(|draw| (draw.fact, OuterText::Rephrased(draw.rephrased)));
        let outer = self.states.outer(Part::Training, &rephrased.collect::<Vec<_>>());
        let texts: Vec<usize> = draws.iter().map(|draw| draw.unrelated).collect();
        let unrelated = self.states.unrelated(Part::Training, &texts);
        let targets = draws.iter().map(|draw| self.data.facts[draw.fact].rephrased[draw.rephrased].target());
        let judged = judged(L::changes(&edits), &outer, &unrelated, targets);
        let results = losses_and_gradients(self.base, self.learner.sites(), &judged, self.settings.weights);
        let (losses, by_changes): (Vec<Loss>, Vec<Vec<LowRank>>) = results.into_iter().unzip();
        let diverged = TrainingError::Diverged { step: self.steps + 1 };
        if !by_changes.iter().flatten().all(LowRank::is_finite) {
            return Err(diverged);
        }
        self.learner.reverse(&edits, &facts, &by_changes, &mut self.gradients);
        if self.improve() { Ok(mean(&losses)) } else { Err(diverged) }
    }

    /// Returns the mean loss over the facts in [`TrainingData::validation`]. The editor is not changed.
    ///
    /// # Errors
    /// If the gradients of a fact are not finite in the base.
    pub fn validate(&mut self) -> Result<Loss, TrainingError> {
        let facts = &self.data.validation;
        let indices: Vec<usize> = (0..facts.len()).collect();
        let rows = self.states.rows(Part::Validation, &indices)?;
        let captured = facts.iter().zip(&rows).map(|(fact, rows)| fact.stated.captured(rows));
        let edits = self.learner.apply(&captured.collect::<Vec<_>>());
        let stated: Vec<_> = indices.iter().map(|index| (*index, OuterText::Stated)).collect();
        let outer = self.states.outer(Part::Validation, &stated);
        let unrelated = self.states.unrelated(Part::Validation, &indices);
        let targets = facts.iter().map(|fact| fact.stated.target());
        let judged = judged(L::changes(&edits), &outer, &unrelated, targets);
        Ok(mean(&losses(self.base, self.learner.sites(), &judged)))
    }

    fn draw(&mut self) -> Vec<Draw> {
        let (data, batch) = (self.data, self.settings.batch);
        let one = |_| {
            let fact = self.next_fact();
            let rephrased = below(&mut self.numbers, data.facts[fact].rephrased.len());
            Draw { fact, rephrased, unrelated: below(&mut self.numbers, data.unrelated.len()) }
        };
        (0..batch).map(one).collect()
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
    /// Adam. Returns false, without an update, if the norm is not finite.
    fn improve(&mut self) -> bool {
        let share = 1.0 / self.settings.batch as f64;
        let trained = self.learner.trained(&mut self.gradients);
        let length = norm(&trained) * share;
        if !length.is_finite() {
            return false;
        }
        let clip = if length > self.settings.clip { self.settings.clip / length } else { 1.0 };
        self.adam.step(trained, share * clip);
        self.steps += 1;
        true
    }
}

impl TrainingData {
    /// Returns an error if there are no facts or no unrelated texts, or if a fact has no target or no paraphrase.
    fn check(&self) -> Result<(), TrainingError> {
        let incomplete = |fact: &TrainingFact| {
            fact.rephrased.is_empty() || fact.rephrased.iter().chain([&fact.stated]).any(|text| text.labels == 0)
        };
        match self.facts.iter().chain(&self.validation).position(incomplete) {
            Some(fact) => Err(TrainingError::Incomplete { fact }),
            None if self.facts.is_empty() => Err(TrainingError::NoFacts),
            None if self.unrelated.is_empty() || self.validation_unrelated.len() < self.validation.len() => {
                Err(TrainingError::NoUnrelated)
            }
            None => Ok(()),
        }
    }
}

/// Combines the changes for some facts with the texts on which the edited models are measured.
fn judged<'j>(
    changes: &'j [Vec<LowRank>],
    outer: &'j [Arc<Vec<f32>>],
    unrelated: &'j [Arc<UnrelatedStates>],
    targets: impl Iterator<Item = &'j [u32]>,
) -> Vec<JudgedFact<'j>> {
    let texts = outer.iter().zip(unrelated).zip(targets);
    let facts = changes.iter().zip(texts).map(|(of_fact, ((states, text), target))| JudgedFact {
        outer: states,
        target,
        unrelated: text,
        changes: of_fact,
    });
    facts.collect()
}

fn mean(losses: &[Loss]) -> Loss {
    let mut sum = Loss::default();
    for loss in losses {
        sum.edit += loss.edit / losses.len() as f64;
        sum.divergence += loss.divergence / losses.len() as f64;
    }
    sum
}

/// Draws a random integer from 0 to `count - 1`.
pub(super) fn below(numbers: &mut NumpyRandomState, count: usize) -> usize {
    (numbers.double() * count as f64) as usize
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
