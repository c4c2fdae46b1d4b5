//! All objects in one solve, laid on the weight and rounded.

use std::collections::BTreeMap;

use super::objects::Objects;
use super::{Base, Plan, Planned, Setup, Stop};
use crate::digest::Digest;
use crate::link::{Pair, Parallel, System, residual};
use crate::numeric::cholesky::Factor;
use crate::patch::{Patch, PatchError, Target};
use crate::project::{Code, Diagnostic, Project};

/// From this cosine on, two keys disturb one another so much that a person should know.
pub const ALIKE: f64 = 0.8;

/// Compiled edits, ready to be linked: all of them, or some.
pub struct Linking<'a> {
    project: &'a Project,
    base: &'a Base,
    setup: &'a Setup,
    /// By meaning: the order in which they are linked.
    edits: Vec<&'a Planned<'a>>,
    system: System,
    residuals: Vec<Vec<f64>>,
}

/// A linked set.
pub struct Linked {
    /// The patch.
    pub patch: Patch,
    /// The condition number of `S`.
    pub condition: f64,
}

impl<'a> Linking<'a> {
    /// Takes up the objects of every edit of the plan.
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
        let residuals = pairs.map(|pair| residual(&pair, &base.model.edited_output(setup.layer, pair.key))).collect();
        Self { project, base, setup, edits, system: System::new(factor, &keys), residuals }
    }

    /// The edits, in the order in which they are linked.
    pub fn edits(&self) -> &[&'a Planned<'a>] {
        &self.edits
    }

    /// Pairs of edits whose keys are alike, the most alike first.
    pub fn alike(&self) -> Vec<Parallel> {
        self.system.alike(ALIKE)
    }

    /// Links all of them.
    ///
    /// # Errors
    /// Keys that are too alike, edits that change nothing or are not finite: named, with their places.
    pub fn all(&self) -> Result<Linked, Stop> {
        self.some(&(0..self.edits.len()).collect::<Vec<_>>())
    }

    /// Links some of them, by index and ascending, as if there were no others.
    ///
    /// # Errors
    /// As [`Linking::all`].
    pub fn some(&self, chosen: &[usize]) -> Result<Linked, Stop> {
        let stop = |finding| Stop::wrong(vec![finding], &self.project.edits.sources);
        let solved = self.system.solve(chosen, self.setup.ridge).map_err(|error| stop(self.parallel(&error)))?;
        let meanings: Vec<Digest> = chosen.iter().map(|&edit| self.edits[edit].meaning).collect();
        let spec = self.base.model.spec();
        let weight = self.base.model.checkpoint().edited(self.setup.layer);
        let residuals: Vec<&[f64]> = chosen.iter().map(|&edit| self.residuals[edit].as_slice()).collect();
        let target = Target {
            base: weight.digest(),
            dtype: weight.stored.into(),
            layout: spec.family.layout,
            out: spec.width,
            inner: spec.inner,
            u: (0..spec.width).flat_map(|row| residuals.iter().map(move |u| u[row] as f32)).collect(),
            v: solved.rows.iter().flatten().map(|v| *v as f32).collect(),
            edits: meanings.clone(),
        };
        let patch = Patch::new(BTreeMap::from([(weight.name.clone(), target)]));
        let patch = patch.map_err(|error| stop(self.refused(&meanings, &error)))?;
        Ok(Linked { patch, condition: solved.condition })
    }

    fn parallel(&self, error: &Parallel) -> Diagnostic {
        let [planned, partner] = [error.edit, error.partner].map(|index| self.edits[index]);
        let (edit, other) = (planned.edit, partner.edit);
        let message = format!(
            "the keys of edits `{}` and `{}` are alike (cosine {:.6}): the model cannot tell the subjects apart",
            edit.id, other.id, error.cosine
        );
        Diagnostic::new(Code::ParallelKeys, message)
            .at(edit.place.file, planned.place, "this subject")
            .with(other.place.file, partner.place, "and this one")
            .help("leave one of them out, or set `ridge` under `[link]` (then neither is had in full)")
    }

    /// A patch error in terms of the edit that it is about.
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
                .at(edit.place.file, &edit.place.id, "this edit")
                .help("the base may give the target already: `corrigenda plan` shows what it says"),
        }
    }
}
