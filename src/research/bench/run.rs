//! Edits dataset records, each record alone or many records at once, and measures the edited models.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::Case;
use super::editors::{EditError, Edited, Editor, EditorName};
use super::eval_context::{CaseQuestions, EvalContext, PreparedCase};
use super::metrics::consistency::TfIdf;
use super::metrics::fluency::fluency;
use super::metrics::generate::generate;
use super::metrics::said::{self, CaseTexts, SaidForm, SaidMetrics};
use super::metrics::{counterfact, zsre};
use super::peak_memory::PeakMemory;
use crate::behaviour::damage::{Damage, Neutral, PrefixTokens, damage_after_prefix};
use crate::behaviour::{Question, prompt, scores};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::{Model, ModelError};
use crate::progress::{NoProgress, Progress};

/// The metrics of one record. The dataset determines which metrics are computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CaseMetrics {
    /// The metrics of CounterFact: success rates and magnitudes, computed from the likelihoods of two answers.
    #[serde(rename = "likelier")]
    Likelihoods(counterfact::LikelihoodMetrics),
    /// The metrics of zsRE: shares of correctly predicted tokens.
    #[serde(rename = "right")]
    Tokens(zsre::TokenMetrics),
}

/// The result of one record, which was edited alone or measured on the unedited base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordResult {
    /// The name of the editor; `None` for the unedited base.
    pub editor: Option<String>,
    /// The index of the record in the dataset file, from 0.
    pub record: u64,
    /// The case number of the record in its dataset.
    pub case: u64,
    /// The metrics of the edited model, or of the unedited base.
    pub measured: CaseMetrics,
    /// The fluency (GE) of the generated text: its n-gram entropy in bits. `None` if no text was generated.
    pub fluency: Option<f64>,
    /// The consistency (RS) of the generated text with the reference texts; `None` if there are no reference texts.
    pub consistency: Option<f64>,
    /// The judgement of the texts that are generated after the prompts of the record; `None` without `--said`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<SaidMetrics>,
    /// The duration of the edit in seconds; `None` for the base, or if the value vector was read from the store.
    pub seconds: Option<f64>,
    /// The peak anonymous memory during the edit, in bytes; `None` if the operating system does not report the memory.
    pub memory: Option<u64>,
    /// Whether the optimisation of the value vector did not converge; `None` if the editor optimises no value vector.
    pub unconverged: Option<bool>,
}

/// The result of a set of records edited at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchResult {
    /// The name of the editor, as on the command line.
    pub editor: String,
    /// The number of records in the set.
    pub size: usize,
    /// The metrics of each record of the set, in the order of the dataset file.
    pub measured: Vec<CaseMetrics>,
    /// The judgements of the generated texts of each record, in the same order; empty without `--said`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<SaidMetrics>,
    /// The number of tested facts that the edited model still predicts, and the number of all tested facts. At most 60
    /// facts are tested. The base predicts each of them, and none of their subjects is edited. `None` if no fact was
    /// tested.
    pub untouched: Option<(usize, usize)>,
    /// The damage on neutral text: the mean KL(base ‖ edited) in nats, and the relative growth of perplexity. `None` if
    /// the damage was not measured.
    pub damage: Option<(Finite, Finite)>,
    /// The duration of the edit in seconds. The duration is shorter if value vectors are read from the store.
    pub seconds: f64,
    /// The peak anonymous memory during the edit, in bytes; `None` if the operating system does not report the memory.
    pub memory: Option<u64>,
    /// The number of value vectors whose optimisation did not converge; `None` if the editor optimises no value
    /// vectors.
    pub unconverged: Option<usize>,
}

/// A number; `None` stands for infinity and NaN, which JSON cannot represent.
pub type Finite = Option<f64>;

/// A failed edit of one record or of one set of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedEdit {
    /// The name of the editor that failed, as on the command line.
    pub editor: String,
    /// The index of the record in the dataset file, from 0; `None` if a set was edited.
    pub record: Option<u64>,
    /// The number of records in the set; `None` if one record was edited alone.
    pub size: Option<usize>,
    /// The number of records in a batch; `None` if the records were not edited in batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// The reason why the edit failed, as shown to the user.
    pub why: String,
}

/// The records that an editor edits before they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditedRecords {
    /// One record, by its index in the dataset file, from 0.
    One(u64),
    /// A set of this many records at once.
    Set(usize),
    /// `size` records in batches, one batch after the other.
    Batches { size: usize, batch: usize },
}

impl FailedEdit {
    /// Returns the records that could not be edited.
    pub fn edited(&self) -> EditedRecords {
        let size = self.size.unwrap_or_default();
        match (self.record, self.batch) {
            (Some(record), _) => EditedRecords::One(record),
            (None, None) => EditedRecords::Set(size),
            (None, Some(batch)) => EditedRecords::Batches { size, batch },
        }
    }

    /// Converts an editor's error to a [`FailedEdit`] for the results file.
    ///
    /// # Errors
    /// If the error ends the benchmark ([`EditError::Stop`]).
    pub fn of(error: EditError, name: EditorName, edited: EditedRecords) -> Result<Self, Failure> {
        let (record, size, batch) = match edited {
            EditedRecords::One(record) => (Some(record), None, None),
            EditedRecords::Set(size) => (None, Some(size), None),
            EditedRecords::Batches { size, batch } => (None, Some(size), Some(batch)),
        };
        match error {
            EditError::Facts(why) => Ok(Self { editor: name.text().to_owned(), record, size, batch, why }),
            EditError::Stop(stop) => Err(stop),
        }
    }
}

/// The maximum number of facts about unedited subjects that are tested after a set of records is edited, as reported in
/// [`BatchResult::untouched`].
const MOST_UNTOUCHED: usize = 60;

pub struct GenerationOptions<'a> {
    /// The interval between two records for which text is generated: 1 means every record, 0 means no record.
    pub every: usize,
    /// The seed of the benchmark, from which the random numbers for the generated texts are derived.
    pub seed: u64,
    /// The reference texts for the consistency RS; `None` if the user gives no folder of reference texts.
    pub references: Option<&'a References>,
}

/// The reference texts and TF-IDF weights published with CounterFact, from which the consistency RS is computed.
#[derive(Debug, Default)]
pub struct References {
    pub weights: TfIdf,
    /// The reference texts, by the Wikidata ids of a relation and an answer. The texts for each pair of ids are joined
    /// to one string.
    pub texts: BTreeMap<(String, String), String>,
}

pub struct Bench<'a> {
    pub context: &'a EvalContext<'a>,
    /// The tokenized records to edit, in the order of the dataset file.
    pub cases: Vec<PreparedCase>,
    pub generation: GenerationOptions<'a>,
    /// How prompts are asked for the texts that are judged; `None` if no text is judged.
    pub said: Option<SaidForm>,
    /// The texts of the unedited base for each record, from [`Bench::generate_base_texts`]; empty if no text is judged.
    pub base_texts: Vec<CaseTexts>,
    /// The neutral sentences on which damage is measured; `None` if damage is not measured.
    pub neutral: Option<Neutral>,
}

/// Returns whether a model predicts the true answer of a record; false if the record does not state the true answer.
///
/// # Errors
/// If the tokenizer rejects a text, or a text is longer than the context of the model.
pub fn knows(context: &EvalContext<'_>, model: &Model, case: &Case) -> Result<bool, ModelError> {
    knows_after_prefix(context, model, "", case)
}

/// Does the same as [`knows`], but with the text `prefix` before the prompt.
fn knows_after_prefix(context: &EvalContext<'_>, model: &Model, prefix: &str, case: &Case) -> Result<bool, ModelError> {
    let Some(was) = &case.was else { return Ok(false) };
    let limit = context.base.model.spec().max_positions;
    let asked = format!("{prefix}{}", case.filled());
    let question = Question::new(&context.base.tokens, asked.as_str().into(), was, limit)?;
    Ok(scores(model, &[question])[0].holds)
}

impl Bench<'_> {
    /// Measures the record at `index` in [`Bench::cases`] on the unedited base.
    ///
    /// # Errors
    /// If the tokenizer rejects a prompt for text generation.
    pub fn base(&self, index: usize) -> Result<RecordResult, Failure> {
        let stated = &self.cases[index];
        let model = &self.context.base.model;
        let (fluency, consistency) = self.generated_scores(model, "", index).map_err(text_error)?;
        let measured = stated.questions.measure(model);
        let said = self.said(index..index + 1, model, "").map_err(text_error)?.pop();
        let (record, case, editor) = (stated.case.record, stated.case.id, None);
        Ok(RecordResult {
            editor,
            record,
            case,
            measured,
            fluency,
            consistency,
            said,
            seconds: None,
            memory: None,
            unconverged: None,
        })
    }

    /// Edits the record at `index` in [`Bench::cases`] alone and measures the edited model.
    ///
    /// # Errors
    /// If the editor fails or the tokenizer rejects a text.
    pub fn single(
        &self,
        name: EditorName,
        editor: &dyn Editor,
        index: usize,
        progress: &dyn Progress,
    ) -> Result<RecordResult, EditError> {
        let stated = &self.cases[index];
        let recalled = self.context.from_store.get();
        let (edited, seconds, memory) = timed(|| editor.edit(self.context, &[stated], progress))?;
        let seconds = (self.context.from_store.get() == recalled).then_some(seconds);
        let generated = self.generated_scores(&edited.model, &edited.prefix, index);
        let (fluency, consistency) = generated.map_err(|error| edited.unmeasured(error))?;
        let said = self.said(index..index + 1, &edited.model, &edited.prefix);
        let said = said.map_err(|error| edited.unmeasured(error))?.pop();
        Ok(RecordResult {
            editor: Some(name.text().to_owned()),
            record: stated.case.record,
            case: stated.case.id,
            measured: self.measure(stated, &edited)?,
            fluency,
            consistency,
            said,
            seconds,
            memory,
            unconverged: edited.unconverged.map(|count| count > 0),
        })
    }

    /// Edits the first `size` records as one set, and measures the edited model.
    ///
    /// # Errors
    /// If the editor fails or the tokenizer rejects a text.
    pub fn batch(
        &self,
        name: EditorName,
        editor: &dyn Editor,
        size: usize,
        progress: &dyn Progress,
    ) -> Result<BatchResult, EditError> {
        let (some, rest) = self.cases.split_at(size.min(self.cases.len()));
        let facts: Vec<&PreparedCase> = some.iter().collect();
        let (edited, seconds, memory) = timed(|| editor.edit(self.context, &facts, progress))?;
        let (measured, said) = self.measure_all(0..some.len(), &edited)?;
        Ok(BatchResult {
            said,
            editor: name.text().to_owned(),
            size: some.len(),
            measured,
            untouched: self.untouched(&edited, some, rest)?,
            damage: self.damaged(&edited),
            seconds,
            memory,
            unconverged: edited.unconverged,
        })
    }

    /// Measures the records at these indices in [`Bench::cases`] on an edited model.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub(super) fn measure_all(
        &self,
        records: Range<usize>,
        edited: &Edited,
    ) -> Result<(Vec<CaseMetrics>, Vec<SaidMetrics>), EditError> {
        let measured = self.cases[records.clone()].iter().map(|stated| self.measure(stated, edited));
        let said = self.said(records, &edited.model, &edited.prefix).map_err(|error| edited.unmeasured(error))?;
        Ok((measured.collect::<Result<_, _>>()?, said))
    }

    /// Measures the damage on neutral text: the mean KL(base ‖ edited) and the growth of perplexity; `None` if damage is
    /// not measured.
    pub(super) fn damaged(&self, edited: &Edited) -> Option<(Finite, Finite)> {
        let neutral = self.neutral.as_ref()?;
        // `damage` fails if the edited model's output is not finite. The output of the base was checked before the
        // benchmark.
        let Ok(found) = self.damage(edited, neutral) else { return Some((None, None)) };
        let finite = |number: f64| Some(number).filter(|number| number.is_finite());
        Some((finite(found.divergence), finite(found.growth())))
    }

    /// Tests whether the edited model still predicts facts about unedited subjects. At most [`MOST_UNTOUCHED`] facts
    /// are tested, and only facts that the base predicts. Returns the number of facts that are still predicted, and the
    /// number of tested facts; `None` if no fact was tested.
    fn untouched(
        &self,
        edited: &Edited,
        some: &[PreparedCase],
        rest: &[PreparedCase],
    ) -> Result<Option<(usize, usize)>, EditError> {
        let subjects: BTreeSet<&str> = some.iter().map(|stated| stated.case.subject.as_str()).collect();
        let others = rest.iter().filter(|stated| !subjects.contains(stated.case.subject.as_str()));
        let (mut kept, mut all) = (0, 0);
        for stated in others {
            if all == MOST_UNTOUCHED {
                break;
            }
            if knows(self.context, &self.context.base.model, &stated.case).map_err(text_error)? {
                all += 1;
                let kept_one = knows_after_prefix(self.context, &edited.model, &edited.prefix, &stated.case);
                kept += usize::from(kept_one.map_err(|error| edited.unmeasured(error))?);
            }
        }
        Ok((all > 0).then_some((kept, all)))
    }

    /// Measures an edited model on the prompts of a record.
    ///
    /// # Errors
    /// If a prompt does not fit the context of the model after the prefix of the edited model.
    pub(super) fn measure(&self, stated: &PreparedCase, edited: &Edited) -> Result<CaseMetrics, EditError> {
        if edited.prefix.is_empty() {
            return Ok(stated.questions.measure(&edited.model));
        }
        let likelier = matches!(stated.questions, CaseQuestions::Likelihoods(_));
        let questions = self.context.questions(&stated.case, likelier, &edited.prefix);
        Ok(questions.map_err(|error| edited.unmeasured(error))?.measure(&edited.model))
    }

    /// Generates the texts of the unedited base after the prompts of all records, if texts are judged.
    ///
    /// # Errors
    /// If the tokenizer rejects a prompt, a prompt is longer than the context, or the logits are not finite.
    pub fn generate_base_texts(&mut self, progress: &dyn Progress) -> Result<(), ModelError> {
        let Some(form) = self.said else { return Ok(()) };
        let (base, cases): (_, Vec<&Case>) = (self.context.base, self.cases.iter().map(|one| &one.case).collect());
        let count: usize = cases.iter().map(|case| said::prompts(case).len()).sum();
        progress.begin("base, texts", count as u64);
        let texts = said::texts(&base.model, &base.tokens, &cases, (form, ""), progress);
        progress.end();
        self.base_texts = texts?;
        Ok(())
    }

    /// Judges the texts that a model generates after the prompts of the records at these indices, with `prefix` before
    /// each prompt. Returns no judgement if no text is judged.
    fn said(&self, records: Range<usize>, model: &Model, prefix: &str) -> Result<Vec<SaidMetrics>, ModelError> {
        let Some(form) = self.said else { return Ok(Vec::new()) };
        let cases: Vec<&Case> = self.cases[records.clone()].iter().map(|stated| &stated.case).collect();
        let of_base = &self.base_texts[records];
        // The texts of the unedited base are not generated again.
        if std::ptr::eq(model, &raw const self.context.base.model) && prefix.is_empty() {
            return Ok(cases.iter().zip(of_base).map(|(case, texts)| said::judge(case, texts, texts)).collect());
        }
        let texts = said::texts(model, &self.context.base.tokens, &cases, (form, prefix), &NoProgress)?;
        Ok(cases.iter().zip(&texts).zip(of_base).map(|((case, texts), was)| said::judge(case, texts, was)).collect())
    }

    fn damage(&self, edited: &Edited, neutral: &Neutral) -> Result<Damage, ModelError> {
        let (base, tokens) = (&self.context.base.model, &self.context.base.tokens);
        let prefix = edited.prefix.as_str();
        let ids = if prefix.is_empty() { vec![] } else { prompt(tokens, prefix.into(), base.spec().max_positions)? };
        let special = ids.iter().take_while(|id| tokens.is_special(**id)).count();
        damage_after_prefix(base, &edited.model, PrefixTokens { ids: &ids, special }, neutral)
    }

    /// Generates text for a record, with `prefix` before each prompt, and returns the fluency GE and the consistency RS of the text. Both are `None` if no
    /// text is generated for the record. RS is also `None` if there are no reference texts for the record.
    fn generated_scores(
        &self,
        model: &Model,
        prefix: &str,
        index: usize,
    ) -> Result<(Option<f64>, Option<f64>), ModelError> {
        let GenerationOptions { every, seed, references } = self.generation;
        let case = &self.cases[index].case;
        if every == 0 || !index.is_multiple_of(every) || case.generation.is_empty() {
            return Ok((None, None));
        }
        let texts = generate(model, &self.context.base.tokens, prefix, &case.generation, seed)?;
        let consistency = references.and_then(|references| {
            let key = (case.relation.clone()?, case.target_id.clone()?);
            Some(references.weights.cosine(&texts.join(" "), references.texts.get(&key)?))
        });
        Ok((fluency(texts.iter().map(String::as_str)), consistency))
    }
}

impl CaseQuestions {
    fn measure(&self, model: &Model) -> CaseMetrics {
        match self {
            Self::Likelihoods(questions) => CaseMetrics::Likelihoods(questions.measure(model)),
            Self::Tokens(questions) => CaseMetrics::Tokens(questions.measure(model)),
        }
    }
}

impl Edited {
    /// Converts an error in tokenizing a prompt or an answer. If the prefix makes a prompt longer than the context of
    /// the model, only the edit of these facts fails.
    pub(super) fn unmeasured(&self, error: ModelError) -> EditError {
        match error {
            ModelError::TooLong { tokens, limit, .. } if !self.prefix.is_empty() => EditError::Facts(format!(
                "a prompt with the facts before it is {tokens} tokens long; the model's context is {limit}"
            )),
            other => EditError::Stop(text_error(other)),
        }
    }
}

pub(super) fn timed(edit: impl FnOnce() -> Result<Edited, EditError>) -> Result<(Edited, f64, Option<u64>), EditError> {
    let watch = PeakMemory::start();
    let start = Instant::now();
    let edited = edit();
    let seconds = start.elapsed().as_secs_f64();
    let memory = watch.stop();
    Ok((edited?, seconds, memory))
}

/// Converts an error in tokenizing a prompt or an answer to a failure of the command `bench`.
pub fn text_error(error: ModelError) -> Failure {
    Failure::from(Diagnostic::new(Code::BenchRefused, error.to_string()))
}
