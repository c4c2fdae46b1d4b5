//! Links the edits of a plan and measures the patch, or reads both results from the store.

use super::build_inputs::BuildInputs;
use super::link_inputs::{Prepared, prepare};
use super::record::{BuildRecord, measure};
use super::statistics::LayerStatistics;
use super::{BuildContext, Plan};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::store::{EntryKind, Store, StoreError};

/// The patch of all edits of a plan, with its measurements. Both are written to the store only after all policy checks
/// have passed.
pub(super) struct LinkedSet {
    pub(super) record: BuildRecord,
    pub(super) patch: Patch,
    /// The number of edits that were compiled in this run. The other compiled edits were read from the store.
    pub(super) compiled: usize,
    /// The store address of `record`, which may not be stored yet.
    address: Digest,
    /// Whether the patch was made and measured in this run. If so, [`LinkedSet::write`] stores the patch and its
    /// measurements.
    is_new: bool,
}

impl LinkedSet {
    /// Returns the patch of a plan with its measurements. Both are read from the store if an earlier build had the same
    /// inputs. Otherwise the edits are linked and the patch is measured.
    ///
    /// # Errors
    /// If the edits cannot be compiled, linked or measured, or if the store cannot be read or written.
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

    /// Writes the patch and its measurements to the store, unless both were read from the store.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub(super) fn write(&self, store: &Store) -> Result<(), Failure> {
        if self.is_new {
            store.put_patch(&self.patch.to_bytes())?;
            let json = serde_json::to_vec(&self.record).expect("figures can be serialized");
            store.put(EntryKind::Report, &self.address, &json)?;
        }
        Ok(())
    }
}

/// Reads the record of a build from a store address, and the patch whose id is in this record. Returns `None` if the
/// record or the patch is missing or damaged.
///
/// # Errors
/// If the store cannot be read.
pub(super) fn recall(store: &Store, address: &Digest) -> Result<Option<(BuildRecord, Patch)>, StoreError> {
    let record: Option<BuildRecord> =
        store.recall(EntryKind::Report, address, |bytes| serde_json::from_slice(bytes).ok())?;
    let Some(record) = record else { return Ok(None) };
    let patch = store.recall(EntryKind::Patch, &record.patch, |bytes| Patch::from_bytes(bytes).ok())?;
    Ok(patch.map(|patch| (record, patch)))
}
