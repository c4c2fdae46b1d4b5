//! Treats damaged entries as missing and records a warning, so that their content is computed again.

use std::sync::PoisonError;

use super::{Kind, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Records a damaged entry; repeated reports of the same damage are stored once.
    pub fn pass_over(&self, damage: &StoreError) {
        let mut noted = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// Returns `found`, with damage replaced by `None` and recorded.
    ///
    /// # Errors
    /// If `found` is an error other than [`StoreError::Damaged`].
    pub fn unless_damaged<T>(&self, found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        found.or_else(|error| match error {
            StoreError::Damaged { .. } => {
                self.pass_over(&error);
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// Returns the recorded damage as messages, in the order in which it was found.
    pub fn passed_over(&self) -> Vec<String> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the parsed entry, or `None` if it must be computed again: it is missing or damaged, or it is intact but
    /// `parse` rejects it because it has another format. Such an entry is removed, so that the new one can be stored.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the entry cannot be read or removed.
    pub fn recall<T>(
        &self,
        kind: Kind,
        key: &Digest,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.unless_damaged(self.get(kind, key))? else { return Ok(None) };
        let parsed = parse(&bytes);
        // A store that is opened for reading removes nothing.
        if parsed.is_none() && self.remembers {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// As [`Store::recall`], for entries that only save time: an entry that cannot be read counts as missing.
    pub fn recall_if_any<T>(&self, kind: Kind, key: &Digest, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.recall(kind, key, parse).ok().flatten()
    }

    /// Stores an entry that only saves time; a store that cannot be written to is not an error. A conflict with an
    /// entry that the same inputs gave before is recorded.
    pub fn keep(&self, kind: Kind, key: &Digest, payload: &[u8]) {
        if !self.remembers {
            return;
        }
        if let Err(error @ StoreError::Conflict { .. }) = self.put(kind, key, payload) {
            self.pass_over(&error);
        }
    }
}
