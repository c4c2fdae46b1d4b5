//! Treats damaged entries of the store as missing, so that they are computed again. A warning is recorded for each
//! damaged entry.

use std::sync::PoisonError;

use super::{EntryKind, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Records `damage` as a warning for the user. Equal warnings are recorded once.
    pub fn record_skipped(&self, damage: &StoreError) {
        let mut noted = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// Treats a damaged entry as missing: if `found` is [`StoreError::Damaged`], records a warning and returns
    /// `Ok(None)`. Any other `found` is returned unchanged.
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

    /// Returns the recorded warnings about store entries, oldest first.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads an entry and parses its payload. Returns `None` if the entry is missing or damaged, or if `parse` returns
    /// `None` because the payload has a different format. In the last case, the entry is removed, so that a new entry
    /// can be stored.
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
        // `memoize` is false for a store from [`Store::for_reading`], which must not remove entries.
        if parsed.is_none() && self.memoize {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// Reads an entry like [`Store::recall`], but also returns `None` if an I/O operation fails. This is for entries
    /// that only make a command faster.
    pub fn recall_if_any<T>(&self, kind: EntryKind, key: &Digest, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.recall(kind, key, parse).ok().flatten()
    }

    /// Stores an entry that only makes later commands faster. Errors are ignored. If a valid entry with a different
    /// payload exists, that entry is kept and a warning is recorded. A store from [`Store::for_reading`] stores
    /// nothing.
    pub fn put_optional(&self, kind: EntryKind, key: &Digest, payload: &[u8]) {
        if !self.memoize {
            return;
        }
        if let Err(error @ StoreError::Conflict { .. }) = self.put(kind, key, payload) {
            self.record_skipped(&error);
        }
    }
}
