//! Verifies every entry of the store, and reports damaged, unexpected and unreadable paths.

use std::path::{Path, PathBuf};

use super::list::{PathClass, ScannedPath, sorted};
use super::{EntryKind, Store, StoreError, atomic};

/// A damaged, unexpected or unreadable file or directory of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProblem {
    pub path: PathBuf,
    /// A description of the problem, for a message.
    pub why: String,
    pub repair: Repair,
}

/// What the user should do about a problem in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The path does not belong to the store and should be removed.
    Remove,
    /// The entry is damaged and should be removed. The next build that needs the entry computes it again.
    RemoveAndRebuild,
    /// The path cannot be read, so the user should check the permissions.
    CheckPermissions,
}

impl Repair {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove it",
            Self::RemoveAndRebuild => "remove it: it is computed again when it is needed",
            Self::CheckPermissions => "check the permissions and the disk",
        }
    }

    /// Returns true if the user should remove the path; false if the user should check its permissions and the disk.
    pub fn removes(self) -> bool {
        self != Self::CheckPermissions
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// The number of verified entries, including damaged ones.
    pub checked: usize,
    /// The problems of the store. Unexpected names in the folder `v1` come first, and then the problems of entries,
    /// sorted by kind and path.
    pub problems: Vec<StoreProblem>,
}

impl StoreReport {
    fn add(&mut self, path: &Path, why: impl Into<String>, repair: Repair) {
        self.problems.push(StoreProblem { path: path.to_owned(), why: why.into(), repair });
    }
}

impl Store {
    /// Verifies every entry, and continues after a problem. Memos (cached digests) are not verified, because a damaged
    /// memo is ignored when it is read. Temporary files are not verified, because `gc` removes them.
    pub fn verify(&self) -> StoreReport {
        let mut report = StoreReport::default();
        if !self.verify_top(&mut report) {
            return report;
        }
        for kind in EntryKind::ALL {
            for ScannedPath { path, class } in self.scan(kind.folder(), kind.suffix()) {
                match class {
                    PathClass::Entry(key) => {
                        report.checked += 1;
                        match self.check(kind, &key) {
                            Ok(_) => {}
                            Err(StoreError::Damaged { why, .. }) => report.add(&path, why, Repair::RemoveAndRebuild),
                            Err(error) => report.add(&path, error.to_string(), Repair::CheckPermissions),
                        }
                    }
                    PathClass::Unknown => report.add(&path, "its name is not the name of an entry", Repair::Remove),
                    PathClass::Unreadable(error) => report.add(&path, error.to_string(), Repair::CheckPermissions),
                    PathClass::Temporary => {}
                }
            }
        }
        report
    }

    /// Reports unexpected names in the folder `v1`. Returns false if the folder cannot be listed.
    fn verify_top(&self, report: &mut StoreReport) -> bool {
        let names = match sorted(&self.versioned()) {
            Ok(names) => names,
            Err(error) => {
                report.add(&self.versioned(), error.to_string(), Repair::CheckPermissions);
                return false;
            }
        };
        for (name, path) in names {
            let known = EntryKind::ALL.iter().any(|kind| kind.folder() == name);
            if !known && name != "memo" && name != "lock" && !atomic::is_temporary(&name) {
                report.add(&path, "a store contains no entry of this name", Repair::Remove);
            }
        }
        true
    }
}
