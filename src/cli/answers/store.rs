use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::Digest;
use crate::store::StoreEntry;

/// The JSON that `store dir --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreFolder<'a> {
    /// The path of the folder that contains the store's entries.
    pub path: &'a str,
}

/// The JSON that `store ls` and `store export` print with `--format json`, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreEntries {
    /// All entries of the store (`store ls`), or the copied entries (`store export`).
    pub entries: Vec<ListedEntry>,
    /// The sum of the sizes of `entries`, in bytes.
    pub bytes: u64,
}

/// An entry of the store, such as a compiled edit or a patch.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ListedEntry {
    /// The kind of the entry: `object` (a compiled edit), `patch`, `statistics`, `factor` (the Cholesky factor of
    /// statistics), `report`, `refusal` (the reason why an edit cannot be compiled), `partial` (unfinished statistics
    /// or an unfinished training), `measured` (cached outputs of models) or `editor` (a trained editor of `bench`).
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

pub(in crate::cli) fn store_entries(entries: &[StoreEntry]) -> Vec<ListedEntry> {
    entries.iter().map(ListedEntry::from).collect()
}

/// The JSON that `store verify --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreCheck<'a> {
    /// The number of entries that were read and compared with their digests.
    pub checked: usize,
    /// The damaged entries and other problems that the check found.
    pub problems: Vec<ListedProblem<'a>>,
}

/// A problem that `store verify` found, with advice on how to repair it.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ListedProblem<'a> {
    /// The file or folder that has the problem.
    pub path: String,
    /// What is wrong with the file or folder.
    pub why: &'a str,
    /// The advice on how to repair the problem, such as `remove it`.
    pub repair: &'static str,
}

/// The JSON that `store gc --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreCleanup {
    /// The removed entries, which `corrigenda.lock` does not need.
    pub removed: Vec<ListedEntry>,
    /// The paths of the removed files that are not entries, such as temporary files.
    pub others: Vec<String>,
    /// The sum of the sizes of all removed files, in bytes.
    pub bytes: u64,
}

/// The JSON that `store import --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StoreImport<'a> {
    /// The imported entries that the store did not have.
    pub new: Vec<ListedEntry>,
    /// The imported entries that the store already had.
    pub present: Vec<ListedEntry>,
    /// The files that the import rejected, each with the reason.
    pub refused: Vec<RefusedFile<'a>>,
}

/// A file that `store import` rejected, for example because its content does not match its digest.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct RefusedFile<'a> {
    /// The path of the file in the imported folder.
    pub path: String,
    /// The reason why the file was rejected.
    pub why: &'a str,
}

impl<'a> RefusedFile<'a> {
    pub(in crate::cli) fn new(path: &Path, why: &'a str) -> Self {
        Self { path: path.display().to_string(), why }
    }
}
