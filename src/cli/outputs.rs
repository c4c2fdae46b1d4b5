//! Where a verb may put what a person asked for: never in place of what is read, or of what somebody else keeps.

use std::path::Path;

use super::Context;
use crate::build::base::place_in;
use crate::export::folder::root;
use crate::home::expanded;
use crate::plain::resolved;
use crate::project::accepted::is_accepted_file;
use crate::project::{Code, Diagnostic, LOCK_FILE, PROBES_FILE, PROJECT_FILE, Paths};

impl Context {
    /// Whether `path` is free for an answer: outside the base models, the store and git histories, and no file that
    /// the project is made of or reads.
    ///
    /// # Errors
    /// It is not, in words.
    pub(super) fn may_write(&self, path: &Path) -> Result<(), String> {
        let paths = Paths::at(&self.root);
        let read = || paths.read.iter().any(|read| resolved(&self.root.join(expanded(read))) == resolved(path));
        let taken = if is_own(&paths, &self.root, path) {
            Some("a file of the project")
        } else if let Some(what) = self.kept(&paths, path) {
            Some(what)
        } else if read() {
            Some("read by the project")
        } else if path.is_file() && path.parent().is_some_and(looks_like_a_model) {
            Some("a file of a model")
        } else if paths.unread && path.symlink_metadata().is_ok() {
            Some("there, beside a project file that cannot be read")
        } else {
            None
        };
        taken.map_or(Ok(()), |what| Err(format!("`{}` is {what}, and is not written over", path.display())))
    }

    /// The same as a finding, for an export.
    pub(super) fn may_export(&self, path: &Path) -> Result<(), Diagnostic> {
        self.may_write(path).map_err(|why| Diagnostic::new(Code::ExportRefused, why))
    }

    /// Whether facts may be put into `folder` of the project: below its folder, where nobody else keeps something.
    ///
    /// # Errors
    /// They may not.
    pub(super) fn may_import(&self, folder: &Path) -> Result<(), Diagnostic> {
        let (place, root) = (self.root.join(folder), resolved(&self.root));
        let what = match self.kept(&Paths::at(&self.root), &place) {
            None if resolved(&place) == root.join(folder) => return Ok(()),
            None => "behind a symbolic link, which is not followed",
            Some(what) => what,
        };
        let message = format!("`{}` is {what}: nothing was written", folder.display());
        Err(Diagnostic::new(Code::PathOutside, message).help("`edits` in corrigenda.toml names the folder of facts"))
    }

    /// Whether a project may be begun in `folder` with these files: in no base model, and in nobody's git history.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn may_begin(&self, folder: &Path, model: Option<&Path>, names: &[&str]) -> Result<(), Diagnostic> {
        let (home, base) = (resolved(folder), model.and_then(|model| root(model).ok()));
        let what = if base.is_some_and(|base| home.starts_with(base)) {
            "in the folder of the base model, which is never written to"
        } else if is_in_git(&home) {
            "in a git history"
        } else if names.iter().any(|name| resolved(&folder.join(name)) != home.join(name)) {
            "a folder of links, which are not followed"
        } else {
            return Ok(());
        };
        let message = format!("`{}` is {what}: nothing was written", folder.display());
        Err(Diagnostic::new(Code::ProjectExists, message).help("`-C DIR` names another folder"))
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

    /// In whose folder a path is, where it is in one.
    fn kept(&self, paths: &Paths, path: &Path) -> Option<&'static str> {
        let whole = resolved(path);
        if is_in_git(&whole) {
            Some("in a git history")
        } else if in_a_base(paths, &self.root, &whole) {
            Some("in the folder of a base model")
        } else if self.store().is_ok_and(|store| whole.starts_with(resolved(store.root()))) {
            Some("in the store")
        } else {
            None
        }
    }
}

/// Whether `path` is one of the files that the project in `root` is made of.
fn is_own(paths: &Paths, root: &Path, path: &Path) -> bool {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return false };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // What takes a place takes that of a link, not of what it leads to.
    let (root, path) = (resolved(root), resolved(folder).join(name));
    let own = |name: &str| [PROJECT_FILE, LOCK_FILE, PROBES_FILE].contains(&name) || is_accepted_file(name);
    paths.facts.iter().any(|folder| path.starts_with(resolved(&root.join(folder))))
        || path.strip_prefix(&root).ok().and_then(Path::to_str).is_some_and(own)
}

/// Whether a path without links lies in a git history: in a folder of that name, or in a bare repository. A worktree may
/// stand in one, and is none of it.
fn is_in_git(whole: &Path) -> bool {
    let named = |folder: &&Path| folder.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"));
    let bare = |folder: &Path| {
        folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir()
    };
    let outside = |folder: &&Path| !folder.join(".git").exists();
    whole.ancestors().any(|folder| named(&folder)) || whole.ancestors().take_while(outside).any(bare)
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
