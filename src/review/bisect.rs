//! Finds the edits that break an expectation, by leaving out one edit at a time.
//!
//! For each edit, a patch of all other edits is linked, and all failing expectations are checked again with this patch.
//! Compiled edits do not depend on each other, so only the linear system is solved again. In addition, an expectation
//! that an edit states is checked with a patch that contains only this edit.

use crate::behaviour::ask::PredictionPair;
use crate::behaviour::expectation::{Expectation, ask_expectations};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::Model;
use crate::pipeline::Base;
use crate::pipeline::plan_linker::PlanLinker;
use crate::pipeline::policy_limits::{thresholds, unrunnable_error};
use crate::progress::Progress;
use crate::project::Project;
use crate::report::Culprit;

/// Returns one [`Culprit`] per failing expectation. Its field `breaks` lists each edit whose removal alone makes the
/// expectation met. If there is no such edit, `nearest` is the edit whose removal brings the expectation closest to
/// being met.
///
/// # Errors
/// If a smaller set of edits cannot be linked, or a prompt cannot be run.
pub fn culprits(
    project: &Project,
    base: &Base,
    linker: &PlanLinker<'_>,
    failing: &[&Expectation<'_>],
    progress: &dyn Progress,
) -> Result<Vec<Culprit>, Failure> {
    let search = LeaveOneOut { project, base, linker };
    let list: Vec<Expectation<'_>> = failing.iter().map(|one| (*one).clone()).collect();
    let ids = search.ids();
    // A patch of a subset of the edits is not refined, so the patch of all edits is linked here without refinement too.
    // If this patch meets an expectation, the cause of the failure is the refinement and not an edit.
    let whole = match search.patched(|_| true)? {
        Some(patched) => search.ask(&patched, &list)?,
        None => Vec::new(),
    };
    let thresholds_of = thresholds(&project.config);
    let met: Vec<bool> = list.iter().zip(&whole).map(|(one, pair)| one.is_met(pair, thresholds_of)).collect();
    progress.begin("edits to leave out", ids.len() as u64);
    let mut culprits: Vec<Culprit> = Vec::new();
    for one in &list {
        let (id, prompt) = (one.id.to_owned(), one.display_prompt());
        culprits.push(Culprit { id, prompt, alone: search.alone(one)?, breaks: Vec::new(), nearest: None });
    }
    let mut nearest: Vec<Option<Nearest>> = vec![None; list.len()];
    for (done, id) in ids.iter().enumerate() {
        let Some(pairs) = search.without(id, &list)? else { continue };
        for (index, (one, pair)) in list.iter().zip(&pairs).enumerate() {
            if is_of(one, id) {
                continue;
            }
            if !met.get(index).copied().unwrap_or(false) && one.is_met(pair, thresholds_of) {
                culprits[index].breaks.push((*id).to_owned());
            }
            let gain = pair.after.probability().unwrap_or(-pair.divergence);
            if nearest[index].as_ref().is_none_or(|best| gain > best.gain) {
                let figure = pair.after.probability().unwrap_or(pair.divergence);
                nearest[index] = Some(Nearest { gain, id: (*id).to_owned(), figure });
            }
        }
        progress.set_position(done as u64 + 1);
    }
    progress.end();
    for (culprit, closest) in culprits.iter_mut().zip(nearest) {
        culprit.nearest = closest.filter(|_| culprit.breaks.is_empty()).map(|best| (best.id, best.figure));
    }
    Ok(culprits)
}

/// The edit whose removal brings a failing expectation closest to being met.
#[derive(Clone)]
struct Nearest {
    /// The number by which edits are compared; larger is better. It is the probability of the accepted answer after the
    /// edit is removed. If the next token should stay unchanged, it is the KL divergence with a minus sign.
    gain: f64,
    id: String,
    /// The number that the report shows: the probability of the accepted answer after the edit is removed. If the next
    /// token should stay unchanged, it is the KL divergence in nats.
    figure: f64,
}

/// Returns whether the edit with this id states the expectation. The result is false for an expectation of a probe,
/// even if the probe has the same id.
fn is_of(one: &Expectation<'_>, id: &str) -> bool {
    one.edit.is_some_and(|edit| edit.id == id)
}

struct LeaveOneOut<'a> {
    project: &'a Project,
    base: &'a Base,
    linker: &'a PlanLinker<'a>,
}

impl<'a> LeaveOneOut<'a> {
    /// Returns the ids of all edits. An edit and its aliases share one id, so they are left out together.
    fn ids(&self) -> Vec<&'a str> {
        self.project.edits.edits.iter().map(|edit| edit.id.as_str()).collect()
    }

    fn patched(&self, is_chosen: impl Fn(&str) -> bool) -> Result<Option<Model>, Failure> {
        let edits = self.linker.edits().iter().enumerate();
        let chosen: Vec<usize> = edits.filter(|(_, one)| is_chosen(&one.edit.id)).map(|(index, _)| index).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let linked = self.linker.link_subset(&chosen)?;
        let patched = self.base.patched(&linked.patch).map_err(|error| {
            Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())).with_sources(&self.project.edits.sources)
        })?;
        Ok(Some(patched))
    }

    fn ask(&self, patched: &Model, list: &[Expectation<'_>]) -> Result<Vec<PredictionPair>, Failure> {
        let pairs = ask_expectations(&self.base.model, patched, &self.base.tokens, list);
        pairs.map_err(|unrunnable| unrunnable_error(self.project, &unrunnable))
    }

    /// Runs the expectations on the base model, and on the model that is patched with all edits except the edit `id`.
    /// Returns `None` if no other edit remains.
    fn without(&self, id: &str, list: &[Expectation<'_>]) -> Result<Option<Vec<PredictionPair>>, Failure> {
        self.patched(|other| other != id)?.map(|patched| self.ask(&patched, list)).transpose()
    }

    /// Returns whether an expectation is met with a patch of only the edit that states it. The result is true for a
    /// probe, because no edit states the expectation.
    fn alone(&self, one: &Expectation<'_>) -> Result<bool, Failure> {
        let Some(patched) = self.patched(|other| is_of(one, other))? else { return Ok(true) };
        let pairs = self.ask(&patched, std::slice::from_ref(one))?;
        Ok(pairs.iter().all(|pair| one.is_met(pair, thresholds(&self.project.config))))
    }
}
