//! Defines the errors of reading and writing an export, and their diagnostics with help lines.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Diagnostic, Failure, FailureKind, Sources};
use crate::patch::PatchError;

use crate::safetensors::{Dtype, FileError, HeaderError};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{operation} `{}` failed: {source}", path.display())]
    Io {
        /// The operation that failed, such as `reading` or `writing`.
        operation: &'static str,
        /// The file or folder that the operation accessed.
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{}` is {what}: an export needs a new name, or an empty folder", path.display())]
    Taken {
        path: PathBuf,
        /// What exists at the path, such as `a file`.
        what: &'static str,
    },
    #[error("`{}` cannot be created: `{}` is not a folder and cannot be created", path.display(), parent.display())]
    NoParent { path: PathBuf, parent: PathBuf },
    #[error("`{}` is inside {what}, where exports are not written: name another place", path.display())]
    Inside {
        path: PathBuf,
        /// What contains the path: `the base model` or `the store`.
        what: &'static str,
    },
    #[error("`{}` contains entries that cannot be exported: {}", folder.display(), said(names))]
    Refused {
        folder: PathBuf,
        /// The names of the entries of `folder` that cannot be exported, each with the reason.
        names: Vec<(String, String)>,
    },
    #[error("`{}`: {source}", path.display())]
    Header { path: PathBuf, source: HeaderError },
    #[error("`{}` holds no weights (model.safetensors, or model-*.safetensors)", folder.display())]
    NoWeights { folder: PathBuf },
    #[error("the patch changes `{parameter}`, which is in {count} of the base's weights files; expected exactly one")]
    NotOnce {
        parameter: String,
        /// The number of weights files that contain the tensor: 0, or more than 1.
        count: usize,
    },
    #[error("`{parameter}` is stored as {found}: patches are applied to F32, F16 and BF16")]
    Dtype {
        parameter: String,
        /// The element type of the tensor in the base.
        found: Dtype,
    },
    #[error("the patch has no edits: an adapter of rank 0 cannot be loaded")]
    Empty,
    #[error(
        "the patch changes `{parameter}`, which is not an MLP down-projection of this model: an adapter cannot \
         represent it"
    )]
    NoModule { parameter: String },
    #[error("llama.cpp does not support the architecture `{family}`: a GGUF adapter cannot be written")]
    NoArchitecture {
        /// The architecture, from `model_type` in `config.json`.
        family: &'static str,
    },
    /// The patch does not fit the base, or a patched weight would be infinite or NaN.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A file could not be hashed or synced.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{}` is larger than an adapter can be", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{file}` was read back and differs from what was written ({what}): nothing was exported; check the disk")]
    Differs {
        /// The file name in the export.
        file: String,
        /// The part of the file that differs, such as `its header` or a tensor name.
        what: String,
    },
    #[error(
        "`{file}` of the base changed while it was read: nothing was exported; try again when nothing writes to it"
    )]
    Changed { file: String },
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

    /// Converts an error of opening the weights file at `path` to an error that contains the path.
    pub(crate) fn weights(path: &Path, error: FileError) -> Self {
        match error {
            FileError::Read(source) => Self::io("reading", path)(source),
            FileError::Header(source) => Self::Header { path: path.to_owned(), source },
        }
    }

    /// Returns whether the error shows that the patch was made for a different base.
    pub fn is_another_base(&self) -> bool {
        use PatchError::{BaseDigest, BaseDtype, BaseShape, NoParameter};
        let differs =
            matches!(self, Self::Patch(BaseDigest { .. } | BaseDtype { .. } | BaseShape { .. } | NoParameter { .. }));
        differs || matches!(self, Self::NotOnce { count: 0, .. })
    }

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
