//! Treats damaged entries of the store as missing, so that they are computed again, and records a warning for each.

use std::sync::PoisonError;

use super::{EntryKind, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Records a warning about a damaged entry. Equal warnings are recorded once.
    pub fn record_skipped(&self, damage: &StoreError) {
        let mut noted = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// Returns `found` unchanged, unless it is [`StoreError::Damaged`]: then records a warning and returns `Ok(None)`.
    ///
    /// # Errors
    /// If `found` is an error other than [`StoreError::Damaged`].
    pub fn unless_damaged<T>(&self, found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        found.or_else(|error| match error {
            StoreError::Damaged { .. } => {
                self.record_skipped(&error);
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// Returns the recorded warnings, oldest first.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads and parses an entry. Returns `None` if it must be computed again, because the entry is missing or damaged,
    /// or `parse` returns `None` for an entry of a different format. The latter is removed, so that a new entry can be
    /// stored.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the entry cannot be read or removed.
    pub fn recall<T>(
        &self,
        kind: EntryKind,
        key: &Digest,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.unless_damaged(self.get(kind, key))? else { return Ok(None) };
        let parsed = parse(&bytes);
        // A store opened with [`Store::for_reading`] does not remove entries.
        if parsed.is_none() && self.memoize {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// Reads an entry that only saves time, as [`Store::recall`] does, but also returns `None` if the entry cannot be
    /// read.
    pub fn recall_if_any<T>(&self, kind: EntryKind, key: &Digest, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.recall(kind, key, parse).ok().flatten()
    }

    /// Stores an entry that only saves time; errors are ignored. A valid entry with a different payload is not
    /// replaced, and a warning is recorded. A store opened with [`Store::for_reading`] stores nothing.
    pub fn put_optional(&self, kind: EntryKind, key: &Digest, payload: &[u8]) {
        if !self.memoize {
            return;
        }
        if let Err(error @ StoreError::Conflict { .. }) = self.put(kind, key, payload) {
            self.record_skipped(&error);
        }
    }
}
