//! Runs editors on records, each record alone or many at once, and measures the edited models.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::Case;
use super::editors::{Edited, Editor, Name, Unedited};
use super::eval_context::{Ground, Questions, Stated};
use super::metrics::consistency::Weights;
use super::metrics::fluency::fluency;
use super::metrics::generate::generated;
use super::metrics::{counterfact, zsre};
use super::peak_memory::Watch;
use crate::behaviour::damage::{Neutral, damage};
use crate::behaviour::{Question, scores};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::{Model, ModelError};
use crate::progress::Progress;

/// The results of a record; the dataset determines which metrics apply.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// Comparisons of the likelihoods of two answers, as for CounterFact.
    Likelier(counterfact::Measured),
    /// Shares of correct tokens, as for zsRE.
    Right(zsre::Measured),
}

/// The result of one record, edited alone or measured on the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the editor; `None` for the unedited base.
    pub editor: Option<String>,
    /// The index of the record in the file, from 0.
    pub record: u64,
    /// The case number of the record in its dataset.
    pub case: u64,
    /// The metrics of the edited model, or of the base.
    pub measured: Measured,
    /// GE of the generated text, in bits; `None` if none was generated.
    pub fluency: Option<f64>,
    /// RS of the generated text; `None` without reference texts.
    pub consistency: Option<f64>,
    /// The duration of the edit in seconds; `None` for the base, or if the value was read from the store.
    pub seconds: Option<f64>,
    /// The peak anonymous memory during the edit, in bytes; `None` if the system does not report it.
    pub memory: Option<u64>,
    /// Whether the value did not converge; `None` if the editor computes no value.
    pub unconverged: Option<bool>,
}

/// The result of a set of records edited at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Together {
    /// The name of the editor, as on the command line.
    pub editor: String,
    /// The number of records in the set.
    pub size: usize,
    /// The metrics of each record of the set, in order.
    pub measured: Vec<Measured>,
    /// The facts outside the set that the base knows, at most 60: how many of them the edited model still knows, and
    /// their number. `None` if there are none.
    pub untouched: Option<(usize, usize)>,
    /// The mean KL(base ‖ edited) on neutral text, in nats, and the relative growth of perplexity; `None` if not
    /// measured.
    pub damage: Option<(Finite, Finite)>,
    /// The duration of the edit in seconds; values read from the store take almost no time.
    pub seconds: f64,
    /// The peak anonymous memory during the edit, in bytes; `None` if the system does not report it.
    pub memory: Option<u64>,
    /// The number of values that did not converge; `None` if the editor computes no values.
    pub unconverged: Option<usize>,
}

/// A number, or `None` if it is not finite, which JSON cannot represent.
pub type Finite = Option<f64>;

/// A failed edit of one record or of one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The name of the editor that failed, as on the command line.
    pub editor: String,
    /// The index of the record in the file; `None` if a set was edited.
    pub record: Option<u64>,
    /// The number of records in the set; `None` if one record was edited alone.
    pub size: Option<usize>,
    /// The reason of the failure, for the user.
    pub why: String,
}

impl Failed {
    /// Converts an editor's error to a recorded failure.
    ///
    /// # Errors
    /// If the error affects all edits ([`Unedited::Stop`]).
    pub fn of(error: Unedited, name: Name, record: Option<u64>, size: Option<usize>) -> Result<Self, Failure> {
        match error {
            Unedited::Facts(why) => Ok(Self { editor: name.text().to_owned(), record, size, why }),
            Unedited::Stop(stop) => Err(stop),
        }
    }
}

/// The maximum number of facts outside the set that are tested.
const UNTOUCHED: usize = 60;

/// The settings of text generation, for GE and RS.
pub struct Writing<'a> {
    /// Text is generated for every N-th record; 0 disables it.
    pub every: usize,
    /// The seed of the run, from which the seed of each text is derived.
    pub seed: u64,
    /// The reference texts and their TF-IDF weights, if they were given.
    pub references: Option<&'a References>,
}

/// The published reference texts for RS.
#[derive(Debug, Default)]
pub struct References {
    /// The TF-IDF weights of the published vocabulary.
    pub weights: Weights,
    /// The joined texts about subjects with this answer, by the Wikidata ids of relation and answer.
    pub texts: BTreeMap<(String, String), String>,
}

/// The input of a benchmark run.
pub struct Bench<'a> {
    /// The common input of all editors.
    pub ground: &'a Ground<'a>,
    /// The tokenized records to edit, in the order of the file.
    pub stated: Vec<Stated>,
    /// The settings of text generation.
    pub writing: Writing<'a>,
    /// The neutral text; `None` if damage is not measured.
    pub neutral: Option<Neutral>,
}

/// Returns whether the true answer of a record holds on a model; false if the record does not state it.
///
/// # Errors
/// If the tokenizer rejects a text.
pub fn knows(ground: &Ground<'_>, model: &Model, case: &Case) -> Result<bool, ModelError> {
    let Some(was) = &case.was else { return Ok(false) };
    let limit = ground.base.model.spec().max_positions;
    let question = Question::new(&ground.base.tokens, case.filled().as_str().into(), was, limit)?;
    Ok(scores(model, &[question])[0].holds)
}

impl Bench<'_> {
    /// Measures one record, by its index in `stated`, on the unedited base.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn base(&self, index: usize) -> Result<Row, Failure> {
        let stated = &self.stated[index];
        let model = &self.ground.base.model;
        let (fluency, consistency) = self.written(model, index)?;
        let measured = stated.measure(model);
        let (record, case, editor) = (stated.case.record, stated.case.id, None);
        Ok(Row { editor, record, case, measured, fluency, consistency, seconds: None, memory: None, unconverged: None })
    }

    /// Edits one record alone and measures the edited model, which is then discarded.
    ///
    /// # Errors
    /// If the editor fails or the tokenizer rejects a text.
    pub fn alone(
        &self,
        name: Name,
        editor: &dyn Editor,
        index: usize,
        progress: &dyn Progress,
    ) -> Result<Row, Unedited> {
        let stated = &self.stated[index];
        let recalled = self.ground.recalled.get();
        let (edited, seconds, memory) = timed(|| editor.edit(self.ground, &[stated], progress))?;
        let seconds = (self.ground.recalled.get() == recalled).then_some(seconds);
        let (fluency, consistency) = self.written(&edited.model, index)?;
        Ok(Row {
            editor: Some(name.text().to_owned()),
            record: stated.case.record,
            case: stated.case.id,
            measured: stated.measure(&edited.model),
            fluency,
            consistency,
            seconds,
            memory,
            unconverged: edited.unconverged.map(|count| count > 0),
        })
    }

    /// Edits the first `size` records at once and measures the edited model.
    ///
    /// # Errors
    /// If the editor fails or the tokenizer rejects a text.
    pub fn together(
        &self,
        name: Name,
        editor: &dyn Editor,
        size: usize,
        progress: &dyn Progress,
    ) -> Result<Together, Unedited> {
        let (some, rest) = self.stated.split_at(size.min(self.stated.len()));
        let facts: Vec<&Stated> = some.iter().collect();
        let (edited, seconds, memory) = timed(|| editor.edit(self.ground, &facts, progress))?;
        let damaged = self.neutral.as_ref().map(|neutral| {
            // An editor may break a model so that its output is not finite. The base was checked before.
            let Ok(found) = damage(&self.ground.base.model, &edited.model, neutral) else { return (None, None) };
            let finite = |number: f64| Some(number).filter(|number| number.is_finite());
            (finite(found.divergence), finite(found.growth()))
        });
        Ok(Together {
            editor: name.text().to_owned(),
            size: some.len(),
            measured: some.iter().map(|stated| stated.measure(&edited.model)).collect(),
            untouched: self.untouched(&edited, some, rest)?,
            damage: damaged,
            seconds,
            memory,
            unconverged: edited.unconverged,
        })
    }

    /// Returns how many facts of other subjects the edited model still knows, and how many of them the base knows.
    fn untouched(&self, edited: &Edited, some: &[Stated], rest: &[Stated]) -> Result<Option<(usize, usize)>, Failure> {
        let subjects: BTreeSet<&str> = some.iter().map(|stated| stated.case.subject.as_str()).collect();
        let others = rest.iter().filter(|stated| !subjects.contains(stated.case.subject.as_str()));
        let (mut kept, mut all) = (0, 0);
        for stated in others {
            if all == UNTOUCHED {
                break;
            }
            if knows(self.ground, &self.ground.base.model, &stated.case).map_err(unread)? {
                all += 1;
                kept += usize::from(knows(self.ground, &edited.model, &stated.case).map_err(unread)?);
            }
        }
        Ok((all > 0).then_some((kept, all)))
    }

    /// Returns GE and RS of text generated for a record; both are `None` if none is generated.
    fn written(&self, model: &Model, index: usize) -> Result<(Option<f64>, Option<f64>), Failure> {
        let Writing { every, seed, references } = self.writing;
        let case = &self.stated[index].case;
        if every == 0 || !index.is_multiple_of(every) || case.generation.is_empty() {
            return Ok((None, None));
        }
        let texts = generated(model, &self.ground.base.tokens, &case.generation, seed).map_err(unread)?;
        let consistency = references.and_then(|references| {
            let key = (case.relation.clone()?, case.target_id.clone()?);
            Some(references.weights.cosine(&texts.join(" "), references.texts.get(&key)?))
        });
        Ok((fluency(texts.iter().map(String::as_str)), consistency))
    }
}

impl Stated {
    /// Runs the record's questions on a model and returns its metrics.
    fn measure(&self, model: &Model) -> Measured {
        match &self.questions {
            Questions::Likelier(questions) => Measured::Likelier(questions.measure(model)),
            Questions::Right(questions) => Measured::Right(questions.measure(model)),
        }
    }
}

fn timed(edit: impl FnOnce() -> Result<Edited, Unedited>) -> Result<(Edited, f64, Option<u64>), Unedited> {
    let watch = Watch::start();
    let start = Instant::now();
    let edited = edit();
    let seconds = start.elapsed().as_secs_f64();
    let memory = watch.stop();
    Ok((edited?, seconds, memory))
}

/// Converts the error for a text that the model cannot read.
pub fn unread(error: ModelError) -> Failure {
    Failure::from(Diagnostic::new(Code::BenchRefused, error.to_string()))
}
