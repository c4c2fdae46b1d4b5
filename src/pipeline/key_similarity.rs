//! Warns about pairs of edits whose MLP keys are nearly parallel, so that each edit disturbs the other.
//!
//! The similarity is the cosine of two MLP keys in the metric of `C⁻¹`, where `C` is the second moment of the MLP keys
//! over the corpus. `corrigenda build` always computes it. `corrigenda plan` computes it only if the store has the
//! Cholesky factor of `C`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::objects::read_or_compute_keys;
use super::plan_linker::SIMILAR;
use super::record::SimilarKeys;
use super::statistics::factor;
use super::{Base, BuildContext, Plan, Setup};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::link::KeySystem;
use crate::progress::NoProgress;
use crate::project::{Edit, Project};
use crate::stats::{self, build::factor_address};
use crate::store::{EntryKind, Store};

/// The maximum number of edits for which `corrigenda plan` compares all pairs of MLP keys. The limit bounds the number
/// of pairs, which grows quadratically. `corrigenda build` has no such limit.
const MAX_PLANNED: usize = 300;

/// Returns a warning for each pair in `similar` if both of its edits are in the plan. The message states `condition`,
/// the condition number of the linear system of the edited layer.
pub fn findings(plan: &Plan<'_>, similar: &[SimilarKeys], condition: f64) -> Vec<Diagnostic> {
    let edits: BTreeMap<Digest, (&Edit, &Range<usize>)> =
        plan.edits.iter().map(|planned| (planned.meaning, (planned.edit, planned.span))).collect();
    let mut findings = Vec::new();
    for pair in similar {
        let (Some((edit, span)), Some((other, partner))) = (edits.get(&pair.edit), edits.get(&pair.other)) else {
            continue;
        };
        // A subject and its aliases have similar MLP keys by design, and the same target, so they need no warning.
        if edit.id == other.id {
            continue;
        }
        let message = format!(
            "the keys of edits `{}` and `{}` are similar: cosine {:.3}, condition number of S {condition:.0}",
            other.id, edit.id, pair.cosine
        );
        let finding = Diagnostic::new(Code::NearParallel, message)
            .at(edit.spans.file, span, "this subject")
            .with(other.spans.file, partner, "and this one")
            .help("both edits need a larger change of the weights: run `corrigenda diff` to see what else changes");
        findings.push(finding);
    }
    findings
}

/// Returns the same warnings as [`findings`], but before a build. MLP keys that are not in the store are computed with
/// the base model. Returns an empty list if the plan has more than 300 edits, or if the Cholesky factor of the second
/// moment of the MLP keys is not in the store.
///
/// # Errors
/// If the store cannot be read or written.
pub fn foreseen(
    project: &Project,
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    store: &Store,
) -> Result<Vec<Diagnostic>, Failure> {
    let Some(cached) = stats::find(store, &setup.provenance).ok().flatten() else { return Ok(Vec::new()) };
    let is_factored = store.path(EntryKind::Factor, &factor_address(&cached.content)).is_file();
    if !is_factored || plan.edits.len() > MAX_PLANNED {
        return Ok(Vec::new());
    }
    let context = BuildContext { project, base, setup, store, progress: &NoProgress };
    let (factor, _) = factor(context, &cached)?;
    let edits = plan.by_meaning();
    let mut keys = Vec::with_capacity(edits.len());
    read_or_compute_keys(
        context,
        &edits,
        |planned| planned.object,
        |_, key, _| {
            keys.push(key);
            Ok(())
        },
    )?;
    let system = KeySystem::new(&factor, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // `solve` fails if two MLP keys are parallel. The matrix of the linear system is then singular, and its condition
    // number is infinite.
    let all: Vec<usize> = (0..edits.len()).collect();
    let condition = system.solve(&all, setup.link_ridge()).map_or(f64::INFINITY, |solved| solved.condition);
    let pairs = system.alike(SIMILAR).into_iter().map(|pair| SimilarKeys {
        edit: edits[pair.edit].meaning,
        other: edits[pair.partner].meaning,
        cosine: pair.cosine,
    });
    Ok(findings(plan, &pairs.collect::<Vec<_>>(), condition))
}
