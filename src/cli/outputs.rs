//! Where a verb may put what a person asked for: never in place of what is read, or of what somebody else keeps.

use std::path::Path;

use super::Context;
use crate::build::base::place_in;
use crate::export::folder::{resolved, root};
use crate::project::{Code, Diagnostic, Paths};

impl Context {
    /// Whether `path` is free for an answer: outside the base models, the store and the git history, and no file that
    /// the project is made of or reads.
    ///
    /// # Errors
    /// It is not, in words.
    pub(super) fn may_write(&self, path: &Path) -> Result<(), String> {
        match self.taken(path) {
            None => Ok(()),
            Some(what) => Err(format!("`{}` is {what}, and is not written over", path.display())),
        }
    }

    /// The same as a finding, for an export.
    pub(super) fn may_export(&self, path: &Path) -> Result<(), Diagnostic> {
        self.may_write(path).map_err(|why| Diagnostic::new(Code::ExportRefused, why))
    }

    /// Whether the store may be kept in `folder`: not inside a base model.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn may_keep(&self, folder: &Path) -> Result<(), Diagnostic> {
        if !in_a_base(&Paths::at(&self.root), &self.root, &resolved(folder)) {
            return Ok(());
        }
        let message = format!("the cache `{}` lies in the folder of a base model", folder.display());
        Err(Diagnostic::new(Code::StoreFailed, message).help("nothing is written there: name another folder"))
    }

    /// What a path is, where it is not free.
    fn taken(&self, path: &Path) -> Option<&'static str> {
        let (whole, paths) = (resolved(path), Paths::at(&self.root));
        if paths.is_own(&self.root, path) {
            Some("a file of the project")
        } else if whole.components().any(|part| part.as_os_str() == ".git") {
            Some("in a git history")
        } else if in_a_base(&paths, &self.root, &whole) {
            Some("in the folder of a base model")
        } else if self.store().is_ok_and(|store| whole.starts_with(resolved(store.root()))) {
            Some("in the store")
        } else if paths.read.iter().any(|read| resolved(&self.root.join(read)) == whole) {
            Some("read by the project")
        } else {
            None
        }
    }
}

/// Whether a path without links lies in the folder of one of the models. Where a project file is too broken to name
/// them all, every folder that looks like a model is one.
fn in_a_base(paths: &Paths, project: &Path, whole: &Path) -> bool {
    let inside = |written| root(&place_in(project, written)).is_ok_and(|root| whole.starts_with(root));
    paths.models.iter().any(|written| inside(written)) || paths.broken && whole.ancestors().any(looks_like_a_model)
}

fn looks_like_a_model(folder: &Path) -> bool {
    let weights = |name: &Path| name.extension().is_some_and(|extension| extension == "safetensors");
    folder.join("config.json").is_file()
        && folder.read_dir().is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|one| weights(&one.path()))))
}
