//! Opens the base model of a project, and computes the digests of its files.

use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::{Digest, FieldHasher};
use crate::home;
use crate::model::load::hub;
use crate::model::load::hub::{HubError, HubName, Snapshot};
use crate::model::load::remark::{Remark, RemarkKind};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Isa;
use crate::patch::{Patch, PatchError, materialise};
use crate::project::{LockedBase, LockedFile, Project};
use crate::regular_file::canonicalize_lenient;
use crate::store::{Store, StoreError, memo};

/// The model that a project edits, with its tokenizer and the digests of its files.
pub struct Base {
    pub model: Model,
    pub tokens: Tokens,
    /// The files of the model with their sizes and digests, as `corrigenda.lock` records them.
    pub locked: LockedBase,
    /// The folder of the model: an absolute path, or a path relative to the working directory.
    pub folder: PathBuf,
    /// Warnings about the model, for example about tensors that are not read.
    pub warnings: Vec<Diagnostic>,
}

impl Base {
    /// Opens the base model that `project` names, and computes the digests of its files. If `fresh` is true, every file
    /// is read and hashed. Otherwise the digest of a file whose metadata is unchanged is taken from the store.
    ///
    /// # Errors
    /// If the model is missing or malformed, if a file cannot be read, or if the project is inside the folder of the
    /// model.
    pub fn open(project: &Project, store: &Store, isa: Isa, fresh: bool) -> Result<Self, Failure> {
        let opened = folder_of(project).and_then(|folder| {
            check_apart(project, &folder)?;
            Self::at(&folder, store, isa, fresh)
        });
        let opened = opened.map(|mut base| {
            base.warnings = base.warnings.into_iter().map(|warning| point(project, warning)).collect();
            base
        });
        opened.map_err(|finding| Failure::from(point(project, finding)).with_sources(&project.edits.sources))
    }

    /// Opens the model in `folder`, without a project. If `fresh` is true, every file is read and hashed. Otherwise the
    /// digest of a file whose metadata is unchanged is taken from the store.
    ///
    /// # Errors
    /// If the model is missing or malformed, or a file cannot be read.
    pub fn at(folder: &Path, store: &Store, isa: Isa, fresh: bool) -> Result<Self, Diagnostic> {
        let unusable = |error: ModelError| missing_of_snapshot(folder, unusable(&error));
        let model = Model::open(folder, isa).map_err(unusable)?;
        let tokens = Tokens::open(folder, model.spec().vocabulary).map_err(unusable)?;
        let digested = model.checkpoint().files().into_iter().map(|name| locked_file(store, folder, name, fresh));
        let files: Vec<LockedFile> = digested
            .collect::<Result<_, _>>()
            .map_err(|error| Diagnostic::new(Code::ModelUnusable, error.to_string()))?;
        let locked = LockedBase { digest: digest_of(&files), files };
        let remarks = model.checkpoint().remarks().iter().cloned().chain(tokens.remark());
        let warnings = remarks.map(warning).collect();
        Ok(Self { model, tokens, locked, folder: folder.to_owned(), warnings })
    }

    /// Returns the name of the model. For a snapshot in the Hugging Face cache, this is the name on the Hub with the
    /// commit. For any other folder, it is the last part of the path.
    pub fn name(&self) -> String {
        if let Some(name) = HubName::of_snapshot(&self.folder) {
            return name.to_string();
        }
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        folder.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned())
    }

    /// Returns whether the model's folder is a snapshot in the Hugging Face cache. If so, [`Base::name`] is the name on
    /// the Hub.
    pub fn is_of_hub(&self) -> bool {
        HubName::of_snapshot(&self.folder).is_some()
    }

    /// Checks that the weight and the bias of the MLP down-projection of `layer` contain no NaN and no infinity.
    ///
    /// # Errors
    /// If a number is NaN or infinite; the error names only the first one.
    pub fn check_finite(&self, project: &Project, layer: usize) -> Result<(), Failure> {
        let checkpoint = self.model.checkpoint();
        let edited = [Some(checkpoint.edited(layer)), checkpoint.edited_bias(layer)];
        let checked = edited.into_iter().flatten().try_for_each(|tensor| checkpoint.check_finite(tensor));
        let stop = |error| Failure::from(point(project, unusable(&error))).with_sources(&project.edits.sources);
        checked.map_err(stop)
    }

    /// Returns the model with the patch applied; the patched weights are rounded to the dtype of the checkpoint.
    ///
    /// # Errors
    /// If the patch was built for another base model, or a patched weight is not finite.
    pub fn patched(&self, patch: &Patch) -> Result<Model, PatchError> {
        let mut model = self.model.clone();
        for (parameter, target) in patch.targets() {
            let checkpoint = self.model.checkpoint();
            let named = |layer: &usize| checkpoint.edited(*layer).name == *parameter;
            let layer = (0..self.model.spec().layers).find(named);
            let layer = layer.ok_or_else(|| PatchError::NoParameter { parameter: parameter.clone() })?;
            let weight = checkpoint.edited(layer);
            let shape: Vec<u64> = weight.shape.iter().map(|side| *side as u64).collect();
            target.check_base(parameter, weight.dtype.into(), &shape, &weight.digest())?;
            model = model.with_edited(layer, materialise(parameter, target, &weight.to_f32())?);
        }
        Ok(model)
    }
}

/// Rejects a project whose folder is inside the folder of its base model. A build writes `corrigenda.lock` into the
/// folder of the project, and no command may write into the folder of a base model.
fn check_apart(project: &Project, folder: &Path) -> Result<(), Diagnostic> {
    if hub::root(folder).is_ok_and(|base| canonicalize_lenient(&project.config.root).starts_with(base)) {
        return Err(Diagnostic::new(Code::ModelUnusable, "the project is in the folder of its base model")
            .help("move corrigenda.toml and the facts to another folder: nothing is written to a base"));
    }
    Ok(())
}

fn locked_file(store: &Store, folder: &Path, name: String, fresh: bool) -> Result<LockedFile, StoreError> {
    let path = folder.join(&name);
    let digest = if fresh { memo::digest_file_fresh(&path)? } else { memo::digest_file(store, &path)? };
    let size = std::fs::metadata(&path).map(|metadata| metadata.len());
    let size = size.map_err(|source| StoreError::Io { operation: "reading", path, source })?;
    Ok(LockedFile { path: name, size, digest })
}

/// Computes one digest over the path, the size and the content digest of every file of the base model.
fn digest_of(files: &[LockedFile]) -> Digest {
    let mut hasher = FieldHasher::new("base/1");
    hasher.number("files", files.len() as u64);
    for file in files {
        hasher.text("path", &file.path).number("size", file.size).digest("digest", &file.digest);
    }
    hasher.finish()
}

/// Returns the folder of the base model of a project. `[model] path` in `corrigenda.toml` is a path relative to the
/// folder of the project, or a name on the Hugging Face Hub. For a name on the Hub, the folder is the one in the local
/// Hugging Face cache.
///
/// # Errors
/// If a name on the Hub is malformed or not in the cache, or if a path does not exist and looks like a name on the Hub.
pub fn folder_of(project: &Project) -> Result<PathBuf, Diagnostic> {
    locate(&project.config.root, &project.config.model.path)
}

fn locate(root: &Path, written: &Path) -> Result<PathBuf, Diagnostic> {
    if HubName::is(written) {
        return folder_named(written);
    }
    existing_or_hub_hint(written, root.join(home::expand(written))).map_err(|finding| finding.help(FROM_PROJECT))
}

const FROM_PROJECT: &str = "`[model] path` in corrigenda.toml is relative to the folder of corrigenda.toml";

/// Returns `folder`. If `folder` does not exist and `written` looks like a name on the Hugging Face Hub, returns an
/// error with the help to write this name in the form `hf:ORG/NAME`. `written` is the location of the model as the user
/// wrote it.
fn existing_or_hub_hint(written: &Path, folder: PathBuf) -> Result<PathBuf, Diagnostic> {
    match HubName::meant(written).filter(|_| folder.symlink_metadata().is_err()) {
        None => Ok(folder),
        Some(name) => {
            let error = ModelError::NoFolder(folder);
            let help = format!("to name a model of the Hugging Face Hub, write `{}`", name.written());
            Err(Diagnostic::new(Code::ModelUnusable, error.to_string()).help(help))
        }
    }
}

/// Returns the folder of the project's base model; no command may write into this folder. If [`folder_of`] fails,
/// returns the path in `corrigenda.toml`, joined to the folder of the project.
pub fn protected_folder(project: &Project) -> PathBuf {
    protected_folder_in(&project.config.root, &project.config.model.path)
}

/// Returns the folder of a base model; no command may write into this folder. `written` is the `[model] path` in a
/// `corrigenda.toml`, and `root` is the folder of this file. If the model is not found, returns `written` joined to
/// `root`.
pub fn protected_folder_in(root: &Path, written: &Path) -> PathBuf {
    locate(root, written).unwrap_or_else(|_| root.join(home::expand(written)))
}

/// Returns the folder of a model. `name` is the path of the model, or its name on the Hugging Face Hub, as the user
/// wrote it on the command line.
///
/// # Errors
/// As for [`folder_of`].
pub fn folder_named(name: &Path) -> Result<PathBuf, Diagnostic> {
    if HubName::is(name) {
        return snapshot(&name.to_string_lossy()).map(|snapshot| snapshot.folder);
    }
    existing_or_hub_hint(name, home::expand(name))
}

/// Finds a model of the Hugging Face Hub in the local cache; nothing is downloaded.
fn snapshot(name: &str) -> Result<Snapshot, Diagnostic> {
    let cache = hub::cache(|variable| std::env::var_os(variable)).ok_or(HubError::NoCache);
    let found = name.parse::<HubName>().and_then(|name| name.locate(&cache?));
    found.map_err(|error| {
        let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
        match error.command() {
            Some(command) => finding
                .help(format!("nothing is downloaded automatically; to download it into the cache, run `{command}`")),
            None => finding,
        }
    })
}

/// If `folder` is a snapshot in the Hugging Face cache and lacks a file, adds the download command to the help of
/// `finding`.
fn missing_of_snapshot(folder: &Path, finding: Diagnostic) -> Diagnostic {
    let whole = ["config.json", "tokenizer.json", "model.safetensors"].iter().all(|name| folder.join(name).is_file());
    match HubName::of_snapshot(folder).filter(|_| !whole) {
        Some(name) => finding.help(format!("to download all of it into the cache, run `{}`", name.command())),
        None => finding,
    }
}

fn unusable(error: &ModelError) -> Diagnostic {
    let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
    match error.hint() {
        Some(hint) => finding.help(hint),
        None => finding,
    }
}

fn warning(remark: Remark) -> Diagnostic {
    let code = match remark.kind {
        RemarkKind::TensorsUnread => Code::TensorsUnread,
        RemarkKind::ArchitectureDiffers => Code::ArchitectureDiffers,
        RemarkKind::AdapterUnread => Code::AdapterUnread,
        RemarkKind::HeadRounded => Code::HeadRounded,
        RemarkKind::TextsEnded => Code::TextsEnded,
    };
    Diagnostic::new(code, remark.message).help(remark.help)
}

/// Adds the location of `[model] path` in `corrigenda.toml` to a finding.
fn point(project: &Project, finding: Diagnostic) -> Diagnostic {
    finding.at(project.config.file, &project.config.model.span, "the base model")
}
