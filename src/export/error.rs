//! Defines the errors of reading and writing an export, and converts them to diagnostics with help.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Diagnostic, Failure, FailureKind, Sources};
use crate::patch::PatchError;

use crate::safetensors::{Dtype, FileError, HeaderError};
use crate::store::StoreError;

/// An export that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An I/O operation failed.
    #[error("{operation} `{}` failed: {source}", path.display())]
    Io {
        /// The operation that failed: `reading`, `writing` …
        operation: &'static str,
        /// The file or folder on which it failed.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The destination already exists.
    #[error("`{}` is {what}: an export needs a new name, or an empty folder", path.display())]
    Taken {
        /// The path of the destination.
        path: PathBuf,
        /// What exists there, for example `a file`.
        what: &'static str,
    },
    /// The parent of the destination is not a folder and cannot be created.
    #[error("`{}` cannot be created: `{}` is not a folder and cannot be created", path.display(), parent.display())]
    NoParent {
        /// The path of the destination.
        path: PathBuf,
        /// The parent folder of the destination.
        parent: PathBuf,
    },
    /// The destination lies inside the base model or the store, which an export must not write to.
    #[error("`{}` is inside {what}, where exports are not written: name another place", path.display())]
    Inside {
        /// The path of the destination.
        path: PathBuf,
        /// `the base model` or `the store`.
        what: &'static str,
    },
    /// The folder contains entries that are not copied, for example links out of the folder.
    #[error("`{}` contains entries that cannot be exported: {}", folder.display(), said(names))]
    Refused {
        /// The checkpoint folder that was listed.
        folder: PathBuf,
        /// The names of the entries, each with the reason why it is not copied.
        names: Vec<(String, String)>,
    },
    /// A weights file whose header is invalid.
    #[error("`{}`: {source}", path.display())]
    Header {
        /// The path of the weights file.
        path: PathBuf,
        /// Why the header is invalid.
        source: HeaderError,
    },
    /// The folder contains no weights.
    #[error("`{}` holds no weights (model.safetensors, or model-*.safetensors)", folder.display())]
    NoWeights {
        /// The checkpoint folder that was searched for weights.
        folder: PathBuf,
    },
    /// A tensor that the patch changes is in no weights file, or in more than one.
    #[error("the patch changes `{parameter}`, which is in {count} of the base's weights files; expected exactly one")]
    NotOnce {
        /// The name of the tensor in the patch.
        parameter: String,
        /// The number of weights files that contain it.
        count: usize,
    },
    /// A tensor that the patch changes is stored in a type other than F32, F16 and BF16.
    #[error("`{parameter}` is stored as {found}: patches are applied to F32, F16 and BF16")]
    Dtype {
        /// The name of the tensor in the patch.
        parameter: String,
        /// The element type of the tensor in the base.
        found: Dtype,
    },
    /// The patch has no edits; an adapter cannot represent that.
    #[error("the patch has no edits: an adapter of rank 0 cannot be loaded")]
    Empty,
    /// The patch changes a weight that is not an MLP down-projection of this model.
    #[error(
        "the patch changes `{parameter}`, which is not an MLP down-projection of this model: an adapter cannot \
         represent it"
    )]
    NoModule {
        /// The name of the weight in the patch.
        parameter: String,
    },
    /// llama.cpp does not support the model family.
    #[error("llama.cpp does not support the architecture `{family}`: a GGUF adapter cannot be written")]
    NoArchitecture {
        /// The name of the family, as in `model_type`.
        family: &'static str,
    },
    /// The patch does not fit the base, or a patched weight is not finite.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Hashing or syncing a file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is larger than the limit for adapters.
    #[error("`{}` is larger than an adapter can be", path.display())]
    TooLarge {
        /// The path of the adapter file.
        path: PathBuf,
    },
    /// A written file differs when it is read back.
    #[error("`{file}` was read back and differs from what was written ({what}): nothing was exported; check the disk")]
    Differs {
        /// The file name, relative to the export.
        file: String,
        /// The part that differs, for example a tensor name.
        what: String,
    },
    /// A file of the base changed during the export.
    #[error(
        "`{file}` of the base changed while it was read: nothing was exported; try again when nothing writes to it"
    )]
    Changed {
        /// The file name, relative to the base's folder.
        file: String,
    },
}

fn said(names: &[(String, String)]) -> String {
    names.iter().map(|(name, why)| format!("`{name}` {why}")).collect::<Vec<_>>().join(", ")
}

impl ExportError {
    /// Returns a function for `map_err` that adds the operation and the path to an I/O error.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Adds the path to the error of opening a weights file.
    pub(crate) fn weights(path: &Path, error: FileError) -> Self {
        match error {
            FileError::Read(source) => Self::io("reading", path)(source),
            FileError::Header(source) => Self::Header { path: path.to_owned(), source },
        }
    }

    /// Returns whether the error means that the patch was made for another base.
    pub fn is_another_base(&self) -> bool {
        use PatchError::{BaseDigest, BaseDtype, BaseShape, NoParameter};
        let differs =
            matches!(self, Self::Patch(BaseDigest { .. } | BaseDtype { .. } | BaseShape { .. } | NoParameter { .. }));
        differs || matches!(self, Self::NotOnce { count: 0, .. })
    }

    /// Converts the error into a diagnostic, with help on how to fix it.
    pub fn finding(&self) -> Diagnostic {
        let code = match self {
            Self::Io { .. } | Self::Store(_) | Self::Differs { .. } => Code::StoreFailed,
            Self::Taken { .. }
            | Self::NoParent { .. }
            | Self::Inside { .. }
            | Self::Refused { .. }
            | Self::Empty
            | Self::NoArchitecture { .. } => Code::ExportRefused,
            Self::Header { .. }
            | Self::NoWeights { .. }
            | Self::TooLarge { .. }
            | Self::Changed { .. }
            | Self::Dtype { .. } => Code::CheckpointUnusable,
            Self::Patch(_) | Self::NotOnce { .. } | Self::NoModule { .. } => Code::PatchUnusable,
        };
        let finding = Diagnostic::new(code, self.to_string());
        match self {
            Self::Empty => finding.help("the result is the base itself: run `corrigenda export checkpoint` to copy it"),
            Self::NoArchitecture { .. } => finding.help(
                "write a checkpoint with `corrigenda export checkpoint`, or an adapter for transformers with \
                 `corrigenda export peft`",
            ),
            Self::Refused { .. } => finding.help(
                "replace these entries by regular files, or remove them; links are followed only inside the folder, \
                 and inside the `models--*` folder of a Hugging Face cache",
            ),
            Self::Patch(PatchError::BaseDtype { .. }) => finding.help(
                "it may be the same model, converted: a patch can be applied only to the exact bytes that it was \
                 made for",
            ),
            _ if self.is_another_base() => {
                finding.help("the patch was made for another base: run `corrigenda build` to make one for this base")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                finding.help("a checkpoint takes as much space as its base: free some, or name a place on another disk")
            }
            _ => finding,
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let kind = if error.is_another_base() { FailureKind::Stale } else { FailureKind::Invalid };
        Self { kind, findings: vec![error.finding()], sources: Sources::default() }
    }
}
