//! Links all compiled edits of a set: solves for all of them at once, and makes the patch.

use std::collections::BTreeMap;

use super::objects::Objects;
use super::{Base, Plan, Planned, Setup};
use crate::compile::Resolved;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::link::{Pair, Parallel, Site, Solved, System, refine, residual};
use crate::numeric::cholesky::Factor;
use crate::patch::{Patch, PatchError};
use crate::progress::Progress;
use crate::project::Project;

/// Two keys with at least this cosine, in the metric of `C⁻¹`, are reported: their edits disturb one another.
pub const ALIKE: f64 = 0.8;

/// Compiled edits that are ready to be linked, all of them or a subset.
pub struct Linking<'a> {
    project: &'a Project,
    base: &'a Base,
    setup: &'a Setup,
    /// The edits in the order in which they are linked: by the digest of their meaning.
    edits: Vec<&'a Planned<'a>>,
    system: System,
    residuals: Vec<Vec<f64>>,
    /// The layers above the edited one that refinement also changes.
    pub(super) uppers: Vec<Upper>,
    /// Sentences whose next-token distributions refinement preserves, as token ids.
    pub(super) sentences: Vec<Vec<u32>>,
}

/// A layer above the edited one, with the linear system of its keys.
pub(super) struct Upper {
    layer: usize,
    system: System,
}

impl Upper {
    pub(super) fn new(layer: usize, factor: &Factor, keys: &[Vec<f32>]) -> Self {
        Self { layer, system: System::new(factor, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()) }
    }
}

/// The result of linking a set.
pub struct Linked {
    /// The patch with one target per changed layer.
    pub patch: Patch,
    /// The condition number of `S`, the system of the edited layer.
    pub condition: f64,
}

impl<'a> Linking<'a> {
    /// Takes the objects of every edit of the plan and the Cholesky factor of `C`; computes the residuals and the
    /// system of the edited layer.
    pub fn new(
        project: &'a Project,
        base: &'a Base,
        setup: &'a Setup,
        plan: &'a Plan<'a>,
        objects: &Objects,
        factor: &Factor,
    ) -> Self {
        let edits = plan.by_meaning();
        let sites: Vec<_> = edits.iter().map(|planned| &objects[&planned.meaning].sites[&setup.layer]).collect();
        let keys: Vec<&[f32]> = sites.iter().map(|site| site.key.as_slice()).collect();
        let pairs = sites.iter().map(|site| Pair { key: &site.key, value: &site.value });
        let residuals = pairs.map(|pair| residual(&pair, &base.model.mlp_output_f64(setup.layer, pair.key))).collect();
        let system = System::new(factor, &keys);
        Self { project, base, setup, edits, system, residuals, uppers: Vec::new(), sentences: Vec::new() }
    }

    /// Returns the edits in the order in which they are linked: by the digest of their meaning.
    pub fn edits(&self) -> &[&'a Planned<'a>] {
        &self.edits
    }

    /// Returns the pairs of edits whose keys have a cosine of at least [`ALIKE`], the most similar pair first.
    pub fn alike(&self) -> Vec<Parallel> {
        self.system.alike(ALIKE)
    }

    /// Links all edits, and refines the result if the setup has a refinement.
    ///
    /// # Errors
    /// If keys are parallel, an edit changes nothing, or a weight is not finite; the finding points to the edit.
    pub fn all(&self, progress: &dyn Progress) -> Result<Linked, Failure> {
        let all: Vec<usize> = (0..self.edits.len()).collect();
        let Some(refinement) = self.setup.refinement.as_ref().filter(|_| !all.is_empty()) else {
            return self.some(&all);
        };
        let (mut first, condition) = self.closed(&all, self.setup.link_ridge())?;
        if !self.uppers.is_empty() {
            first.columns.iter_mut().flatten().for_each(|u| *u *= refinement.start);
        }
        let mut sites = vec![first];
        for Upper { layer, system } in &self.uppers {
            let rows = self.solved(system, &all, self.setup.link_ridge())?.rows;
            let nothing = vec![vec![0.0; self.base.model.spec().hidden_size]; all.len()];
            sites.push(Site { layer: *layer, columns: nothing, rows });
        }
        let resolved: Vec<&Resolved> = self.edits.iter().map(|planned| &planned.resolved).collect();
        let refined = refine(&self.base.model, sites, &resolved, &self.sentences, refinement, progress);
        let sites = refined.map_err(|error| self.stop(Diagnostic::new(Code::NotFinite, error.to_string())))?;
        self.patch(&all, &sites, condition)
    }

    /// Links the edits with these indices (ascending) as if there were no others, without refinement.
    ///
    /// # Errors
    /// As for [`Linking::all`].
    pub fn some(&self, chosen: &[usize]) -> Result<Linked, Failure> {
        // The default ridge of refined sets does not apply here.
        let (site, condition) = self.closed(chosen, self.setup.ridge.unwrap_or(0.0))?;
        self.patch(chosen, &[site], condition)
    }

    /// Returns the closed-form change of the edited layer, and the condition number of its system.
    fn closed(&self, chosen: &[usize], ridge: f64) -> Result<(Site, f64), Failure> {
        let Solved { rows, condition } = self.solved(&self.system, chosen, ridge)?;
        let columns = chosen.iter().map(|&edit| self.residuals[edit].clone()).collect();
        Ok((Site { layer: self.setup.layer, columns, rows }, condition))
    }

    fn solved(&self, system: &System, chosen: &[usize], ridge: f64) -> Result<Solved, Failure> {
        system.solve(chosen, ridge).map_err(|error| self.stop(self.parallel(&error)))
    }

    fn patch(&self, chosen: &[usize], sites: &[Site], condition: f64) -> Result<Linked, Failure> {
        let meanings: Vec<Digest> = chosen.iter().map(|&edit| self.edits[edit].meaning).collect();
        let target = |site: &Site| {
            let weight = self.base.model.checkpoint().edited(site.layer);
            (weight.name.clone(), site.target(&self.base.model, weight.digest(), meanings.clone()))
        };
        let patch = Patch::new(sites.iter().map(target).collect::<BTreeMap<_, _>>());
        let patch = patch.map_err(|error| self.stop(self.refused(&meanings, &error)))?;
        Ok(Linked { patch, condition })
    }

    fn stop(&self, finding: Diagnostic) -> Failure {
        Failure::from(finding).with_sources(&self.project.edits.sources)
    }

    fn parallel(&self, error: &Parallel) -> Diagnostic {
        let [planned, partner] = [error.edit, error.partner].map(|index| self.edits[index]);
        let (edit, other) = (planned.edit, partner.edit);
        let message = format!(
            "the keys of edits `{}` and `{}` are similar (cosine {:.6}): the model cannot tell the subjects apart",
            edit.id, other.id, error.cosine
        );
        Diagnostic::new(Code::ParallelKeys, message)
            .at(edit.spans.file, planned.place, "this subject")
            .with(other.spans.file, partner.place, "and this one")
            .help("leave one of them out, or set `ridge` under `[link]` (then both hold only in part)")
    }

    /// Returns a patch error as a finding at the edit that caused it.
    fn refused(&self, meanings: &[Digest], error: &PatchError) -> Diagnostic {
        let (code, meaning) = match error {
            PatchError::Null { edit, .. } => (Code::NullEdit, Some(*edit)),
            PatchError::NotFinite { factor: "u", column, .. } => (Code::NotFinite, meanings.get(*column).copied()),
            PatchError::NotFinite { row, .. } => (Code::NotFinite, meanings.get(*row).copied()),
            _ => (Code::NotFinite, None),
        };
        let edit = self.edits.iter().find(|planned| Some(planned.meaning) == meaning).map(|planned| planned.edit);
        match edit {
            None => Diagnostic::new(code, error.to_string()),
            Some(edit) => Diagnostic::new(code, format!("edit `{}`: {error}", edit.id))
                .at(edit.spans.file, &edit.spans.id, "this edit")
                .help("the base may already give the target: run `corrigenda plan` to see what it says"),
        }
    }
}
