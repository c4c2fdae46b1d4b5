//! Where a verb may put a file that a person asked for: never in place of what is read, or of what somebody else keeps.

use std::path::{Path, PathBuf};

use super::Context;
use crate::build::base::places_of;
use crate::export::folder::{resolved, root};
use crate::project::Config;
use crate::project::config::is_own;

impl Context {
    /// Whether `path` is free for an answer: outside the base models, the store and the git history, and no file that
    /// the project is made of or reads.
    ///
    /// # Errors
    /// It is not, in words.
    pub(super) fn may_write(&self, path: &Path) -> Result<(), String> {
        let whole = resolved(path);
        let refuse = |what: &str| Err(format!("`{}` is {what}, and is not written over", path.display()));
        if is_own(&self.root, path) {
            return refuse("a file of the project");
        }
        if whole.components().any(|part| part.as_os_str() == ".git") {
            return refuse("in a git history");
        }
        if self.store().is_ok_and(|store| whole.starts_with(resolved(store.root()))) {
            return refuse("in the store");
        }
        let Ok((config, ..)) = Config::load(&self.root) else { return Ok(()) };
        if in_a_base(&config, &whole) {
            return refuse("in the folder of a base model");
        }
        match read_by(&config).iter().any(|read| resolved(read) == whole) {
            true => refuse("read by the project"),
            false => Ok(()),
        }
    }
}

/// Whether a path without links lies in the folder of one of the models.
pub(super) fn in_a_base(config: &Config, whole: &Path) -> bool {
    places_of(config).into_iter().any(|base| root(&base).is_ok_and(|root| whole.starts_with(root)))
}

/// The files that the project file names.
fn read_by(config: &Config) -> Vec<PathBuf> {
    let named = config.models.values().map(|named| (&named.rome, named.statistics.as_ref()));
    let every = named.chain([(&config.rome, config.statistics.as_ref())]);
    let files = every.flat_map(|(rome, statistics)| {
        [rome.templates.as_ref(), statistics.map(|statistics| &statistics.corpus)].into_iter().flatten()
    });
    files.chain(config.test.neutral.as_ref()).map(|file| config.resolve(file)).collect()
}
