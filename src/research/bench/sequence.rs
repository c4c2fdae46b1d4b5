//! Edits the records in batches, one batch after the other, each on the model with the earlier batches. Every batch is
//! measured right after itself, as the code of AlphaEdit does, and all records are measured at the end, as EasyEdit and
//! WILD do. The two protocols give different numbers, because later batches change what earlier ones wrote.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::editors::ultraedit::Statistics;
use super::editors::{EditError, Editor, EditorName};
use super::eval_context::PreparedCase;
use super::run::{BatchResult, Bench, timed};
use crate::model::Model;
use crate::progress::Progress;

/// What the batches of a sequence share.
pub struct SequenceState {
    /// The model with all earlier batches.
    pub model: Model,
    /// The MLP keys of all earlier batches by layer, which AlphaEdit keeps.
    pub(crate) keys: BTreeMap<usize, Vec<Vec<f32>>>,
    /// The running statistics of UltraEdit.
    pub(crate) statistics: Statistics,
}

/// The result of all records edited in batches, one batch after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SequenceResult {
    /// The number of records in a batch; the last batch may have fewer.
    pub batch: usize,
    /// The metrics of every record, measured right after its own batch.
    pub after_each: BatchResult,
    /// The metrics of every record, measured after the last batch.
    pub after_all: BatchResult,
}

impl Bench<'_> {
    /// Edits all records in batches of `batch` records, and measures them after their batch and at the end.
    ///
    /// # Errors
    /// If the editor fails or the tokenizer rejects a text.
    pub fn sequence(
        &self,
        name: EditorName,
        editor: &dyn Editor,
        batch: usize,
        progress: &dyn Progress,
    ) -> Result<SequenceResult, EditError> {
        let model = self.context.base.model.clone();
        let state = SequenceState { model, keys: BTreeMap::new(), statistics: Statistics::new() };
        *self.context.sequence.borrow_mut() = Some(state);
        let found = self.edit_in_sequence(name, editor, batch, progress);
        *self.context.sequence.borrow_mut() = None;
        found
    }

    fn edit_in_sequence(
        &self,
        name: EditorName,
        editor: &dyn Editor,
        batch: usize,
        progress: &dyn Progress,
    ) -> Result<SequenceResult, EditError> {
        let (mut measured, mut said) = (Vec::new(), Vec::new());
        let (mut seconds, mut memory, mut unconverged) = (0.0, None, None);
        let mut last = None;
        let count = self.cases.len().div_ceil(batch);
        for (index, own) in self.cases.chunks(batch).enumerate() {
            progress.line(&format!("batch {} of {count}", index + 1));
            let before = index * batch;
            // A text before the prompt holds the facts of all batches, because it changes no model.
            let facts = if name == EditorName::Ike { &self.cases[..before + own.len()] } else { own };
            let facts: Vec<&PreparedCase> = facts.iter().collect();
            let (edited, spent, most) = timed(|| editor.edit(self.context, &facts, progress))?;
            seconds += spent;
            memory = memory.max(most);
            unconverged = edited.unconverged.map_or(unconverged, |more| Some(unconverged.unwrap_or(0) + more));
            let (of_batch, said_by_batch) = self.measure_all(before..before + own.len(), &edited)?;
            measured.extend(of_batch);
            said.extend(said_by_batch);
            if let Some(sequence) = &mut *self.context.sequence.borrow_mut() {
                sequence.model = edited.model.clone();
            }
            last = Some(edited);
        }
        let Some(edited) = last else { return Err(EditError::Facts("there is no record".to_owned())) };
        let (measured_last, said_last) = self.measure_all(0..self.cases.len(), &edited)?;
        let after_each = BatchResult {
            editor: name.text().to_owned(),
            size: self.cases.len(),
            measured,
            said,
            untouched: None,
            damage: None,
            seconds,
            memory,
            unconverged,
        };
        let damage = self.damaged(&edited);
        let after_all = BatchResult { measured: measured_last, said: said_last, damage, ..after_each.clone() };
        Ok(SequenceResult { batch, after_each, after_all })
    }
}
