//! Runs a whole training: validates at intervals, keeps the best parameters, and stores its state so that it can be
//! resumed.
//!
//! A resumed training gives the same bits as one without interruption.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::learner::{Learner, Numbers};
use super::settings::training_settings;
use super::stored::{AnyEditor, TrainingInputs, Validation, file, fill, tensors};
use super::train::{Training, TrainingData, TrainingError};
use crate::digest::{Digest, FieldHasher};
use crate::model::Model;
use crate::progress::Progress;
use crate::safetensors::{Dtype, Header};
use crate::store::{EntryKind, Store, StoreError};

/// The name of the metadata field that contains the progress of a training.
const PROGRESS: &str = "training";

/// The reason why a training did not give an editor.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum RunError {
    #[error(transparent)]
    Training(#[from] TrainingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the validation loss did not fall: {start:.4} before the training, {lowest:.4} at best after it")]
    NotLearned { start: f64, lowest: f64 },
}

/// The result of a training.
#[derive(Debug)]
pub struct TrainedEditor {
    pub editor: AnyEditor,
    pub curve: Vec<Validation>,
    /// The step whose parameters the editor has.
    pub best: usize,
}

/// The position of an interrupted training.
#[derive(Serialize, Deserialize)]
struct Position {
    steps: usize,
    #[serde(serialize_with = "write_bits", deserialize_with = "read_bits")]
    curve: Vec<Validation>,
    best: usize,
}

/// Writes the losses as the bits of f64. JSON numbers are not read to the last bit, so a resumed training would have
/// another curve.
fn write_bits<S: Serializer>(curve: &[Validation], out: S) -> Result<S::Ok, S::Error> {
    let bits = |one: &Validation| (one.step, [one.edit, one.divergence, one.total].map(f64::to_bits));
    curve.iter().map(bits).collect::<Vec<_>>().serialize(out)
}

fn read_bits<'d, D: Deserializer<'d>>(input: D) -> Result<Vec<Validation>, D::Error> {
    let validation = |(step, bits): (usize, [u64; 3])| {
        let [edit, divergence, total] = bits.map(f64::from_bits);
        Validation { step, edit, divergence, total }
    };
    Ok(Vec::deserialize(input)?.into_iter().map(validation).collect())
}

/// Returns the address at which the state of an unfinished training is stored.
pub fn partial_address(editor: &Digest) -> Digest {
    FieldHasher::new("editor-training/1").digest("editor", editor).finish()
}

/// Trains an editor. An interrupted training with the same inputs is continued.
///
/// # Errors
/// If the data is not sufficient, a loss is not finite, the loss does not fall, or the store cannot be written. The
/// store then has no editor.
pub fn train(
    base: &Model,
    data: &TrainingData,
    inputs: &TrainingInputs,
    store: &Store,
    progress: &dyn Progress,
) -> Result<TrainedEditor, RunError> {
    let (editor, curve, best) = match inputs.editor(base, true) {
        AnyEditor::Mend(mend) => {
            let (mend, curve, best) = run(base, data, inputs, store, progress, mend)?;
            (AnyEditor::Mend(mend), curve, best)
        }
        AnyEditor::Ke(ke) => {
            let (ke, curve, best) = run(base, data, inputs, store, progress, ke)?;
            (AnyEditor::Ke(ke), curve, best)
        }
    };
    Ok(TrainedEditor { editor, curve, best })
}

fn run<L: Learner>(
    base: &Model,
    data: &TrainingData,
    inputs: &TrainingInputs,
    store: &Store,
    progress: &dyn Progress,
    learner: L,
) -> Result<(L, Vec<Validation>, usize), RunError> {
    let steps = inputs.numbers["steps"] as usize;
    let training = Training::new(base, data, training_settings(&inputs.numbers, inputs.seed), learner)?;
    let best = training.learner.clone();
    let mut session = Session { training, best, inputs, store, partial: partial_address(&inputs.address()) };
    progress.begin(&format!("{}, steps", inputs.name()), steps as u64);
    let done = session.run(steps, progress);
    progress.end();
    let position = done?;
    if position.best == 0 {
        let lowest = position.curve[1..].iter().map(|one| one.total).fold(f64::INFINITY, f64::min);
        return Err(RunError::NotLearned { start: position.curve[0].total, lowest });
    }
    Ok((session.best, position.curve, position.best))
}

/// A running training with its best parameters so far.
struct Session<'r, L: Learner> {
    training: Training<'r, L>,
    best: L,
    inputs: &'r TrainingInputs,
    store: &'r Store,
    /// The address of the stored state.
    partial: Digest,
}

impl<L: Learner> Session<'_, L> {
    fn run(&mut self, steps: usize, progress: &dyn Progress) -> Result<Position, RunError> {
        let every = self.inputs.numbers["every"] as usize;
        let mut position = self.begin(progress)?;
        progress.set_position(position.steps as u64);
        while position.steps < steps {
            self.training.step()?;
            position.steps = self.training.steps();
            progress.set_position(position.steps as u64);
            if position.steps.is_multiple_of(every) || position.steps == steps {
                self.validate(&mut position)?;
                progress.line(&line(position.curve.last().expect("a validation was added")));
                let bytes = suspend(&mut self.training, &mut self.best, &position);
                self.store.put(EntryKind::Partial, &self.partial, &bytes)?;
            }
        }
        Ok(position)
    }

    /// Returns the position of the stored training, or the position before the first step.
    fn begin(&mut self, progress: &dyn Progress) -> Result<Position, RunError> {
        let (training, best) = (&mut self.training, &mut self.best);
        let stored = self.store.recall(EntryKind::Partial, &self.partial, |bytes| resume(training, best, bytes))?;
        if let Some(position) = stored {
            progress.line(&format!("continued after step {}", position.steps));
            return Ok(position);
        }
        let first = Validation::new(0, self.training.validate()?, &self.inputs.numbers);
        progress.line(&line(&first));
        Ok(Position { steps: 0, curve: vec![first], best: 0 })
    }

    /// Adds the validation loss to the curve, and keeps the parameters if the loss is the lowest.
    fn validate(&mut self, position: &mut Position) -> Result<(), RunError> {
        let now = Validation::new(position.steps, self.training.validate()?, &self.inputs.numbers);
        if !now.total.is_finite() {
            return Err(TrainingError::Diverged { step: now.step }.into());
        }
        let lowest = position.curve.iter().map(|one| one.total).fold(f64::INFINITY, f64::min);
        if now.total < lowest {
            self.best = self.training.learner.clone();
            position.best = now.step;
        }
        position.curve.push(now);
        Ok(())
    }
}

fn line(now: &Validation) -> String {
    format!("step {}: edit {:.4}, KL {:.5}, loss {:.5}", now.step, now.edit, now.divergence, now.total)
}

/// Returns the bytes from which [`resume`] continues.
fn suspend<L: Learner>(training: &mut Training<'_, L>, best: &mut L, position: &Position) -> Vec<u8> {
    let mut all = tensors("now.", training.learner.state());
    all.extend(tensors("best.", best.state()));
    for (index, moments) in training.adam.moments.iter().enumerate() {
        for (which, moment) in moments.iter().enumerate() {
            let bytes = moment.iter().flat_map(|x| x.to_le_bytes()).collect();
            all.push((format!("adam.{index}.{which}"), Dtype::F32, bytes));
        }
    }
    file(&all, PROGRESS, serde_json::to_string(position).expect("a position is JSON"))
}

/// Sets a training to the state in `bytes`. Returns `None`, without a change of the position, if the bytes are not such
/// a state: the training then starts again.
fn resume<L: Learner>(training: &mut Training<'_, L>, best: &mut L, bytes: &[u8]) -> Option<Position> {
    let header = Header::parse(bytes.len() as u64, bytes).ok()?;
    let position: Position = serde_json::from_str(header.metadata.get(PROGRESS)?).ok()?;
    let (mut now, mut adam, mut then) = (training.learner.clone(), training.adam.clone(), best.clone());
    fill("now.", now.state(), &header, bytes).ok()?;
    fill("best.", then.state(), &header, bytes).ok()?;
    for (index, moments) in adam.moments.iter_mut().enumerate() {
        for (which, moment) in moments.iter_mut().enumerate() {
            fill("", vec![(format!("adam.{index}.{which}"), Numbers::F32(moment))], &header, bytes).ok()?;
        }
    }
    (training.learner, training.adam, *best) = (now, adam, then);
    training.skip(position.steps);
    Some(position)
}

#[cfg(test)]
#[path = "training_run_tests.rs"]
mod tests;
