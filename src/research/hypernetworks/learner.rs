//! Defines what MEND and KE have in common: an editor with trainable parameters, as the training uses it.

use super::capture::{CapturedFact, SiteRows};
use crate::model::run::low_rank::{LowRank, Site};

/// The numbers of one parameter, such as a weight matrix, with their gradients and their learning rate.
pub struct Trained<'p> {
    pub values: &'p mut [f32],
    pub gradient: &'p mut [f32],
    pub rate: f64,
}

/// The numbers of one part of an editor, as they are stored in a file.
#[derive(Debug)]
pub enum Numbers<'p> {
    F32(&'p mut Vec<f32>),
    F64(&'p mut Vec<f64>),
    Count(&'p mut u64),
}

/// An editor with trainable parameters, MEND or KE.
pub trait Learner: Clone {
    /// The changes for some facts, and the intermediate results that the backward pass needs.
    type Edits;
    type Gradients;

    fn sites(&self) -> &[Site];

    /// Adds the inputs and output gradients of one fact to the statistics for whitening. Does nothing for an editor
    /// without statistics.
    fn observe(&mut self, rows: &[SiteRows]);

    /// Returns whether the statistics have enough rows for whitening. Always true for an editor without statistics.
    fn can_edit(&self) -> bool;

    /// Computes the changes for the facts of a training step. The rows are added to the statistics if the editor has
    /// statistics.
    fn learn(&mut self, facts: &[CapturedFact<'_>]) -> Self::Edits;

    /// Computes the changes for some facts, without changing the statistics.
    fn apply(&self, facts: &[CapturedFact<'_>]) -> Self::Edits;

    /// Returns, for each fact, the changes of the edited matrices in the order of [`Learner::sites`].
    fn changes(edits: &Self::Edits) -> &[Vec<LowRank>];

    fn zero_gradients(&self) -> Self::Gradients;

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_changes` has, for each fact, the gradients of the two factors of each change.
    fn reverse(
        &self,
        edits: &Self::Edits,
        facts: &[CapturedFact<'_>],
        by_changes: &[Vec<LowRank>],
        sums: &mut Self::Gradients,
    );

    /// Returns each parameter with its gradient and its learning rate. Every call returns the same order, because the
    /// training keeps the state of Adam by position.
    fn trained<'p>(&'p mut self, gradients: &'p mut Self::Gradients) -> Vec<Trained<'p>>;

    /// Returns all numbers that determine the changes of the editor, each part with its name.
    fn state(&mut self) -> Vec<(String, Numbers<'_>)>;
}
