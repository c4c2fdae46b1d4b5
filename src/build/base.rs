//! The base model of a project, and the digests that name it.

use std::path::{Path, PathBuf};

use super::Stop;
use crate::digest::{Canon, Digest};
use crate::home;
use crate::model::hub::{self, HubError, HubName, Snapshot};
use crate::model::remark::{Kind, Remark};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Isa;
use crate::patch::{Patch, PatchError, materialise};
use crate::plain::resolved;
use crate::project::{Code, Diagnostic, LockedBase, LockedFile, Project};
use crate::store::{Store, StoreError, memo};

/// An opened base.
pub struct Base {
    /// The model.
    pub model: Model,
    /// Its tokenizer.
    pub tokens: Tokens,
    /// Its files and their digests.
    pub locked: LockedBase,
    /// The folder, from where the program runs.
    pub folder: PathBuf,
    /// What a person should know of it.
    pub warnings: Vec<Diagnostic>,
}

impl Base {
    /// Opens the base that `project` names and digests its files: through the store's memo, or by reading them anew
    /// where `fresh`.
    ///
    /// # Errors
    /// The model is missing or malformed, or a file cannot be read.
    pub fn open(project: &Project, store: &Store, isa: Isa, fresh: bool) -> Result<Self, Stop> {
        let opened = folder_of(project).and_then(|folder| {
            check_apart(project, &folder)?;
            Self::at(&folder, store, isa, fresh)
        });
        let opened = opened.map(|mut base| {
            base.warnings = base.warnings.into_iter().map(|warning| point(project, warning)).collect();
            base
        });
        opened.map_err(|finding| Stop::wrong(vec![point(project, finding)], &project.edits.sources))
    }

    /// Opens the base in a folder that no project names.
    ///
    /// # Errors
    /// As [`Base::open`]: a finding without a place.
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

    /// The name that people know the base by: its folder's, or that on the Hub with its commit.
    pub fn name(&self) -> String {
        if let Some(name) = HubName::of_snapshot(&self.folder) {
            return name.to_string();
        }
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        folder.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether the Hub knows the base by its name: it lies in the Hub's cache.
    pub fn is_of_hub(&self) -> bool {
        HubName::of_snapshot(&self.folder).is_some()
    }

    /// Refuses NaN and infinity in the weight and the bias that an edit of `layer` meets.
    ///
    /// # Errors
    /// The first number that is not finite.
    pub fn check_finite(&self, project: &Project, layer: usize) -> Result<(), Stop> {
        let checkpoint = self.model.checkpoint();
        let edited = [Some(checkpoint.edited(layer)), checkpoint.edited_bias(layer)];
        let checked = edited.into_iter().flatten().try_for_each(|tensor| checkpoint.check_finite(tensor));
        let stop = |error| Stop::wrong(vec![point(project, unusable(&error))], &project.edits.sources);
        checked.map_err(stop)
    }

    /// The base with a patch laid on: the rounded weights.
    ///
    /// # Errors
    /// The patch is for another base, or a weight would not be finite.
    pub fn patched(&self, patch: &Patch) -> Result<Model, PatchError> {
        let mut model = self.model.clone();
        for (parameter, target) in patch.targets() {
            let checkpoint = self.model.checkpoint();
            let named = |layer: &usize| checkpoint.edited(*layer).name == *parameter;
            let layer = (0..self.model.spec().layers).find(named);
            let layer = layer.ok_or_else(|| PatchError::NoParameter { parameter: parameter.clone() })?;
            let weight = checkpoint.edited(layer);
            let shape: Vec<u64> = weight.shape.iter().map(|side| *side as u64).collect();
            target.check_base(parameter, weight.stored.into(), &shape, &weight.digest())?;
            model = model.with_edited(layer, materialise(parameter, target, &weight.wide())?);
        }
        Ok(model)
    }
}

/// Refuses a project inside its base: what is built is written beside the project file, and nothing into a base.
fn check_apart(project: &Project, folder: &Path) -> Result<(), Diagnostic> {
    match hub::root(folder).is_ok_and(|base| resolved(&project.config.root).starts_with(base)) {
        false => Ok(()),
        true => Err(Diagnostic::new(Code::ModelUnusable, "the project lies in the folder of its base model")
            .help("nothing is written to a base: move corrigenda.toml and the facts into a folder of their own")),
    }
}

fn locked_file(store: &Store, folder: &Path, name: String, fresh: bool) -> Result<LockedFile, StoreError> {
    let path = folder.join(&name);
    let digest = if fresh { memo::digest_file_fresh(&path)? } else { memo::digest_file(store, &path)? };
    let size = std::fs::metadata(&path).map(|metadata| metadata.len());
    let size = size.map_err(|source| StoreError::Io { operation: "reading", path, source })?;
    Ok(LockedFile { path: name, size, digest })
}

/// The digest of a table of files: names and contents.
fn digest_of(files: &[LockedFile]) -> Digest {
    let mut canon = Canon::new("base/1");
    canon.number("files", files.len() as u64);
    for file in files {
        canon.text("path", &file.path).number("size", file.size).digest("digest", &file.digest);
    }
    canon.finish()
}

/// The folder of the base that a project names: a path from the project's folder, or a name on the Hub, which is
/// looked up in the Hugging Face cache that the environment says.
///
/// # Errors
/// The name is none, or the cache does not have it: the help is the command that fetches it.
pub fn folder_of(project: &Project) -> Result<PathBuf, Diagnostic> {
    place(&project.config.root, &project.config.model.path)
}

fn place(root: &Path, written: &Path) -> Result<PathBuf, Diagnostic> {
    match HubName::is(written) {
        true => folder_named(written),
        false => there(written, root.join(home::expanded(written))).map_err(|finding| finding.help(FROM_PROJECT)),
    }
}

/// How a path of a project is read.
const FROM_PROJECT: &str = "`[model] path` in corrigenda.toml is taken from the folder of corrigenda.toml";

/// The folder that a person wrote, unless it is not there and the name of a model on the Hub may be meant.
fn there(written: &Path, folder: PathBuf) -> Result<PathBuf, Diagnostic> {
    match HubName::meant(written).filter(|_| folder.symlink_metadata().is_err()) {
        None => Ok(folder),
        Some(name) => {
            let error = ModelError::NoFolder(folder);
            let help = format!("if a model of the Hugging Face Hub is meant, write `{}`", name.written());
            Err(Diagnostic::new(Code::ModelUnusable, error.to_string()).help(help))
        }
    }
}

/// The same where a folder that is not there is an answer too: the name as it is written.
pub fn place_of(project: &Project) -> PathBuf {
    place_in(&project.config.root, &project.config.model.path)
}

/// The place of a model that the project in `root` names: where nothing is written to.
pub fn place_in(root: &Path, written: &Path) -> PathBuf {
    place(root, written).unwrap_or_else(|_| root.join(home::expanded(written)))
}

/// The folder that a person names: a path, or a name on the Hub.
///
/// # Errors
/// As [`folder_of`].
pub fn folder_named(name: &Path) -> Result<PathBuf, Diagnostic> {
    match HubName::is(name) {
        true => snapshot(&name.to_string_lossy()).map(|snapshot| snapshot.folder),
        false => there(name, home::expanded(name)),
    }
}

/// The snapshot of a name on the Hub.
fn snapshot(name: &str) -> Result<Snapshot, Diagnostic> {
    let cache = hub::cache(|name| std::env::var_os(name)).ok_or(HubError::NoCache);
    let found = name.parse::<HubName>().and_then(|name| name.locate(&cache?));
    found.map_err(|error| {
        let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
        match error.command() {
            Some(command) => finding.help(format!("nothing is fetched here; to have it in the cache: `{command}`")),
            None => finding,
        }
    })
}

/// A snapshot that lacks a file was fetched in part.
fn missing_of_snapshot(folder: &Path, finding: Diagnostic) -> Diagnostic {
    let whole = ["config.json", "tokenizer.json", "model.safetensors"].iter().all(|name| folder.join(name).is_file());
    match HubName::of_snapshot(folder).filter(|_| !whole) {
        Some(name) => finding.help(format!("to have all of it in the cache: `{}`", name.command())),
        None => finding,
    }
}

/// What is wrong with a model, and what to do.
fn unusable(error: &ModelError) -> Diagnostic {
    let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
    match error.hint() {
        Some(hint) => finding.help(hint),
        None => finding,
    }
}

/// A remark as a finding.
fn warning(remark: Remark) -> Diagnostic {
    let code = match remark.kind {
        Kind::TensorsUnread => Code::TensorsUnread,
        Kind::ArchitectureDiffers => Code::ArchitectureDiffers,
        Kind::AdapterUnread => Code::AdapterUnread,
        Kind::HeadRounded => Code::HeadRounded,
        Kind::TextsEnded => Code::TextsEnded,
    };
    Diagnostic::new(code, remark.message).help(remark.help)
}

/// A finding at the place where the project names the model.
fn point(project: &Project, finding: Diagnostic) -> Diagnostic {
    finding.at(project.config.file, &project.config.model.span, "the base model")
}
