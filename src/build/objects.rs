//! Each edit compiled alone against the base, or taken from the store.

use std::collections::BTreeMap;

use super::{Base, Plan, Planned, Setup, Stop};
use crate::compile::object::key_address;
use crate::compile::value::Hook;
use crate::compile::{self, Compiled, Object, Resolved};
use crate::digest::Digest;
use crate::progress::Progress;
use crate::project::{Code, Diagnostic, Edit, Project};
use crate::store::{Kind, Store, StoreError};

/// Compiled edits by their meaning.
pub type Objects = BTreeMap<Digest, Object>;

/// What was gathered: the objects, how many of them were compiled, and which edits cannot be compiled.
pub struct Gathered {
    /// The objects that there are.
    pub objects: Objects,
    /// How many of them the store did not have.
    pub compiled: usize,
    /// Values that did not converge or are not finite.
    pub refused: Vec<Diagnostic>,
}

/// Gathers the objects of all edits; what the store does not have is compiled and stored. Gives the objects and how
/// many were compiled.
///
/// # Errors
/// The store fails, or values that did not converge or are not finite: all of them at once, after the others were
/// stored.
pub fn objects(
    project: &Project,
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(Objects, usize), Stop> {
    let Gathered { objects, compiled, refused } = gather(base, setup, plan, store, progress)?;
    if refused.is_empty() { Ok((objects, compiled)) } else { Err(Stop::wrong(refused, &project.edits.sources)) }
}

/// The same for whoever goes on without the edits that are refused.
///
/// # Errors
/// The store fails.
pub fn gather(
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Gathered, StoreError> {
    let mut gathered = Gathered { objects: Objects::new(), compiled: 0, refused: Vec::new() };
    let mut missing = Vec::new();
    for planned in &plan.edits {
        match stored(store, &planned.object, setup.layer)? {
            Some(object) => drop(gathered.objects.insert(planned.meaning, object)),
            None => missing.push(planned),
        }
    }
    if missing.is_empty() {
        return Ok(gathered);
    }
    progress.begin("edits to compile", missing.len() as u64);
    let refused = compile_all(base, setup, &missing, store, progress, &mut gathered.objects);
    progress.end();
    gathered.refused = refused?;
    gathered.compiled = missing.len();
    Ok(gathered)
}

fn compile_all(
    base: &Base,
    setup: &Setup,
    missing: &[&Planned<'_>],
    store: &Store,
    progress: &dyn Progress,
    objects: &mut Objects,
) -> Result<Vec<Diagnostic>, StoreError> {
    let edits: Vec<&Resolved> = missing.iter().map(|planned| &planned.resolved).collect();
    let (mut refused, mut count) = (Vec::new(), 0);
    compile::compile_all(&base.model, setup.layer, &edits, (&setup.settings, Hook::Mlp), |index, compiled| {
        let planned = missing[index];
        count += 1;
        progress.at(count);
        let (nll, evaluations) = (compiled.loss.nll, compiled.evaluations);
        progress.line(&format!("{}: NLL {nll:.3} after {evaluations} evaluations", planned.label()));
        match judge(planned.edit, &compiled, setup) {
            Some(finding) => refused.push((index, finding)),
            None => {
                let object = Object::new(setup.layer, &compiled);
                store.put(Kind::Object, &planned.object, &object.to_bytes())?;
                objects.insert(planned.meaning, object);
            }
        }
        Ok::<_, StoreError>(())
    })?;
    // Edits come to an end in an order of their own.
    refused.sort_by_key(|(index, _)| *index);
    Ok(refused.into_iter().map(|(_, finding)| finding).collect())
}

/// The keys of all edits at another layer than that of their values, in the order in which they are linked: from the
/// store, or computed and stored.
///
/// # Errors
/// The store fails.
pub fn keys(
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f32>>, Stop> {
    let edits = plan.by_meaning();
    let weight = setup.settings.bare_weight;
    let address = |planned: &Planned<'_>| {
        let (reading, templates) = (planned.reading(base), &setup.templates);
        key_address(&base.locked.digest, reading.as_ref(), &planned.meaning, setup.layer, templates, weight)
    };
    let known = edits.iter().map(|planned| {
        let object = stored(store, &address(planned), setup.layer)?;
        Ok(object.and_then(|object| object.sites.into_values().next()).map(|site| site.key))
    });
    let known = known.collect::<Result<Vec<_>, StoreError>>()?;
    let unknown = edits.iter().zip(&known).filter(|(_, key)| key.is_none());
    let unknown: Vec<&Resolved> = unknown.map(|(planned, _)| &planned.resolved).collect();
    let mut fresh = compile::keys(&base.model, setup.layer, &unknown, weight);
    let mut keys = Vec::with_capacity(edits.len());
    progress.begin(&format!("keys of layer {}, edits", setup.layer), edits.len() as u64);
    for (index, (planned, known)) in edits.iter().zip(known).enumerate() {
        keys.push(match known {
            Some(key) => key,
            None => {
                let key = fresh.next().expect("a key for every unknown one");
                store.put(Kind::Object, &address(planned), &Object::of_key(setup.layer, key.clone()).to_bytes())?;
                key
            }
        });
        progress.at(index as u64 + 1);
    }
    progress.end();
    Ok(keys)
}

/// The object at an address, if a sound one of this layer is there.
fn stored(store: &Store, address: &Digest, layer: usize) -> Result<Option<Object>, StoreError> {
    let of_layer = |object: &Object| object.sites.len() == 1 && object.sites.contains_key(&layer);
    store.recall(Kind::Object, address, |bytes| Object::from_bytes(bytes).ok().filter(of_layer))
}

/// Why a compiled edit is refused, if it is.
fn judge(edit: &Edit, compiled: &Compiled, setup: &Setup) -> Option<Diagnostic> {
    let place = &edit.place;
    let finite = compiled.key.iter().chain(&compiled.value).all(|x| x.is_finite()) && compiled.loss.total().is_finite();
    if !finite {
        let message = format!("edit `{}`: its key or its value is not a finite number", edit.id);
        let finding = Diagnostic::new(Code::NotFinite, message).at(place.file, &place.id, "this edit");
        return Some(finding.help("the base model's weights hold NaN or infinity, or overflow with this prompt"));
    }
    if compiled.converged && compiled.value == compiled.value_before {
        let message = format!("edit `{}` changes nothing: the value that it asks for is there already", edit.id);
        let finding = Diagnostic::new(Code::NullEdit, message).at(place.file, &place.target, "the base gives this");
        return Some(finding.with(place.file, &place.id, "this edit").help("remove the edit"));
    }
    if compiled.converged {
        return None;
    }
    let message = format!(
        "edit `{}` did not converge: NLL {:.2} at best after {} evaluations, more than {}",
        edit.id, compiled.loss.nll, compiled.evaluations, setup.settings.converged_nll
    );
    Some(
        Diagnostic::new(Code::NotConverged, message)
            .at(place.file, &place.target, "no value makes the model give this")
            .with(place.file, &place.id, "this edit")
            .help("a model can only give answers that it has read: check the target's spelling and case")
            .help("reword the prompt or the target, edit another layer, or lengthen `schedule` under `[rome]`")
            .help("`converged-nll` under `[rome]` is the threshold"),
    )
}
