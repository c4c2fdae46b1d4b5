//! Treats damaged entries of the store as missing and records a warning, so that their content is computed again.

use std::sync::PoisonError;

use super::{EntryKind, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Records a warning about a damaged entry. The same damage is recorded only once.
    pub fn record_skipped(&self, damage: &StoreError) {
        let mut noted = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// Returns the result of a read. If it is [`StoreError::Damaged`], records a warning and returns `None` instead.
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

    /// Returns the recorded warnings, in the order in which they were recorded.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the parsed entry, or `None` if it must be computed again: it is missing or damaged, or `parse` rejects
    /// it because it has another format. An intact entry of another format is removed, so that a new one can be stored.
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
        // A store that is opened only for reading does not remove entries.
        if parsed.is_none() && self.memoize {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// As [`Store::recall`], for entries that only save time: an entry also counts as missing if it cannot be read.
    pub fn recall_if_any<T>(&self, kind: EntryKind, key: &Digest, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.recall(kind, key, parse).ok().flatten()
    }

    /// Stores an entry that only saves time, so errors are ignored. If there is a valid entry with another payload, it
    /// remains and a warning is recorded. A store that is opened only for reading stores nothing.
    pub fn put_optional(&self, kind: EntryKind, key: &Digest, payload: &[u8]) {
        if !self.memoize {
            return;
        }
        if let Err(error @ StoreError::Conflict { .. }) = self.put(kind, key, payload) {
            self.record_skipped(&error);
        }
    }
}
