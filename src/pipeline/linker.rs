//! Links compiled edits: solves one linear system for all MLP keys and values, refines the result, and makes the patch.
//!
//! The linker does not depend on a project, so its errors identify an edit by its index.

use std::collections::BTreeMap;

use crate::compile::Resolved;
use crate::digest::Digest;
use crate::link::{KeySystem, LayerUpdate, LinkPair, ParallelKeys, Refinement, Solution, refine, residual};
use crate::model::Model;
use crate::numeric::cholesky::Factor;
use crate::patch::{Patch, PatchError};
use crate::progress::Progress;

/// An edit to link. A [`Linker`] has its edits sorted by `meaning`, the digest of subject, prompt, target and `chat`.
pub struct LinkEdit<'a> {
    pub meaning: Digest,
    pub resolved: &'a Resolved,
}

/// The compiled edits of one layer and the linear system over their MLP keys, which is solved for all edits or for a
/// subset.
pub struct Linker<'a> {
    model: &'a Model,
    /// The index of the edited layer, from 0.
    layer: usize,
    edits: Vec<LinkEdit<'a>>,
    system: KeySystem,
    /// The residual of each edit, `[hidden size]`: the value of the edit minus the output of the down-projection for
    /// the MLP key of the edit.
    residuals: Vec<Vec<f64>>,
    refinement: Option<RefinementInputs<'a>>,
}

/// The inputs of the refinement, which optimises all edits together after the linear solve.
pub struct RefinementInputs<'a> {
    pub settings: &'a Refinement,
    /// The layers above the edited layer that the refinement changes too.
    pub layers: Vec<LayerSystem>,
    /// The token ids of sentences for which the refinement keeps the next-token distributions close to those of the
    /// base model.
    pub sentences: Vec<Vec<u32>>,
}

/// A layer above the edited layer, and its linear system. The system contains the MLP key of every edit at this layer.
pub struct LayerSystem {
    layer: usize,
    system: KeySystem,
}

impl LayerSystem {
    /// Creates the linear system of `layer`. `factor` is the Cholesky factor of the second moment `C` of the MLP keys
    /// at this layer. `keys` has one MLP key per edit, in the order of the linker's edits.
    pub fn new(layer: usize, factor: &Factor, keys: &[Vec<f32>]) -> Self {
        Self { layer, system: KeySystem::new(factor, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()) }
    }
}

/// The weight changes of a linked set of edits: one per changed layer, the edited layer first.
pub struct LinkedLayers {
    pub updates: Vec<LayerUpdate>,
    /// The condition number of the linear system of the edited layer.
    pub condition: f64,
}

/// The reason why a set of edits cannot be linked.
#[derive(Debug)]
pub enum LinkError {
    /// The MLP keys of two edits are parallel. The edits are given by their indices in the linker.
    Parallel(ParallelKeys),
    /// A weight became NaN or infinite during the refinement.
    Refinement(PatchError),
    /// The weight changes do not form a valid patch, for example because an edit changes nothing.
    Patch {
        /// The index of the edit that causes the error; `None` if no single edit causes it.
        edit: Option<usize>,
        error: PatchError,
    },
}

impl<'a> Linker<'a> {
    /// Creates a linker for edits at the layer `layer`. `pairs` has the MLP key and the value of each edit, in the
    /// order of `edits`. `factor` is the Cholesky factor of the second moment `C` of the MLP keys at this layer.
    pub fn new(
        model: &'a Model,
        layer: usize,
        edits: Vec<LinkEdit<'a>>,
        pairs: &[LinkPair<'_>],
        factor: &Factor,
    ) -> Self {
        let system = KeySystem::new(factor, &pairs.iter().map(|pair| pair.key).collect::<Vec<_>>());
        Self::with_system(model, layer, edits, pairs, system)
    }

    /// Does the same as [`Linker::new`], but with the linear system `system` over the MLP keys of `pairs`.
    pub fn with_system(
        model: &'a Model,
        layer: usize,
        edits: Vec<LinkEdit<'a>>,
        pairs: &[LinkPair<'_>],
        system: KeySystem,
    ) -> Self {
        let residuals = pairs.iter().map(|pair| residual(pair, &model.mlp_output_f64(layer, pair.key))).collect();
        Self { model, layer, edits, system, residuals, refinement: None }
    }

    /// Adds a refinement. Only [`Linker::link`] applies it, because a subset of the edits is never refined.
    #[must_use]
    pub fn refined(mut self, refinement: RefinementInputs<'a>) -> Self {
        self.refinement = Some(refinement);
        self
    }

    /// Returns the pairs of edits for which the absolute cosine of their MLP keys is at least `cosine`, the most
    /// similar pair first. The cosine is taken in the metric of `C⁻¹`, where `C` is the second moment of the MLP keys.
    pub fn similar(&self, cosine: f64) -> Vec<ParallelKeys> {
        self.system.alike(cosine)
    }

    /// Returns the number of neutral sentences on which the refinement keeps the predictions close to those of the base
    /// model; 0 without refinement.
    pub fn sentences(&self) -> usize {
        self.refinement.as_ref().map_or(0, |refinement| refinement.sentences.len())
    }

    /// Links all edits, and refines the result if the linker has a refinement. `ridge` is added to the diagonal of the
    /// linear system; it is given as a share of the mean diagonal entry.
    ///
    /// # Errors
    /// If the MLP keys of two edits are parallel, or a weight is not finite.
    pub fn link(&self, ridge: f64, progress: &dyn Progress) -> Result<LinkedLayers, LinkError> {
        let all: Vec<usize> = (0..self.edits.len()).collect();
        let LinkedLayers { mut updates, condition } = self.closed_form(&all, ridge)?;
        let Some(RefinementInputs { settings, layers, sentences }) =
            self.refinement.as_ref().filter(|_| !all.is_empty())
        else {
            return Ok(LinkedLayers { updates, condition });
        };
        if !layers.is_empty() {
            updates[0].columns.iter_mut().flatten().for_each(|u| *u *= settings.start);
        }
        for LayerSystem { layer, system } in layers {
            let rows = system.solve(&all, ridge).map_err(LinkError::Parallel)?.rows;
            let columns = vec![vec![0.0; self.model.spec().hidden_size]; all.len()];
            updates.push(LayerUpdate { layer: *layer, columns, rows });
        }
        let resolved: Vec<&Resolved> = self.edits.iter().map(|edit| edit.resolved).collect();
        let refined = refine(self.model, updates, &resolved, sentences, settings, progress);
        Ok(LinkedLayers { updates: refined.map_err(LinkError::Refinement)?, condition })
    }

    /// Links only the edits at the indices `chosen`, which must be ascending. The result is the closed-form solution at
    /// the edited layer, without refinement.
    ///
    /// # Errors
    /// If the MLP keys of two edits are parallel.
    pub fn closed_form(&self, chosen: &[usize], ridge: f64) -> Result<LinkedLayers, LinkError> {
        let Solution { rows, condition } = self.system.solve(chosen, ridge).map_err(LinkError::Parallel)?;
        let columns = chosen.iter().map(|&edit| self.residuals[edit].clone()).collect();
        Ok(LinkedLayers { updates: vec![LayerUpdate { layer: self.layer, columns, rows }], condition })
    }

    /// Makes a patch from the weight changes `updates`. `chosen` are the indices of the edits that were linked.
    ///
    /// # Errors
    /// If an edit changes nothing, or a number in the patch is not finite.
    pub fn patch(&self, chosen: &[usize], updates: &[LayerUpdate]) -> Result<Patch, LinkError> {
        let meanings: Vec<Digest> = chosen.iter().map(|&edit| self.edits[edit].meaning).collect();
        let mut targets = BTreeMap::new();
        for update in updates {
            let weight = self.model.checkpoint().edited(update.layer);
            targets.insert(weight.name.clone(), update.target(self.model, weight.digest(), meanings.clone()));
        }
        Patch::new(targets).map_err(|error| LinkError::Patch { edit: self.cause(chosen, &error), error })
    }

    /// Returns the index of the edit that causes a patch error; `None` if no single edit causes it.
    fn cause(&self, chosen: &[usize], error: &PatchError) -> Option<usize> {
        match error {
            PatchError::Null { edit, .. } => self.edits.iter().position(|one| one.meaning == *edit),
            PatchError::NotFinite { factor: "u", column, .. } => chosen.get(*column).copied(),
            PatchError::NotFinite { row, .. } => chosen.get(*row).copied(),
            _ => None,
        }
    }
}
