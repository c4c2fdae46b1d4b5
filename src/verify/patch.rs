//! Checks the digest and the encoding of a patch, and whether the patch fits the base.

use serde_json::json;

use super::{Audit, Check, CheckState, VerifyContext};
use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::export::fact::facts;
use crate::export::{ExportError, folder, weights};
use crate::patch::{Patch, PatchError, Target, delta_norms, edit_norms};
use crate::pipeline::patch_ref::NamedPatch;

/// Checks that the bytes of the patch match its id and are a valid encoding, and that the patch fits the weights of the
/// base.
///
/// # Errors
/// If the patch or the base cannot be read.
pub fn patch(context: &VerifyContext<'_>, found: &NamedPatch) -> Result<Audit, Failure> {
    let mut audit = Audit::new("patch");
    let bytes = found.bytes()?;
    let id = Digest::of(&bytes);
    let check = match found.id {
        Some(expected) if expected != id => Check::wrong("bytes", id.short(), "not the digest in the name")
            .detail(format!("expected {expected}"))
            .detail(format!("found    {id}")),
        _ => Check::ok("bytes", id.short(), format!("{} bytes, {id}", bytes.len())),
    };
    audit.add(check);
    audit.fields = json!({ "id": id, "size": bytes.len(), "tensors": [], "edits": [] });
    match Patch::from_bytes(&bytes) {
        Ok(patch) => {
            audit.add(Check::ok("form", "patch", "canonical"));
            targets(&mut audit, context, &patch)?;
            edits(&mut audit, context, &patch);
        }
        Err(error) => audit.add(Check::wrong("form", "patch", "not a valid patch").detail(error.to_string())),
    }
    if audit.state() != CheckState::Ok {
        audit.repair("corrigenda build");
    }
    audit.verdict =
        format!("patch {} is valid, and made for this base {}", id.short(), context.base.locked.digest.short());
    Ok(audit)
}

fn targets(audit: &mut Audit, context: &VerifyContext<'_>, patch: &Patch) -> Result<(), Failure> {
    let weights = weights::open_all(&folder::list(&context.base.folder)?, &context.base.locked)?;
    let mut tensors = Vec::new();
    for (name, target) in patch.targets() {
        let alone = Patch::new([(name.clone(), target.clone())].into()).map_err(ExportError::from)?;
        let norms = delta_norms(target);
        let check = match weights::apply(&weights, &alone) {
            Ok(_) => Check::ok(
                "tensor",
                name,
                format!("{}, {:?}, ‖Δ‖ {:.3}: as in the base", target.dtype, target.shape(), norms.total),
            ),
            Err(error) => refused(name, target, &error),
        };
        tensors.push(json!({
            "name": name, "base": target.base, "dtype": target.dtype.name(), "shape": target.shape(),
            "norm": norms.total, "fits": check.state == CheckState::Ok,
        }));
        audit.add(check);
    }
    audit.fields["tensors"] = json!(tensors);
    Ok(())
}

/// Returns the failed check of a tensor of the base whose type, shape or bytes do not fit the patch. The check shows
/// the expected and the found value.
fn refused(name: &str, target: &Target, error: &ExportError) -> Check {
    let check = Check::wrong("tensor", name, "not as in the base");
    let pair = match error {
        ExportError::Patch(PatchError::BaseDtype { expected, found, .. }) => {
            Some((expected.to_string(), found.to_string()))
        }
        ExportError::Patch(PatchError::BaseShape { expected, found, .. }) => {
            Some((format!("{expected:?}"), format!("{found:?}")))
        }
        ExportError::Patch(PatchError::BaseDigest { expected, found, .. }) => {
            Some((expected.to_string(), found.to_string()))
        }
        ExportError::NotOnce { count: 0, .. } => Some((target.base.to_string(), "no such tensor".to_owned())),
        _ => None,
    };
    match pair {
        Some((expected, found)) => check.detail(format!("expected {expected}")).detail(format!("found    {found}")),
        None => check.detail(error.to_string()),
    }
}

fn edits(audit: &mut Audit, context: &VerifyContext<'_>, patch: &Patch) {
    let norms = edit_norms(patch);
    let known = facts(patch, &context.edits, &context.prefaces());
    let mut list = Vec::new();
    for fact in &known {
        let Some(meaning) = fact.meaning else { continue };
        let norm = norms.get(&meaning).copied().unwrap_or_default();
        let name = fact.id.clone().unwrap_or_else(|| meaning.short());
        let said = match fact.filled_prompt().zip(fact.target.as_ref()) {
            Some((prompt, target)) => format!("{prompt} → {}, ‖Δ‖ {norm:.3}", target.trim()),
            None => format!("no edit of the project has this meaning, ‖Δ‖ {norm:.3}"),
        };
        list.push(json!({ "id": fact.id, "meaning": meaning, "norm": norm }));
        audit.add(Check::ok("edit", name, said));
    }
    audit.fields["edits"] = json!(list);
}
