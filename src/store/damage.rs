//! Damage that is computed past: what is not as it was written counts as nothing there, and is told of.

use std::sync::PoisonError;

use super::{Kind, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Notes that something is damaged, and that what needs it does without.
    pub fn pass_over(&self, damage: &StoreError) {
        let mut noted = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// What was found, where damage counts as nothing there: it is noted.
    ///
    /// # Errors
    /// Every other error of `found`.
    pub fn unless_damaged<T>(&self, found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        found.or_else(|error| match error {
            StoreError::Damaged { .. } => {
                self.pass_over(&error);
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// What was noted so far, in its order.
    pub fn passed_over(&self) -> Vec<String> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `parse` makes of an entry, or `None` where it must be computed again: there is none, it is damaged, or it is
    /// sound and yet says nothing to `parse`, having been written by a program of another format. Such an entry is
    /// removed, for it would only stand in the way of the new one.
    ///
    /// # Errors
    /// [`StoreError::Io`] where it cannot be read or removed.
    pub fn recall<T>(
        &self,
        kind: Kind,
        key: &Digest,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.unless_damaged(self.get(kind, key))? else { return Ok(None) };
        let parsed = parse(&bytes);
        // A verb that promises to write nothing removes nothing.
        if parsed.is_none() && self.remembers {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// The same for what is only kept to save time: what cannot be read is not there.
    pub fn recall_if_any<T>(&self, kind: Kind, key: &Digest, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.recall(kind, key, parse).ok().flatten()
    }

    /// Keeps what only saves time: a store that cannot be written to, or may not, ends nothing. That the same inputs
    /// gave other bytes before is noted.
    pub fn keep(&self, kind: Kind, key: &Digest, payload: &[u8]) {
        if !self.remembers {
            return;
        }
        if let Err(error @ StoreError::Conflict { .. }) = self.put(kind, key, payload) {
            self.pass_over(&error);
        }
    }
}
