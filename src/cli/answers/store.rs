//! Defines the answers of the actions of `store`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::Digest;
use crate::store::StoreEntry;

/// The answer of `store dir`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreFolder<'a> {
    /// The path of the store's folder.
    pub path: &'a str,
}

/// The answer of `store ls` and `store export`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreEntries {
    /// The entries: all that the store has for `store ls`, all that were copied for `store export`.
    pub entries: Vec<ListedEntry>,
    /// The sum of the sizes of `entries`, in bytes.
    pub bytes: u64,
}

/// An entry of the store.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ListedEntry {
    /// The kind of the entry, such as object, patch or statistics.
    pub kind: String,
    /// The digest by which the store finds the entry.
    pub key: Digest,
    /// The size of the entry's file in bytes.
    pub size: u64,
}

impl From<&StoreEntry> for ListedEntry {
    fn from(entry: &StoreEntry) -> Self {
        Self { kind: entry.kind.to_string(), key: entry.key, size: entry.size }
    }
}

/// Converts entries of the store to entries of an answer.
pub(in crate::cli) fn store_entries(entries: &[StoreEntry]) -> Vec<ListedEntry> {
    entries.iter().map(ListedEntry::from).collect()
}

/// The answer of `store verify`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreCheck<'a> {
    /// The number of entries that were checked.
    pub checked: usize,
    /// The damaged entries and other problems that the check found.
    pub problems: Vec<ListedProblem<'a>>,
}

/// A problem that `store verify` found, with advice.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ListedProblem<'a> {
    /// The file or folder that has the problem.
    pub path: String,
    /// What is wrong with the file or folder.
    pub why: &'a str,
    /// How to repair the problem, as a sentence.
    pub repair: &'static str,
}

/// The answer of `store gc`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreCleanup {
    /// The entries that were removed.
    pub removed: Vec<ListedEntry>,
    /// The removed files that are not entries.
    pub others: Vec<String>,
    /// The sum of the sizes of all removed files, in bytes.
    pub bytes: u64,
}

/// The answer of `store import`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreImport<'a> {
    /// The imported entries that the store did not have.
    pub new: Vec<ListedEntry>,
    /// The entries that the store already had.
    pub present: Vec<ListedEntry>,
    /// The files that the import rejected, each with the reason.
    pub refused: Vec<RefusedFile<'a>>,
}

/// A file that `store import` rejected.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct RefusedFile<'a> {
    /// The path of the file.
    pub path: String,
    /// The reason for the rejection.
    pub why: &'a str,
}

impl<'a> RefusedFile<'a> {
    pub(in crate::cli) fn new(path: &Path, why: &'a str) -> Self {
        Self { path: path.display().to_string(), why }
    }
}
