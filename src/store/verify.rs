//! Checks every entry of the store, and reports damaged, unexpected and unreadable paths.

use std::path::{Path, PathBuf};

use super::list::{Found, What, sorted};
use super::{Kind, Store, StoreError, atomic};

/// A problem in the store: a damaged, unexpected or unreadable file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or directory that has the problem.
    pub path: PathBuf,
    /// What is wrong with the path, as part of a message.
    pub why: String,
    /// The action that is suggested to the user, such as `remove it`.
    pub repair: &'static str,
}

/// The result of [`Store::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of entries that were checked, damaged ones included.
    pub checked: usize,
    /// The problems, in the order of listings.
    pub problems: Vec<Problem>,
}

const REMOVE: &str = "remove it";
const REBUILD: &str = "remove it: it is computed again when it is needed";
const PERMISSIONS: &str = "check the permissions and the disk";

impl Report {
    fn add(&mut self, path: &Path, why: impl Into<String>, repair: &'static str) {
        self.problems.push(Problem { path: path.to_owned(), why: why.into(), repair });
    }
}

impl Store {
    /// Reads and checks every entry, and continues after problems. Memos are not checked, because a damaged one is
    /// ignored when it is read; temporary files are not checked, because `gc` removes them.
    pub fn verify(&self) -> Report {
        let mut report = Report::default();
        if !self.verify_top(&mut report) {
            return report;
        }
        for kind in Kind::ALL {
            for Found { path, what } in self.scan(kind.folder(), kind.suffix()) {
                match what {
                    What::Entry(key) => {
                        report.checked += 1;
                        match self.check(kind, &key) {
                            Ok(_) => {}
                            Err(StoreError::Damaged { why, .. }) => report.add(&path, why, REBUILD),
                            Err(error) => report.add(&path, error.to_string(), PERMISSIONS),
                        }
                    }
                    What::Unknown => report.add(&path, "its name is not the name of an entry", REMOVE),
                    What::Unreadable(error) => report.add(&path, error.to_string(), PERMISSIONS),
                    What::Temporary => {}
                }
            }
        }
        report
    }

    /// Reports unknown names in the store's folder `v1`. Returns false if the folder cannot be listed.
    fn verify_top(&self, report: &mut Report) -> bool {
        let names = match sorted(&self.versioned()) {
            Ok(names) => names,
            Err(error) => {
                report.add(&self.versioned(), error.to_string(), PERMISSIONS);
                return false;
            }
        };
        for (name, path) in names {
            let known = Kind::ALL.iter().any(|kind| kind.folder() == name);
            if !known && name != "memo" && name != "lock" && !atomic::is_temporary(&name) {
                report.add(&path, "a store contains no entry of this name", REMOVE);
            }
        }
        true
    }
}
