//! Compares the predictions of two models, and measures the damage on neutral text. Cached results from the store are
//! reused.

use std::cell::OnceCell;

use crate::behaviour::ask::{PredictionPair, TextPair, ask_cached};
use crate::behaviour::cache::MeasurementCache;
use crate::behaviour::continuation::continuations;
use crate::behaviour::damage::Damage;
use crate::behaviour::damage::{Neutral, damage_cached};
use crate::behaviour::expectation::{Expectation, SAID, UnrunnablePrompt, check_finite_answers, groups, inquiries};
use crate::behaviour::task::compare::TaskModel;
use crate::behaviour::task::{EncodedTask, TaskResult};
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::model::Model;
use crate::patch::Patch;
use crate::pipeline::Base;
use crate::pipeline::policy_limits::not_finite_error;
use crate::pipeline::tasks::measure_tasks;
use crate::progress::Progress;

/// A base model with a patch. The patched model is created on first use, because its weights are not needed if all
/// results are cached.
pub struct PatchedModel<'a> {
    base: &'a Base,
    patch: &'a Patch,
    sources: &'a Sources,
    model: OnceCell<Model>,
}

impl<'a> PatchedModel<'a> {
    /// Combines a base model and a patch. The patch is applied later, by [`PatchedModel::model`].
    pub fn new(base: &'a Base, patch: &'a Patch, sources: &'a Sources) -> Self {
        Self { base, patch, sources, model: OnceCell::new() }
    }

    /// Returns the patched model; the first call applies the patch.
    ///
    /// # Errors
    /// If the patch was built for another base model, or a patched weight is not finite.
    pub fn model(&self) -> Result<&Model, Failure> {
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        let made = self.base.patched(self.patch).map_err(|error| {
            Failure::from(Diagnostic::new(Code::PatchMissing, error.to_string())).with_sources(self.sources)
        })?;
        Ok(self.model.get_or_init(|| made))
    }
}

/// Two models to compare, with the cache of their results.
pub struct ModelPair<'a> {
    /// The earlier model; for the command `test`, the base model.
    pub before: &'a Model,
    /// A function that returns the later model. It is called only if a result is not cached.
    pub after: &'a dyn Fn() -> Result<&'a Model, Failure>,
    pub cache: MeasurementCache<'a>,
    /// Whether both models generate a text after every prompt. If not, they generate one after each prompt whose text
    /// decides whether the expectation is met.
    pub texts: bool,
    pub progress: &'a dyn Progress,
}

impl ModelPair<'_> {
    /// Runs every expectation on both models and returns the predictions in the order of the expectations. `to_failure`
    /// converts prompts that cannot be run to an error.
    ///
    /// # Errors
    /// If a prompt cannot be run or the later model cannot be created.
    pub fn ask(
        &self,
        base: &Base,
        expectations: &[Expectation<'_>],
        to_failure: impl Fn(Vec<UnrunnablePrompt>) -> Failure,
    ) -> Result<Vec<PredictionPair>, Failure> {
        let inquiries = inquiries(&base.tokens, base.model.spec().max_positions, expectations).map_err(&to_failure)?;
        let groups = groups(&inquiries, expectations);
        let mut found: Vec<Option<Vec<PredictionPair>>> =
            groups.iter().map(|group| self.cache.answers(group)).collect();
        let missing: Vec<_> = groups.iter().zip(&found).filter(|(_, found)| found.is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|(group, _)| *group).collect();
        if !missing.is_empty() {
            let after = (self.after)()?;
            let count = missing.iter().map(|group| group.len()).sum::<usize>();
            self.progress.begin_short("prompts evaluated by both models", count as u64);
            let pairs = ask_cached(&self.cache, self.before, after, &missing, self.progress);
            self.progress.end();
            let mut pairs = pairs.into_iter();
            for (group, answers) in groups.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *answers = Some(pairs.by_ref().take(group.len()).collect());
            }
        }
        let all = found.into_iter().flatten().flatten().collect();
        let mut pairs = check_finite_answers(all, expectations).map_err(to_failure)?;
        let chosen: Vec<usize> =
            (0..expectations.len()).filter(|index| self.texts || expectations[*index].says.is_some()).collect();
        if !chosen.is_empty() {
            let rows: Vec<&[u32]> = chosen.iter().map(|index| inquiries[*index].prompt()).collect();
            let [earlier, later] = self.cache.of_each();
            let was = self.generated(base, &earlier, &|| Ok(self.before), &rows)?;
            let is = self.generated(base, &later, self.after, &rows)?;
            for ((index, before), after) in chosen.into_iter().zip(was).zip(is) {
                pairs[index].texts = Some(TextPair { before, after });
            }
        }
        Ok(pairs)
    }

    /// Generates the text of one model after each prompt. Texts that are cached are not generated again.
    fn generated<'m>(
        &self,
        base: &Base,
        cache: &MeasurementCache<'_>,
        model: &dyn Fn() -> Result<&'m Model, Failure>,
        rows: &[&[u32]],
    ) -> Result<Vec<String>, Failure> {
        let mut found: Vec<Option<String>> = rows.iter().map(|row| cache.text(row, SAID)).collect();
        let missing: Vec<usize> = (0..rows.len()).filter(|index| found[*index].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<&[u32]> = missing.iter().map(|index| rows[*index]).collect();
            let model = model()?;
            self.progress.begin_short("prompts that a model continues", asked.len() as u64);
            let texts = continuations(model, &base.tokens, &asked, SAID, self.progress);
            self.progress.end();
            let texts = texts.map_err(|error| not_finite_error(&error))?;
            for (index, text) in missing.into_iter().zip(texts) {
                cache.store_text(rows[index], SAID, &text);
                found[index] = Some(text);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Compares the two models on tasks. `limit` is the largest allowed fall of the accuracy.
    ///
    /// # Errors
    /// If the logits of a model are not finite, or the later model cannot be created.
    pub fn tasks(&self, base: &Base, tasks: &[EncodedTask], limit: Option<f64>) -> Result<Vec<TaskResult>, Failure> {
        let before = || Ok(self.before);
        let models = [
            TaskModel { cache: self.cache.of_before(), model: &before },
            TaskModel { cache: self.cache.of_after(), model: self.after },
        ];
        measure_tasks(tasks, base, models, limit, self.progress)
    }

    /// Measures the KL divergence between the two models and their perplexities on neutral text.
    ///
    /// # Errors
    /// If the logits of a model are not finite, or the later model cannot be created.
    pub fn damage(&self, neutral: &Neutral) -> Result<Damage, Failure> {
        if let Some(known) = self.cache.damage(neutral) {
            return Ok(known);
        }
        let after = (self.after)()?;
        self.progress.begin_short("neutral documents evaluated by both models", neutral.documents().len() as u64);
        let measured = damage_cached(&self.cache, self.before, after, neutral, self.progress);
        self.progress.end();
        measured.map_err(|error| not_finite_error(&error))
    }
}
