//! Opens one side of a comparison by its name.
//!
//! A name is `base`, `worktree`, a git revision, a patch id, or the folder of a project or a checkpoint. Both sides
//! must have the base model of the project in the working directory.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::behaviour::cache::MeasurementCache;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::Digest;
use crate::history::{Commit, HistoryError, Repository};
use crate::model::Model;
use crate::patch::Patch;
use crate::pipeline::obtain_patch::{ObtainedPatch, obtain};
use crate::pipeline::patch_ref;
use crate::pipeline::patch_ref::MIN_ID_DIGITS;
use crate::pipeline::{Base, locked_patch};
use crate::progress::Progress;
use crate::project::{LOCK_FILE, PROBES_FILE, PROJECT_FILE, Paths, Prefaces, Project};
use crate::report::SideKind;
use crate::store::{EntryKind, Store};

/// The name on the command line for the base model without a patch.
pub const BASE: &str = "base";
/// The name on the command line for the project in the working directory.
pub const WORKTREE: &str = "worktree";

/// The inputs for opening the sides of a comparison: the project in the working directory, its base model, and the
/// store.
#[derive(Clone, Copy)]
pub struct DiffContext<'a> {
    /// The project in the working directory, whose prompts are run if neither side has a project.
    pub project: &'a Project,
    /// The base model of `project`, to which the patch of every side is applied.
    pub base: &'a Base,
    pub store: &'a Store,
    /// Receives the progress of long computations, for example if the patch of a side must be built.
    pub progress: &'a dyn Progress,
}

/// One side of a comparison: a model, with its project and its patch if it has them.
pub struct Side {
    /// The name of the side, as the user wrote it on the command line.
    pub name: String,
    pub kind: SideKind,
    /// The commit of a side that is a git revision; `None` for any other side.
    pub commit: Option<Commit>,
    /// The project with its edits and probes; `None` for the base model, a patch and a checkpoint.
    pub project: Option<Project>,
    /// The patch and its id; `None` for the base model and a checkpoint.
    pub patch: Option<(Digest, Patch)>,
    /// The base model with the patch applied, or the model of the checkpoint.
    pub model: Model,
    /// A note for the report if the patch is not the one that the project's `corrigenda.lock` names; `None` otherwise.
    pub note: Option<String>,
    /// The prefaces of the edits (texts that are put before prompts to keep the subjects away from attention sinks);
    /// empty without a project.
    pub prefaces: Prefaces,
}

/// The identity of a side's model in the cache of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The base model with the patch that has this id; `None` is the base model without a patch.
    Patch(Option<Digest>),
    /// A checkpoint, whose weights have no digest. Its measurements are not cached.
    Unknown,
}

impl Side {
    /// Opens a side by its name. A name that starts with a dot or a slash is a folder. For any other name, a git
    /// revision takes precedence over a patch, and a patch over a folder.
    ///
    /// # Errors
    /// If the name is unknown, or the patch cannot be applied to the base model.
    pub fn find(name: &str, context: DiffContext<'_>) -> Result<Self, Failure> {
        match name {
            BASE => return Ok(Self::without_project(name, SideKind::Base, context.base.model.clone())),
            WORKTREE => return Self::of_project(name, SideKind::Worktree, context.project.clone(), context),
            _ => {}
        }
        if name.starts_with(['.', '/']) || Path::new(name).is_absolute() {
            return Self::folder(name, context);
        }
        if let Some(digits) = name.strip_prefix("sha256:") {
            return Self::patch(name, &patch_id(digits, context.store)?.ok_or_else(|| unknown_patch(name))?, context);
        }
        let discovered = Repository::discover(&context.project.config.root);
        let resolved = discovered.and_then(|repository| repository.resolve(name).map(|commit| (repository, commit)));
        match resolved {
            Ok((repository, commit)) => Self::revision(name, &repository, commit, context),
            Err(error) => match patch_id(name, context.store)? {
                Some(id) => Self::patch(name, &id, context),
                None if Path::new(name).is_dir() => Self::folder(name, context),
                None => Err(unknown(name, &error)),
            },
        }
    }

    fn without_project(name: &str, kind: SideKind, model: Model) -> Self {
        let name = name.to_owned();
        Self { name, kind, commit: None, project: None, patch: None, model, note: None, prefaces: Prefaces::default() }
    }

    fn of_project(name: &str, kind: SideKind, project: Project, context: DiffContext<'_>) -> Result<Self, Failure> {
        let ObtainedPatch { patch, id, note, prefaces } =
            obtain(&project, name, context.base, context.store, context.progress)?;
        let model = apply_patch(context.base, &patch, &project.edits.sources)?;
        let patch = Some((id, patch));
        Ok(Self { project: Some(project), patch, note, prefaces, ..Self::without_project(name, kind, model) })
    }

    /// Opens the project in another folder as a side of the comparison. The base model of this project must be the same
    /// as that of the project in the working directory.
    fn other_project(name: &str, mut project: Project, context: DiffContext<'_>) -> Result<Self, Failure> {
        choose_worktree_model(&mut project, name, context)?;
        let base = Base::open(&project, context.store, context.base.model.isa(), false)?;
        if base.locked.digest != context.base.locked.digest {
            let message = format!("the base model of `{name}` is not the one of the worktree");
            let finding = Diagnostic::new(Code::BaseChanged, message).help(
                "both sides of a comparison must have the same base; run `diff` in the folder with the right one",
            );
            return Err(Failure::stale(finding).with_sources(&project.edits.sources));
        }
        Self::of_project(name, SideKind::Project, project, context)
    }

    fn patch(name: &str, id: &Digest, context: DiffContext<'_>) -> Result<Self, Failure> {
        if !context.store.path(EntryKind::Patch, id).exists() {
            return Err(unknown_patch(name));
        }
        let patch = locked_patch::patch(context.store, id)?;
        let model = apply_patch(context.base, &patch, &Sources::default())?;
        Ok(Self { patch: Some((*id, patch)), ..Self::without_project(name, SideKind::Patch, model) })
    }

    fn revision(
        name: &str,
        repository: &Repository,
        commit: Commit,
        context: DiffContext<'_>,
    ) -> Result<Self, Failure> {
        let files = project_files(repository, &commit).map_err(|error| history_failure(&error))?;
        let mut project = Project::of_files(&context.project.config.root, &format!("{name}:"), files)?;
        choose_worktree_model(&mut project, name, context)?;
        let side = Self::of_project(name, SideKind::Revision, project, context)?;
        Ok(Self { commit: Some(commit), ..side })
    }

    /// Opens a folder as a project if it contains a project file, or else as a checkpoint.
    fn folder(name: &str, context: DiffContext<'_>) -> Result<Self, Failure> {
        let path = PathBuf::from(name);
        if path.join(PROJECT_FILE).is_file() {
            return Self::other_project(name, Project::load(&path)?, context);
        }
        Self::checkpoint(name, context)
    }

    /// Opens a folder with a model of the same shape as the base.
    ///
    /// # Errors
    /// If the folder has no model that can be opened, or a model of another shape.
    pub fn checkpoint(name: &str, context: DiffContext<'_>) -> Result<Self, Failure> {
        let path = PathBuf::from(name);
        let wrong = |message: String| {
            let finding = Diagnostic::new(Code::SideUnusable, message);
            Failure::from(finding.help("give a folder with a corrigenda.toml, or one with a model's config.json"))
        };
        if !path.join("config.json").is_file() {
            if path.join(PROJECT_FILE).is_file() {
                let finding = Diagnostic::new(Code::SideUnusable, format!("`{name}` is a project, not a model"));
                return Err(Failure::from(
                    finding.help("give the folder of a model: `corrigenda export checkpoint` writes one"),
                ));
            }
            let what = if path.is_dir() { "contains neither a project nor a model" } else { "is not a folder" };
            return Err(wrong(format!("`{name}` {what}")));
        }
        let model = Model::open(&path, context.base.model.isa()).map_err(|error| wrong(error.to_string()))?;
        if model.spec() != context.base.model.spec() {
            return Err(wrong(format!("the model in `{name}` has another shape than the base")));
        }
        Ok(Self::without_project(name, SideKind::Checkpoint, model))
    }

    pub fn identity(&self) -> Identity {
        match (&self.patch, self.kind) {
            (Some((id, _)), _) => Identity::Patch(Some(*id)),
            (None, SideKind::Base) => Identity::Patch(None),
            _ => Identity::Unknown,
        }
    }

    /// Returns the cache for the measurements of this side of a comparison. The cache is disabled for a checkpoint,
    /// whose weights have no digest.
    pub fn cache<'g>(&self, context: DiffContext<'g>) -> MeasurementCache<'g> {
        match self.identity() {
            Identity::Patch(patch) => MeasurementCache::new(context.store, context.base.locked.digest, patch, None),
            Identity::Unknown => MeasurementCache::disabled(),
        }
    }

    /// Returns the edits of the side's project; empty if the side has no project.
    pub fn edits(&self) -> &[crate::project::Edit] {
        self.project.as_ref().map_or(&[], |project| &project.edits.edits)
    }
}

/// Chooses the model of `project` with the same name as the model that is chosen in the working directory. If `project`
/// has only one model, that model is kept. `name` is the name of the side in messages.
fn choose_worktree_model(project: &mut Project, name: &str, context: DiffContext<'_>) -> Result<(), Failure> {
    project.config.choose_as(&context.project.config).map_err(|mut finding| {
        finding.message = format!("{name}: {}", finding.message);
        Failure::from(finding).with_sources(&project.edits.sources)
    })
}

fn apply_patch(base: &Base, patch: &Patch, sources: &Sources) -> Result<Model, Failure> {
    base.patched(patch).map_err(|error| {
        let finding = Diagnostic::new(Code::SideUnusable, error.to_string());
        Failure::stale(finding.help("both sides of a comparison must have the base of the worktree"))
            .with_sources(sources)
    })
}

/// Reads the files of a project at a commit: `corrigenda.toml`, `corrigenda.lock`, edits, probes and context templates.
fn project_files(repository: &Repository, commit: &Commit) -> Result<BTreeMap<String, Vec<u8>>, HistoryError> {
    let mut files = BTreeMap::new();
    let mut take = |path: &str| -> Result<(), HistoryError> {
        files.extend(repository.file(commit, path)?.map(|bytes| (path.to_owned(), bytes)));
        Ok(())
    };
    for name in [PROJECT_FILE, LOCK_FILE, PROBES_FILE] {
        take(name)?;
    }
    let text = repository.file(commit, PROJECT_FILE)?.unwrap_or_default();
    let Paths { edits, templates, .. } = Paths::of(&String::from_utf8_lossy(&text));
    // A file of context templates outside the repository is not in the commit, so it is read from disk later.
    for path in templates {
        match take(&path) {
            Err(_) if leaves_project(&path) => {}
            taken => taken?,
        }
    }
    files.extend(repository.files(commit, &edits, "toml")?);
    Ok(files)
}

/// Returns whether a path may lead out of the project's folder, that is, whether the path is absolute or contains `..`.
fn leaves_project(path: &str) -> bool {
    Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Returns the patch id that `digits` abbreviates. A complete id of 64 hexadecimal digits is returned even if the store
/// does not have the patch. Returns `None` if there are fewer than eight digits, or if no id in the store starts with
/// them. Returns an error if several ids do.
fn patch_id(digits: &str, store: &Store) -> Result<Option<Digest>, Failure> {
    match Digest::from_hex(digits) {
        Some(id) => Ok(Some(id)),
        None if patch_ref::is_id_prefix(digits) => patch_ref::find_id(store, digits),
        None => Ok(None),
    }
}

fn unknown_patch(name: &str) -> Failure {
    let finding = Diagnostic::new(Code::PatchMissing, format!("the patch {name} is not in the store")).help(
        "run `corrigenda store ls` to list the patches, or `corrigenda diff REV` to build the patch of a revision",
    );
    Failure::from(finding)
}

/// Returns the error for a name that is not a revision, a patch or a folder.
fn unknown(name: &str, error: &HistoryError) -> Failure {
    let mut finding = error.finding();
    if finding.code == Code::RevisionUnknown {
        finding.message = format!("`{name}` is not a revision, a patch in the store or a folder");
    }
    if (1..MIN_ID_DIGITS).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        finding = finding.help(format!("give at least {MIN_ID_DIGITS} digits of the id of a patch"));
    }
    if let Some((before, after)) =
        name.split_once("..").filter(|(before, after)| !before.is_empty() && !after.is_empty())
    {
        finding.help = vec![format!(
            "give two sides as two arguments: `corrigenda diff {before} {}`",
            after.trim_start_matches('.')
        )];
    }
    if finding.code == Code::HistoryMissing {
        finding = finding.help("without git, run `corrigenda diff base` to compare the project with its base model");
    }
    let known = "a side is `base`, `worktree`, a revision, a patch id, or a folder such as `./base`";
    Failure::from(finding.help(known))
}

fn history_failure(error: &HistoryError) -> Failure {
    Failure::from(error.finding())
}
