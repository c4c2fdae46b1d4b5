//! Links the edits of a plan. An error contains the location of the edit in its file.

use super::linker::{LinkEdit, LinkError, LinkedLayers, Linker, RefinementInputs};
use super::objects::Objects;
use super::{Base, Plan, PlannedEdit, Setup};
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::link::{LinkPair, ParallelKeys};
use crate::numeric::cholesky::Factor;
use crate::patch::{Patch, PatchError};
use crate::progress::Progress;

/// The threshold for the warning that two edits disturb each other: the minimum absolute cosine of their MLP keys. The
/// cosine is taken in the metric of `C⁻¹`, where `C` is the second moment of the MLP keys over the corpus.
pub const SIMILAR: f64 = 0.8;

/// A [`Linker`] for the edits of a plan. Its errors contain the location of the edit in its file.
pub struct PlanLinker<'a> {
    sources: &'a Sources,
    setup: &'a Setup,
    /// The edits in the order in which they are linked: sorted by `meaning`, the digest of subject, prompt, target and
    /// `chat`.
    edits: Vec<&'a PlannedEdit<'a>>,
    linker: Linker<'a>,
}

pub struct LinkedPatch {
    pub patch: Patch,
    /// The condition number of the linear system of the edited layer.
    pub condition: f64,
}

impl<'a> PlanLinker<'a> {
    /// Creates a linker for a plan. `objects` are the compiled edits of the whole plan. `factor` is the Cholesky factor
    /// of the second moment `C` of the MLP keys at the edited layer.
    pub fn new(
        sources: &'a Sources,
        base: &'a Base,
        setup: &'a Setup,
        plan: &'a Plan<'a>,
        objects: &Objects,
        factor: &Factor,
    ) -> Self {
        let edits = plan.by_meaning();
        let compiled = edits.iter().map(|planned| &objects[&planned.meaning].sites[&setup.layer]);
        let pairs: Vec<LinkPair<'_>> = compiled.map(|site| LinkPair { key: &site.key, value: &site.value }).collect();
        let link_edits = edits.iter().map(|planned| LinkEdit { meaning: planned.meaning, resolved: &planned.resolved });
        let linker = Linker::new(&base.model, setup.layer, link_edits.collect(), &pairs, factor);
        Self { sources, setup, edits, linker }
    }

    /// Adds a refinement. Only [`PlanLinker::link_all`] applies it.
    #[must_use]
    pub fn refined(self, refinement: RefinementInputs<'a>) -> Self {
        Self { linker: self.linker.refined(refinement), ..self }
    }

    /// Returns the edits in the order in which they are linked: sorted by `meaning`, the digest of subject, prompt,
    /// target and `chat`.
    pub fn edits(&self) -> &[&'a PlannedEdit<'a>] {
        &self.edits
    }

    /// Returns the number of neutral sentences on which the refinement keeps the predictions close to those of the base
    /// model; 0 without refinement.
    pub fn sentences(&self) -> usize {
        self.linker.sentences()
    }

    /// Returns the pairs of edits for which the absolute cosine of their MLP keys is at least [`SIMILAR`], the most
    /// similar pair first.
    pub fn similar(&self) -> Vec<ParallelKeys> {
        self.linker.similar(SIMILAR)
    }

    /// Links all edits, and refines the result if the linker has a refinement.
    ///
    /// # Errors
    /// If the MLP keys of two edits are parallel, an edit changes nothing, or a weight is not finite. The error points
    /// to the edit in its file.
    pub fn link_all(&self, progress: &dyn Progress) -> Result<LinkedPatch, Failure> {
        let all: Vec<usize> = (0..self.edits.len()).collect();
        self.patch(&all, self.linker.link(self.setup.link_ridge(), progress))
    }

    /// Links only the edits at the indices `chosen`, which must be ascending, without refinement.
    ///
    /// # Errors
    /// As for [`PlanLinker::link_all`].
    pub fn link_subset(&self, chosen: &[usize]) -> Result<LinkedPatch, Failure> {
        // A subset is not refined, so the default ridge of refined sets does not apply.
        self.patch(chosen, self.linker.closed_form(chosen, self.setup.ridge.unwrap_or(0.0)))
    }

    fn patch(&self, chosen: &[usize], linked: Result<LinkedLayers, LinkError>) -> Result<LinkedPatch, Failure> {
        let LinkedLayers { updates, condition } = linked.map_err(|error| self.stop(&error))?;
        let patch = self.linker.patch(chosen, &updates).map_err(|error| self.stop(&error))?;
        Ok(LinkedPatch { patch, condition })
    }

    fn stop(&self, error: &LinkError) -> Failure {
        let finding = match error {
            LinkError::Parallel(pair) => self.parallel(pair),
            LinkError::Refinement(error) => Diagnostic::new(Code::NotFinite, error.to_string()),
            LinkError::Patch { edit, error } => self.patch_refused(*edit, error),
        };
        Failure::from(finding).with_sources(self.sources)
    }

    fn parallel(&self, pair: &ParallelKeys) -> Diagnostic {
        let [planned, partner] = [pair.edit, pair.partner].map(|index| self.edits[index]);
        let (edit, other) = (planned.edit, partner.edit);
        let message = format!(
            "the keys of edits `{}` and `{}` are similar (cosine {:.6}): the model cannot tell the subjects apart",
            edit.id, other.id, pair.cosine
        );
        Diagnostic::new(Code::ParallelKeys, message)
            .at(edit.spans.file, planned.span, "this subject")
            .with(other.spans.file, partner.span, "and this one")
            .help("leave one of them out, or set `ridge` under `[link]` (then both hold only in part)")
    }

    fn patch_refused(&self, edit: Option<usize>, error: &PatchError) -> Diagnostic {
        let code = if let PatchError::Null { .. } = error { Code::NullEdit } else { Code::NotFinite };
        let Some(edit) = edit.map(|index| self.edits[index].edit) else {
            return Diagnostic::new(code, error.to_string());
        };
        Diagnostic::new(code, format!("edit `{}`: {error}", edit.id))
            .at(edit.spans.file, &edit.spans.id, "this edit")
            .help("the base may already give the target: run `corrigenda plan` to see what it says")
    }
}
