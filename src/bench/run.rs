//! Editors over records: each record alone, and many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::Case;
use super::editors::{Edited, Editor, Name, Unedited};
use super::ground::{Ground, Questions, Stated};
use super::memory::Watch;
use super::metrics::consistency::Weights;
use super::metrics::fluency::fluency;
use super::metrics::generate::generated;
use super::metrics::{counterfact, zsre};
use crate::behaviour::damage::{Neutral, damage};
use crate::behaviour::{Question, scores};
use crate::build::Stop;
use crate::model::{Model, ModelError};
use crate::progress::Progress;
use crate::project::{Code, Diagnostic, Sources};

/// What a record came to, by how it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// CounterFact's comparison.
    Likelier(counterfact::Measured),
    /// Shares of right tokens.
    Right(zsre::Measured),
}

/// One record edited alone, or asked of the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The editor; none for the base.
    pub editor: Option<String>,
    /// The place of the record in the file.
    pub record: u64,
    /// Its number.
    pub case: u64,
    /// What it came to.
    pub measured: Measured,
    /// GE of what the model writes, in bits.
    pub fluency: Option<f64>,
    /// RS, where there are references.
    pub consistency: Option<f64>,
    /// Seconds of the edit; none where its value was in the store.
    pub seconds: Option<f64>,
    /// The most anonymous memory during the edit, in bytes, where the system tells.
    pub memory: Option<u64>,
    /// Whether its value did not converge; none where none was looked for.
    pub unconverged: Option<bool>,
}

/// Many records edited at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Together {
    /// The editor.
    pub editor: String,
    /// How many.
    pub size: usize,
    /// What each came to.
    pub measured: Vec<Measured>,
    /// Known facts that were not edited and are still known, of how many.
    pub untouched: Option<(usize, usize)>,
    /// Mean KL(base ‖ edited) on neutral text, in nats, and the growth of its perplexity.
    pub damage: Option<(Finite, Finite)>,
    /// Seconds of the edit, values that were in the store not looked for again.
    pub seconds: f64,
    /// The most anonymous memory during it, in bytes.
    pub memory: Option<u64>,
    /// Values that did not converge; none where none were looked for.
    pub unconverged: Option<usize>,
}

/// A number; none where it is not finite, which no JSON can say.
pub type Finite = Option<f64>;

/// An edit that could not be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The editor.
    pub editor: String,
    /// The place of the record in the file, where one was edited alone.
    pub record: Option<u64>,
    /// How many were edited at once, where many were.
    pub size: Option<usize>,
    /// Why.
    pub why: String,
}

impl Failed {
    /// Takes up why an edit was not made.
    ///
    /// # Errors
    /// It is not the edit that failed but what all edits stand on.
    pub fn of(error: Unedited, name: Name, record: Option<u64>, size: Option<usize>) -> Result<Self, Stop> {
        match error {
            Unedited::Facts(why) => Ok(Self { editor: name.text().to_owned(), record, size, why }),
            Unedited::Stop(stop) => Err(stop),
        }
    }
}

/// Facts that are asked whether they are still known, at most.
const UNTOUCHED: usize = 60;

/// How texts are drawn and held against references.
pub struct Writing<'a> {
    /// Every so many records are written about; none for 0.
    pub every: usize,
    /// The seed.
    pub seed: u64,
    /// Reference texts of a record, and their weights.
    pub references: Option<&'a References>,
}

/// Reference texts by relation and answer, joined.
#[derive(Debug, Default)]
pub struct References {
    /// TF-IDF.
    pub weights: Weights,
    /// By the names of relation and answer.
    pub texts: BTreeMap<(String, String), String>,
}

/// What is measured.
pub struct Bench<'a> {
    /// What editors are given.
    pub ground: &'a Ground<'a>,
    /// The records.
    pub stated: Vec<Stated>,
    /// How texts are drawn.
    pub writing: Writing<'a>,
    /// Neutral text.
    pub neutral: Option<Neutral>,
}

/// Whether a model gives the true answer of a record.
///
/// # Errors
/// The tokenizer refuses a text.
pub fn knows(ground: &Ground<'_>, model: &Model, case: &Case) -> Result<bool, ModelError> {
    let Some(was) = &case.was else { return Ok(false) };
    let limit = ground.base.model.spec().positions;
    let question = Question::new(&ground.base.tokens, case.filled().as_str().into(), was, limit)?;
    Ok(scores(model, &[question])[0].holds)
}

impl Bench<'_> {
    /// One record asked of the base.
    ///
    /// # Errors
    /// The tokenizer refuses a text.
    pub fn base(&self, index: usize) -> Result<Row, Stop> {
        let stated = &self.stated[index];
        let model = &self.ground.base.model;
        let (fluency, consistency) = self.written(model, index)?;
        let measured = stated.measure(model);
        let (record, case, editor) = (stated.case.record, stated.case.id, None);
        Ok(Row { editor, record, case, measured, fluency, consistency, seconds: None, memory: None, unconverged: None })
    }

    /// One record edited alone, and the edit rolled back.
    ///
    /// # Errors
    /// The editor fails, or the tokenizer refuses a text.
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

    /// The first `size` records edited at once.
    ///
    /// # Errors
    /// The editor fails, or the tokenizer refuses a text.
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
            // An editor may wreck a model; the base was looked at before.
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

    /// Facts of the other records that the base knows, and those of them that the edited model knows.
    fn untouched(&self, edited: &Edited, some: &[Stated], rest: &[Stated]) -> Result<Option<(usize, usize)>, Stop> {
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

    /// GE and RS of what a model writes about a record, if that is asked for.
    fn written(&self, model: &Model, index: usize) -> Result<(Option<f64>, Option<f64>), Stop> {
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
    /// Asks a model.
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

/// A text that the model cannot be asked.
pub fn unread(error: ModelError) -> Stop {
    Stop::wrong(vec![Diagnostic::new(Code::BenchRefused, error.to_string())], &Sources::default())
}
