//! Links and measures the edits of a plan, or reads the patch and its figures from the store.

use super::build_inputs::BuildInputs;
use super::link_inputs::{Prepared, prepare};
use super::record::{BuildRecord, measure};
use super::statistics::LayerStatistics;
use super::{BuildContext, Plan};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::store::{EntryKind, Store, StoreError};

/// The patch of all edits of a plan, with its figures. It is not written to the store until all policy checks have
/// passed.
pub(super) struct LinkedSet {
    pub(super) record: BuildRecord,
    pub(super) patch: Patch,
    /// The number of edits that were compiled in this run; the other compiled edits were read from the store.
    pub(super) compiled: usize,
    /// The address at which the store has, or will have, the record.
    address: Digest,
    /// Whether the store lacks the patch or its record, so that they must be written.
    is_new: bool,
}

impl LinkedSet {
    /// Returns the patch of a plan with its figures: from the store if the same inputs were built before, or else by
    /// linking and measuring.
    ///
    /// # Errors
    /// If the set cannot be compiled, linked or measured, or the store fails.
    pub(super) fn load_or_link(
        context: BuildContext<'_>,
        plan: &Plan<'_>,
        statistics: &LayerStatistics,
    ) -> Result<Self, Failure> {
        let BuildContext { project, base, setup, store, progress } = context;
        let address = BuildInputs::new(plan, base, setup, statistics).record_address();
        if let Some((record, patch)) = recall(store, &address)? {
            return Ok(Self { record, patch, compiled: 0, address, is_new: false });
        }
        if plan.edits.is_empty() {
            let (record, patch) = BuildRecord::of_empty_set();
            return Ok(Self { record, patch, compiled: 0, address, is_new: true });
        }
        let Prepared { linker, compiled, ridge } = prepare(context, plan, statistics)?;
        let linked = linker.link_all(progress)?;
        let record = measure(base, setup, plan, &linker, &linked, ridge).map_err(|error| {
            Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())).with_sources(&project.edits.sources)
        })?;
        Ok(Self { record, patch: linked.patch, compiled, address, is_new: true })
    }

    /// Writes the patch and its record to the store if they are new.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) fn write(&self, store: &Store) -> Result<(), Failure> {
        if self.is_new {
            store.put_patch(&self.patch.to_bytes())?;
            let json = serde_json::to_vec(&self.record).expect("figures can be serialized");
            store.put(EntryKind::Report, &self.address, &json)?;
        }
        Ok(())
    }
}

/// Returns the record at an address and its patch, if both are in the store and valid.
///
/// # Errors
/// If the store fails.
pub(super) fn recall(store: &Store, address: &Digest) -> Result<Option<(BuildRecord, Patch)>, StoreError> {
    let record: Option<BuildRecord> =
        store.recall(EntryKind::Report, address, |bytes| serde_json::from_slice(bytes).ok())?;
    let Some(record) = record else { return Ok(None) };
    let patch = store.recall(EntryKind::Patch, &record.patch, |bytes| Patch::from_bytes(bytes).ok())?;
    Ok(patch.map(|patch| (record, patch)))
}
