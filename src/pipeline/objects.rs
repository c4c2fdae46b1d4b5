//! Compiles each edit independently of the other edits: computes its MLP key and optimises its value. A compiled edit
//! is called an object and is kept in the store.

use std::collections::BTreeMap;

use super::refusal::{self, Refusal, stop_if_known};
use super::{BuildContext, Plan, PlannedEdit};
use crate::compile::object::key_address;
use crate::compile::value::Hook;
use crate::compile::{self, Object, Resolved, Step};
use crate::diagnostics::{Diagnostic, Failure};
use crate::digest::Digest;
use crate::store::{EntryKind, Store, StoreError};

/// Compiled edits. The map key is the digest of the subject, prompt, target and `chat` of an edit.
pub type Objects = BTreeMap<Digest, Object>;

/// The compiled edits of a plan, and an error for each edit that cannot be compiled.
pub struct CompiledEdits {
    pub objects: Objects,
    /// The number of edits whose value was optimised in this call, with or without success.
    pub compiled: usize,
    /// One error for each edit whose value did not converge, changes nothing, or is not finite.
    pub refused: Vec<Diagnostic>,
}

/// Returns the compiled edits, and the number of edits that were compiled in this call. An edit that is not in the
/// store is compiled and stored.
///
/// # Errors
/// If an edit cannot be compiled, or if the store cannot be read or written. Errors of several edits are reported
/// together.
pub fn objects(context: BuildContext<'_>, plan: &Plan<'_>) -> Result<(Objects, usize), Failure> {
    let sources = &context.project.edits.sources;
    // If the store records that an edit cannot be compiled, the build stops here, before other edits are compiled.
    stop_if_known(plan, context.setup, sources, context.store)?;
    let CompiledEdits { objects, compiled, refused } = gather(context, plan)?;
    if refused.is_empty() { Ok((objects, compiled)) } else { Err(Failure::invalid(refused, sources)) }
}

/// Does the same as [`objects`], but an edit that cannot be compiled does not stop the others. Its error is added to
/// [`CompiledEdits::refused`].
///
/// # Errors
/// If the store cannot be read or written.
pub fn gather(context: BuildContext<'_>, plan: &Plan<'_>) -> Result<CompiledEdits, StoreError> {
    let BuildContext { setup, store, progress, .. } = context;
    let mut gathered = CompiledEdits { objects: Objects::new(), compiled: 0, refused: Vec::new() };
    let (mut missing, known) = (Vec::new(), refusal::refused_edits(plan, store)?);
    let is_known = |planned: &PlannedEdit<'_>| known.iter().any(|(one, _)| one.object == planned.object);
    for planned in &plan.edits {
        match stored(store, &planned.object, setup.layer)? {
            Some(object) => drop(gathered.objects.insert(planned.meaning, object)),
            None if is_known(planned) => {}
            None => missing.push(planned),
        }
    }
    gathered.refused = known.iter().map(|(planned, refusal)| refusal.finding(planned.edit, setup)).collect();
    if missing.is_empty() {
        return Ok(gathered);
    }
    store.check_writable()?;
    progress.begin("edits to compile", missing.len() as u64);
    let refused = compile_all(context, &missing, &mut gathered.objects);
    progress.end();
    gathered.refused.extend(refused?);
    gathered.compiled = missing.len();
    Ok(gathered)
}

fn compile_all(
    context: BuildContext<'_>,
    missing: &[&PlannedEdit<'_>],
    objects: &mut Objects,
) -> Result<Vec<Diagnostic>, StoreError> {
    let BuildContext { base, setup, store, progress, .. } = context;
    let edits: Vec<&Resolved> = missing.iter().map(|planned| &planned.resolved).collect();
    let (mut refused, mut count) = (Vec::new(), 0);
    let most: usize = setup.settings.schedule.iter().map(|stage| stage.steps).sum();
    compile::compile_all(&base.model, setup.layer, &edits, (&setup.settings, Hook::Mlp), |index, step| {
        let planned = missing[index];
        let compiled = match step {
            Step::Ended(compiled) => compiled,
            Step::Progress(evaluations, loss) => {
                let (label, nll) = (planned.label(), loss.nll);
                progress.still(&format!("{label}: NLL {nll:.3} after {evaluations} of at most {most} evaluations"));
                return Ok(());
            }
        };
        count += 1;
        progress.set_position(count);
        let (nll, evaluations) = (compiled.loss.nll, compiled.evaluations);
        match Refusal::of(&compiled) {
            Some(refusal) => {
                progress.tell(&format!("{}: {}", planned.label(), refusal.summary()));
                refusal.write(store, &planned.object)?;
                refused.push((index, refusal.finding(planned.edit, setup)));
            }
            None => {
                progress.line(&format!("{}: NLL {nll:.3} after {evaluations} evaluations", planned.label()));
                let object = Object::new(setup.layer, &compiled);
                store.put(EntryKind::Object, &planned.object, &object.to_bytes())?;
                objects.insert(planned.meaning, object);
            }
        }
        Ok::<_, StoreError>(())
    })?;
    // Edits are compiled in parallel and do not finish in the order of the plan.
    refused.sort_by_key(|(index, _)| *index);
    Ok(refused.into_iter().map(|(_, finding)| finding).collect())
}

/// Returns the MLP key of every edit at the layer of the setup, in the order in which the edits are linked. The caller
/// sets this layer to a layer above the edited layer. A key that is not in the store is computed and stored.
///
/// # Errors
/// If the store cannot be read or written.
pub fn keys(context: BuildContext<'_>, plan: &Plan<'_>) -> Result<Vec<Vec<f32>>, Failure> {
    let BuildContext { base, setup, store, progress, .. } = context;
    let edits = plan.by_meaning();
    let address = |planned: &PlannedEdit<'_>| {
        let (reading, templates) = (planned.chat_template_digest(base), planned.templates(setup));
        let weight = setup.settings.bare_weight;
        key_address(&base.locked.digest, reading.as_ref(), &planned.meaning, setup.layer, &templates, weight)
    };
    let mut keys = Vec::with_capacity(edits.len());
    progress.begin(&format!("keys of layer {}, edits", setup.layer), edits.len() as u64);
    read_or_compute_keys(context, &edits, address, |planned, key, is_new| {
        if is_new {
            store.put(EntryKind::Object, &address(planned), &Object::of_key(setup.layer, key.clone()).to_bytes())?;
        }
        keys.push(key);
        progress.set_position(keys.len() as u64);
        Ok(())
    })?;
    progress.end();
    Ok(keys)
}

/// Calls `receive` once per edit, with the edit, its MLP key at the setup's layer, and whether the key is new. The key
/// is read from the compiled edit at the store address `address(edit)`. If this entry is missing or damaged, the key is
/// computed and counts as new.
pub(super) fn read_or_compute_keys(
    context: BuildContext<'_>,
    edits: &[&PlannedEdit<'_>],
    address: impl Fn(&PlannedEdit<'_>) -> Digest,
    mut receive: impl FnMut(&PlannedEdit<'_>, Vec<f32>, bool) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let BuildContext { base, setup, store, .. } = context;
    let mut stored_keys = Vec::with_capacity(edits.len());
    for planned in edits {
        let object = stored(store, &address(planned), setup.layer)?;
        stored_keys.push(object.and_then(|object| object.sites.into_values().next()).map(|site| site.key));
    }
    let missing = edits.iter().zip(&stored_keys).filter(|(_, key)| key.is_none());
    let missing: Vec<&Resolved> = missing.map(|(planned, _)| &planned.resolved).collect();
    let mut computed = compile::keys(&base.model, setup.layer, &missing, setup.settings.bare_weight);
    for (planned, key) in edits.iter().zip(stored_keys) {
        match key {
            Some(key) => receive(planned, key, false)?,
            None => receive(planned, computed.next().expect("a key for every edit that has none in the store"), true)?,
        }
    }
    Ok(())
}

/// Returns the compiled edit at a store address. Returns `None` if it is missing, is damaged, or was compiled for
/// another layer than `layer`.
fn stored(store: &Store, address: &Digest, layer: usize) -> Result<Option<Object>, StoreError> {
    let of_layer = |object: &Object| object.sites.len() == 1 && object.sites.contains_key(&layer);
    store.recall(EntryKind::Object, address, |bytes| Object::from_bytes(bytes).ok().filter(of_layer))
}
