//! All objects in one solve, laid on the weight and rounded.

use std::collections::BTreeMap;

use super::base::digest_f32;
use super::objects::Objects;
use super::{Base, Plan, Setup, Stop};
use crate::digest::Digest;
use crate::link::{Pair, Parallel, link};
use crate::numeric::cholesky::Factor;
use crate::patch::{Patch, PatchError, Target};
use crate::project::{Code, Diagnostic, Project};
use crate::safetensors::Dtype;

/// Links the set and makes the patch.
///
/// # Errors
/// Keys that are too alike, edits that change nothing or are not finite: named, with their places.
pub fn patch(
    project: &Project,
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    objects: &Objects,
    factor: &Factor,
) -> Result<Patch, Stop> {
    let meanings: Vec<Digest> = plan.by_meaning().iter().map(|planned| planned.meaning).collect();
    let sites = meanings.iter().map(|meaning| &objects[meaning].sites[&setup.layer]);
    let pairs: Vec<Pair> = sites.map(|site| Pair { key: &site.key, value: &site.value }).collect();
    let output = |key: &[f32]| base.model.edited_output(setup.layer, key);
    let stop = |finding| Stop::wrong(vec![finding], &project.edits.sources);
    let linked = link(factor, &pairs, setup.ridge, output).map_err(|error| stop(parallel(plan, &error)))?;
    let (out, inner) = (base.model.spec().width, base.model.spec().inner);
    let weight = base.model.checkpoint().edited(setup.layer).0;
    let target = Target {
        base: digest_f32(weight.data()),
        dtype: Dtype::F32,
        layout: base.model.spec().family.layout,
        out,
        inner,
        u: (0..out).flat_map(|row| linked.u.iter().map(move |u| u[row] as f32)).collect(),
        v: linked.v.iter().flatten().map(|v| *v as f32).collect(),
        edits: meanings.clone(),
    };
    Patch::new(BTreeMap::from([(weight.name.clone(), target)])).map_err(|error| stop(refused(plan, &meanings, &error)))
}

fn parallel(plan: &Plan<'_>, error: &Parallel) -> Diagnostic {
    let edits = plan.by_meaning();
    let [edit, other] = [error.edit, error.partner].map(|index| edits[index].edit);
    let message = format!(
        "the keys of edits `{}` and `{}` are alike (cosine {:.6}): the model cannot tell the subjects apart",
        edit.id, other.id, error.cosine
    );
    Diagnostic::new(Code::ParallelKeys, message)
        .at(edit.place.file, &edit.place.subject, "this subject")
        .with(other.place.file, &other.place.subject, "and this one")
        .help("leave one of them out, or set `ridge` under `[link]` (then neither is had in full)")
}

/// A patch error in terms of the edit that it is about.
fn refused(plan: &Plan<'_>, meanings: &[Digest], error: &PatchError) -> Diagnostic {
    let (code, meaning) = match error {
        PatchError::Null { edit, .. } => (Code::NullEdit, Some(*edit)),
        PatchError::NotFinite { factor: "u", column, .. } => (Code::NotFinite, meanings.get(*column).copied()),
        PatchError::NotFinite { row, .. } => (Code::NotFinite, meanings.get(*row).copied()),
        _ => (Code::NotFinite, None),
    };
    let edit = plan.edits.iter().find(|planned| Some(planned.meaning) == meaning).map(|planned| planned.edit);
    match edit {
        None => Diagnostic::new(code, error.to_string()),
        Some(edit) => Diagnostic::new(code, format!("edit `{}`: {error}", edit.id))
            .at(edit.place.file, &edit.place.id, "this edit")
            .help("the base may give the target already: `corrigenda plan` shows what it says"),
    }
}
