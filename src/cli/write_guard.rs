//! Checks where commands may write. They must not overwrite files that the project reads, and must not write inside a
//! base model, the store or the data of a git repository.

use std::path::Path;

use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic};
use crate::export::folder::root;
use crate::home::expand;
use crate::pipeline::base::protected_folder_in;
use crate::project::lock::accepted::is_accepted_file;
use crate::project::{LOCK_FILE, PROBES_FILE, PROJECT_FILE, Paths};
use crate::regular_file::canonicalize_lenient;

impl Context {
    /// Checks that an output may be written to `path`. The path must be outside the base models, the store and git
    /// data. It must not be a file of the project, a file that the project reads, or an existing file in the
    /// folder of any model. If the project file exists but cannot be read, `path` must not exist.
    ///
    /// # Errors
    /// If `path` violates one of these rules. The error is a message with the reason.
    pub(super) fn may_write(&self, path: &Path) -> Result<(), String> {
        let paths = Paths::at(&self.root);
        let read = || {
            paths
                .read
                .iter()
                .any(|read| canonicalize_lenient(&self.root.join(expand(read))) == canonicalize_lenient(path))
        };
        let taken = if is_own(&paths, &self.root, path) {
            Some("a file of the project")
        } else if let Some(what) = self.kept(&paths, path) {
            Some(what)
        } else if read() {
            Some("read by the project")
        } else if path.is_file() && path.parent().is_some_and(looks_like_a_model) {
            Some("a file of a model")
        } else if paths.unparsed && path.symlink_metadata().is_ok() {
            Some("an existing path while the project file cannot be read")
        } else {
            None
        };
        taken.map_or(Ok(()), |what| Err(format!("`{}` is {what}, and is not overwritten", path.display())))
    }

    /// Checks `path` like [`Context::may_write`], but returns the error as a finding.
    pub(super) fn may_export(&self, path: &Path) -> Result<(), Diagnostic> {
        self.may_write(path).map_err(|why| Diagnostic::new(Code::ExportRefused, why))
    }

    /// Checks that edit files may be written to `folder`. The folder must be below the project's folder, must not be
    /// reached through symbolic links, and must be outside the base models, the store and git data.
    ///
    /// # Errors
    /// If `folder` violates one of these rules.
    pub(super) fn may_import(&self, folder: &Path) -> Result<(), Diagnostic> {
        let (place, root) = (self.root.join(folder), canonicalize_lenient(&self.root));
        let what = match self.kept(&Paths::at(&self.root), &place) {
            None if canonicalize_lenient(&place) == root.join(folder) => return Ok(()),
            None => "reached through a symbolic link, which is not followed",
            Some(what) => what,
        };
        let message = format!("`{}` is {what}: nothing was written", folder.display());
        Err(Diagnostic::new(Code::PathOutside, message).help("set the folder of facts with `edits` in corrigenda.toml"))
    }

    /// Checks that a project with the files `names` may be created in `folder`. The folder must be outside the base
    /// model and git data, and no file may be reached through symbolic links.
    ///
    /// # Errors
    /// If `folder` or one of the files violates these rules.
    pub(super) fn may_create_project(
        &self,
        folder: &Path,
        model: Option<&Path>,
        names: &[&str],
    ) -> Result<(), Diagnostic> {
        let (home, base) = (canonicalize_lenient(folder), model.and_then(|model| root(model).ok()));
        let what = if base.is_some_and(|base| home.starts_with(base)) {
            "in the folder of the base model, which is never written to"
        } else if is_in_git(&home) {
            "in the data of a git repository"
        } else if names.iter().any(|name| canonicalize_lenient(&folder.join(name)) != home.join(name)) {
            "a folder with symbolic links, which are not followed"
        } else {
            return Ok(());
        };
        let message = format!("`{}` is {what}: nothing was written", folder.display());
        Err(Diagnostic::new(Code::ProjectExists, message).help("name another folder with `-C DIR`"))
    }

    /// Checks that the store may be in `folder`, which must not be inside a base model.
    ///
    /// # Errors
    /// If `folder` is inside a base model.
    pub(super) fn may_hold_store(&self, folder: &Path) -> Result<(), Diagnostic> {
        if !in_a_base(&Paths::at(&self.root), &self.root, &canonicalize_lenient(folder)) {
            return Ok(());
        }
        let message = format!("the cache `{}` is in the folder of a base model", folder.display());
        Err(Diagnostic::new(Code::StoreFailed, message)
            .help("name another folder with `--cache-dir DIR` or CORRIGENDA_CACHE_DIR"))
    }

    /// Returns which protected area contains `path`, such as `in the store`; `None` if `path` is in no such area. The
    /// protected areas are git data, the base models and the store.
    fn kept(&self, paths: &Paths, path: &Path) -> Option<&'static str> {
        let whole = canonicalize_lenient(path);
        if is_in_git(&whole) {
            Some("in the data of a git repository")
        } else if in_a_base(paths, &self.root, &whole) {
            Some("in the folder of a base model")
        } else if self.store().is_ok_and(|store| whole.starts_with(canonicalize_lenient(store.root()))) {
            Some("in the store")
        } else {
            None
        }
    }
}

/// Returns whether `path` is a file of the project in `root`: `corrigenda.toml`, `corrigenda.lock`, the probes, a file
/// of accepted failures, or a file in the folder of edits.
fn is_own(paths: &Paths, root: &Path, path: &Path) -> bool {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return false };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // The last component of the path is not resolved, because a write to a symbolic link replaces the link and not its
    // target.
    let (root, resolved) = (canonicalize_lenient(root), canonicalize_lenient(folder).join(name));
    let own = |file: &str| [PROJECT_FILE, LOCK_FILE, PROBES_FILE].contains(&file) || is_accepted_file(file);
    paths.facts.iter().any(|facts| resolved.starts_with(canonicalize_lenient(&root.join(facts))))
        || resolved.strip_prefix(&root).ok().and_then(Path::to_str).is_some_and(own)
}

/// Returns whether a path without symbolic links is inside git's data: in a folder `.git`, or in a bare repository. A
/// working tree inside the folder of a bare repository is not git's data.
fn is_in_git(whole: &Path) -> bool {
    let named = |folder: &&Path| folder.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"));
    let bare = |folder: &Path| {
        folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir()
    };
    let outside = |folder: &&Path| !folder.join(".git").exists();
    whole.ancestors().any(|folder| named(&folder)) || whole.ancestors().take_while(outside).any(bare)
}

/// Returns whether a path without symbolic links is inside the folder of a base model. A project file with errors might
/// not name all base models. In that case, every folder with a `config.json` and `.safetensors` files also counts as a
/// base model.
fn in_a_base(paths: &Paths, project: &Path, whole: &Path) -> bool {
    let inside = |written| root(&protected_folder_in(project, written)).is_ok_and(|root| whole.starts_with(root));
    paths.models.iter().any(|written| inside(written)) || paths.broken && whole.ancestors().any(looks_like_a_model)
}

fn looks_like_a_model(folder: &Path) -> bool {
    let weights = |name: &Path| name.extension().is_some_and(|extension| extension == "safetensors");
    folder.join("config.json").is_file()
        && folder.read_dir().is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|one| weights(&one.path()))))
}
