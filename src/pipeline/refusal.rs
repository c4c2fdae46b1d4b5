//! Stores why an edit cannot be compiled, so that later builds report the reason without another optimisation.
//!
//! The reason is stored at the address that the compiled edit would have. This address is a digest of all inputs of the
//! optimisation, so a build with other settings does not find the reason and optimises the edit again.

use serde::{Deserialize, Serialize};

use super::{Plan, PlannedEdit, Setup};
use crate::compile::value::Compiled;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::Digest;
use crate::project::Edit;
use crate::store::{EntryKind, Store, StoreError};

/// The reason why a compiled edit cannot be part of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    /// The MLP key, the value or the loss is not finite.
    NotFinite,
    /// The base model already produces the value for the MLP key, so the edit would change nothing.
    Null,
    /// The negative log-likelihood of the target stayed too high in all stages of the optimisation, including the
    /// retries.
    NotConverged,
}

/// The reason why an edit cannot be compiled, with the lowest negative log-likelihood and the number of evaluations of
/// its optimisation. The store contains this value as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Refusal {
    reason: Reason,
    /// The lowest mean negative log-likelihood of the target that was reached, in nats; `None` if it is not finite.
    nll: Option<f64>,
    /// The number of evaluations of the loss in the optimisation.
    evaluations: usize,
}

impl Refusal {
    /// Checks a compiled edit. Returns the reason why it cannot be part of a patch; `None` if it can.
    pub fn of(compiled: &Compiled) -> Option<Self> {
        let numbers = compiled.key.iter().chain(&compiled.value);
        let finite = numbers.clone().all(|x| x.is_finite()) && compiled.loss.total().is_finite();
        let reason = if !finite {
            Reason::NotFinite
        } else if !compiled.converged {
            Reason::NotConverged
        } else if compiled.value == compiled.value_before {
            Reason::Null
        } else {
            return None;
        };
        let nll = Some(compiled.loss.nll).filter(|nll| nll.is_finite());
        Some(Self { reason, nll, evaluations: compiled.evaluations })
    }

    /// Reads the refusal of an edit from the store. `address` is the address that the compiled edit would have. Returns
    /// `None` if the store has no refusal at this address, or if the refusal is damaged.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn stored(store: &Store, address: &Digest) -> Result<Option<Self>, StoreError> {
        store.recall(EntryKind::Refusal, address, |bytes| serde_json::from_slice(bytes).ok())
    }

    /// Writes the refusal to the store. `address` is the address that the compiled edit would have.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write(&self, store: &Store, address: &Digest) -> Result<(), StoreError> {
        store.put(EntryKind::Refusal, address, &serde_json::to_vec(self).expect("numbers can be serialized"))
    }

    /// Returns the reason why the edit cannot be compiled, as one line for the progress output.
    pub fn summary(&self) -> String {
        match self.reason {
            Reason::NotFinite => "REFUSED: not a finite number".to_owned(),
            Reason::Null => "REFUSED: it changes nothing".to_owned(),
            Reason::NotConverged => {
                format!(
                    "REFUSED: NLL {:.2} at best after {} evaluations",
                    self.nll.unwrap_or(f64::NAN),
                    self.evaluations
                )
            }
        }
    }

    /// Returns the error for an edit that cannot be compiled, with the location of the edit in its file.
    pub fn finding(&self, edit: &Edit, setup: &Setup) -> Diagnostic {
        let spans = &edit.spans;
        match self.reason {
            Reason::NotFinite => {
                let message = format!("edit `{}`: its key or its value is not a finite number", edit.id);
                Diagnostic::new(Code::NotFinite, message)
                    .at(spans.file, &spans.id, "this edit")
                    .help("the base model's weights hold NaN or infinity, or overflow with this prompt")
            }
            Reason::Null => {
                let message =
                    format!("edit `{}` changes nothing: the base already has the value that it needs", edit.id);
                Diagnostic::new(Code::NullEdit, message)
                    .at(spans.file, &spans.target, "the base gives this")
                    .with(spans.file, &spans.id, "this edit")
                    .help("remove the edit")
            }
            Reason::NotConverged => self.not_converged(edit, setup),
        }
    }

    fn not_converged(&self, edit: &Edit, setup: &Setup) -> Diagnostic {
        let spans = &edit.spans;
        let message = format!(
            "edit `{}` did not converge: NLL {:.2} at best after {} evaluations, more than {}",
            edit.id,
            self.nll.unwrap_or(f64::NAN),
            self.evaluations,
            setup.settings.converged_nll
        );
        Diagnostic::new(Code::NotConverged, message)
            .at(spans.file, &spans.target, "no value makes the model give this")
            .with(spans.file, &spans.id, "this edit")
            .help("a model can only give answers that it has read: check the target's spelling and case")
            .help("reword the prompt or the target, edit another layer, or lengthen `schedule` under `[rome]`")
            .help("`converged-nll` under `[rome]` is the threshold")
            .help("set `status = \"parked\"` and a `status-reason` to leave the edit out and keep it in review")
    }
}

/// Returns the edits of a plan that an earlier build could not compile, each with the reason from the store.
///
/// # Errors
/// If the store cannot be read.
pub fn refused_edits<'p>(plan: &'p Plan<'_>, store: &Store) -> Result<Vec<(&'p PlannedEdit<'p>, Refusal)>, StoreError> {
    let mut known = Vec::new();
    for planned in &plan.edits {
        // If the store has both a compiled edit and a refusal, a later optimisation succeeded, so the refusal is
        // ignored.
        if !store.path(EntryKind::Object, &planned.object).is_file()
            && let Some(refusal) = Refusal::stored(store, &planned.object)?
        {
            known.push((planned, refusal));
        }
    }
    Ok(known)
}

/// Fails if the store records that an edit of the plan cannot be compiled. A build calls this before any computation.
///
/// # Errors
/// If the store has a refusal for edits of the plan (all of them are reported), or if the store cannot be read.
pub fn stop_if_known(plan: &Plan<'_>, setup: &Setup, sources: &Sources, store: &Store) -> Result<(), Failure> {
    let findings: Vec<Diagnostic> = refused_edits(plan, store)?
        .into_iter()
        .map(|(planned, refusal)| refusal.finding(planned.edit, setup))
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(Failure::invalid(findings, sources)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::value::Loss;

    fn compiled(nll: f64, converged: bool, value: f32) -> Compiled {
        let loss = Loss { nll, kl: 0.0, decay: 0.0, lead: 0.0 };
        let (key, value, value_before) = (vec![1.0], vec![value], vec![0.5]);
        Compiled { key, value, value_before, loss, stage: 0, evaluations: 345, converged }
    }

    #[test]
    fn each_reason_can_be_stored_and_read() {
        assert_eq!(Refusal::of(&compiled(0.01, true, 1.0)), None);
        let reason = |compiled: &Compiled| Refusal::of(compiled).map(|refusal| refusal.reason);
        assert_eq!(reason(&compiled(0.01, true, 0.5)), Some(Reason::Null));
        assert_eq!(reason(&compiled(2.0, false, 1.0)), Some(Reason::NotConverged));
        assert_eq!(reason(&compiled(f64::NAN, false, 1.0)), Some(Reason::NotFinite));
        assert_eq!(reason(&compiled(0.1, true, f32::INFINITY)), Some(Reason::NotFinite));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (store, absent) = (Store::open(folder.path().join("store")), Digest::of(b"edit"));
        assert_eq!(Refusal::stored(&store, &absent).expect("the store can be read"), None);
        for refused in [compiled(2.0, false, 1.0), compiled(f64::NAN, false, 1.0)] {
            let address = Digest::of(format!("{}", refused.loss.nll).as_bytes());
            let refusal = Refusal::of(&refused).expect("the edit is refused");
            refusal.write(&store, &address).expect("the refusal is stored");
            assert_eq!(Refusal::stored(&store, &address).expect("the refusal is read"), Some(refusal));
        }
    }
}
