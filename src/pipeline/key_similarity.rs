//! Warns about pairs of edits whose keys are nearly parallel, so that each edit disturbs the other.
//!
//! Similarity is the cosine of two keys in the metric of `C⁻¹`. It is computed after a build, or before one if the
//! factor of the statistics is in the store.

use std::collections::BTreeMap;
use std::ops::Range;

use super::build::factor;
use super::linker::ALIKE;
use super::record::AlikeRecord;
use super::{Base, Plan, Setup};
use crate::compile::{Object, Resolved, keys};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::link::System;
use crate::progress::Unseen;
use crate::project::{Edit, Project};
use crate::stats::{self, build::factor_address};
use crate::store::{EntryKind, Store, StoreError};

/// The largest set of which a plan compares all pairs of keys; a larger set is compared when it is built.
const MOST_PLANNED: usize = 300;

/// Returns one finding for each pair of similar keys. `alike` identifies the edits by the digest of their meaning;
/// `condition` is the condition number of `S`, the linear system of the edited layer.
pub fn findings(plan: &Plan<'_>, alike: &[AlikeRecord], condition: f64) -> Vec<Diagnostic> {
    let edits: BTreeMap<Digest, (&Edit, &Range<usize>)> =
        plan.edits.iter().map(|planned| (planned.meaning, (planned.edit, planned.place))).collect();
    let finding = |pair: &AlikeRecord| {
        let ((edit, span), (other, partner)) = (edits.get(&pair.edit)?, edits.get(&pair.other)?);
        // The names of one subject have similar keys by design, and the same target.
        if edit.id == other.id {
            return None;
        }
        let message = format!(
            "the keys of edits `{}` and `{}` are similar: cosine {:.3}, condition number of S {condition:.0}",
            other.id, edit.id, pair.cosine
        );
        let finding = Diagnostic::new(Code::NearParallel, message)
            .at(edit.spans.file, span, "this subject")
            .with(other.spans.file, partner, "and this one")
            .help("both edits need a larger change of the weights: run `corrigenda diff` to see what else changes");
        Some(finding)
    };
    alike.iter().filter_map(finding).collect()
}

/// Returns the same findings before a build, from keys that are computed with the base. Returns an empty list if the
/// factor of the statistics is not in the store, or if the set has more than 300 edits.
///
/// # Errors
/// If the store fails.
pub fn foreseen(
    project: &Project,
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    store: &Store,
) -> Result<Vec<Diagnostic>, Failure> {
    let Some(cached) = stats::find(store, &setup.provenance).ok().flatten() else { return Ok(Vec::new()) };
    let there = store.path(EntryKind::Factor, &factor_address(&cached.content)).is_file();
    if !there || plan.edits.len() > MOST_PLANNED {
        return Ok(Vec::new());
    }
    let (factor, _) = factor(project, base, setup, &cached, store, &Unseen)?;
    let edits = plan.by_meaning();
    let known = edits.iter().map(|planned| {
        let object = store.recall(EntryKind::Object, &planned.object, |bytes| Object::from_bytes(bytes).ok())?;
        Ok(object.and_then(|object| object.sites.get(&setup.layer).map(|site| site.key.clone())))
    });
    let known = known.collect::<Result<Vec<_>, StoreError>>()?;
    let unknown = edits.iter().zip(&known).filter(|(_, key)| key.is_none());
    let unknown: Vec<&Resolved> = unknown.map(|(planned, _)| &planned.resolved).collect();
    let mut fresh = keys(&base.model, setup.layer, &unknown, setup.settings.bare_weight);
    let mut next = || fresh.next().expect("a key for every unknown one");
    let keys: Vec<Vec<f32>> = known.into_iter().map(|key| key.unwrap_or_else(&mut next)).collect();
    let system = System::new(&factor, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // The plan rejected identical keys, unless a ridge separates them.
    let all: Vec<usize> = (0..edits.len()).collect();
    let condition = system.solve(&all, setup.link_ridge()).map_or(f64::INFINITY, |solved| solved.condition);
    let record = |pair: crate::link::Parallel| AlikeRecord {
        edit: edits[pair.edit].meaning,
        other: edits[pair.partner].meaning,
        cosine: pair.cosine,
    };
    let alike: Vec<AlikeRecord> = system.alike(ALIKE).into_iter().map(record).collect();
    Ok(findings(plan, &alike, condition))
}
