//! What can go wrong while a checkpoint is read or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::build::{Stop, StopKind};
use crate::patch::PatchError;
use crate::project::{Code, Diagnostic, Sources};
use crate::safetensors::{Dtype, HeaderError};
use crate::store::StoreError;

/// A checkpoint that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The operating system refused.
    #[error("{operation} `{}` failed: {source}", path.display())]
    Io {
        /// What was being done: `reading`, `writing` …
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something stands where the export should.
    #[error("`{}` is {what}: an export needs a new name, or an empty folder", path.display())]
    Taken {
        /// The destination.
        path: PathBuf,
        /// What stands there.
        what: &'static str,
    },
    /// What should hold the export is no folder, and none can be made there.
    #[error("`{}` cannot be made: `{}` is no folder, or lies in something that is none", path.display(), parent.display())]
    NoParent {
        /// The destination.
        path: PathBuf,
        /// What should hold it.
        parent: PathBuf,
    },
    /// The destination is part of something that is only read.
    #[error("`{}` lies in {what}, where nothing is written: name another place", path.display())]
    Inside {
        /// The destination.
        path: PathBuf,
        /// `the base model` or `the store`.
        what: &'static str,
    },
    /// Files of a folder that are not followed or not copied.
    #[error("`{}` holds what is not copied: {}", folder.display(), said(names))]
    Refused {
        /// The folder.
        folder: PathBuf,
        /// Names, each with its reason.
        names: Vec<(String, String)>,
    },
    /// A weights file without a sound header.
    #[error("`{}`: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// No weights.
    #[error("`{}` holds no weights (model.safetensors, or model-*.safetensors)", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A tensor of which there is not exactly one.
    #[error("the patch changes `{parameter}`, which stands in {count} of the base's weights files, not in one")]
    NotOnce {
        /// The tensor.
        parameter: String,
        /// In how many files it stands.
        count: usize,
    },
    /// A tensor stored in a type that is not written yet.
    #[error("`{parameter}` is stored as {found}; this version lays patches on F32 only")]
    Dtype {
        /// The tensor.
        parameter: String,
        /// Its type.
        found: Dtype,
    },
    /// A patch of no edits, which no adapter can say.
    #[error("the patch is of no edits: an adapter of nothing has no rank, and no program loads one")]
    Empty,
    /// A weight that no module of the model has.
    #[error(
        "the patch changes `{parameter}`, which is no second MLP matrix of this model: no adapter can be made of it"
    )]
    NoModule {
        /// The weight.
        parameter: String,
    },
    /// A family that the other program does not know.
    #[error("llama.cpp knows no architecture `{family}`: there is no GGUF adapter for it")]
    NoArchitecture {
        /// The family.
        family: &'static str,
    },
    /// The patch does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A file could not be hashed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that no export writes.
    #[error("`{}` is larger than an adapter can be", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// What was written is not what was meant.
    #[error("`{file}` was read back and is not what was written ({what}): nothing was exported; check the disk")]
    Differs {
        /// The file.
        file: String,
        /// The part that differs.
        what: String,
    },
    /// The base changed while it was read.
    #[error(
        "`{file}` of the base changed while it was read: nothing was exported; try again when nothing writes to it"
    )]
    Changed {
        /// The file.
        file: String,
    },
}

fn said(names: &[(String, String)]) -> String {
    names.iter().map(|(name, why)| format!("`{name}` {why}")).collect::<Vec<_>>().join(", ")
}

impl ExportError {
    /// Wraps an error of the system, for use in `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Whether it is that the patch was made for another base.
    pub fn is_another_base(&self) -> bool {
        use PatchError::{BaseDigest, BaseDtype, BaseShape, NoParameter};
        let differs =
            matches!(self, Self::Patch(BaseDigest { .. } | BaseDtype { .. } | BaseShape { .. } | NoParameter { .. }));
        differs || matches!(self, Self::NotOnce { count: 0, .. })
    }

    /// The error as a finding, with what to do about it.
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
            Self::Empty => finding.help("what it gives is the base itself; `corrigenda export checkpoint` copies that"),
            Self::NoArchitecture { .. } => finding.help(
                "write a checkpoint with `corrigenda export checkpoint`, or an adapter for transformers with \
                 `corrigenda export peft`",
            ),
            Self::Refused { .. } => finding.help(
                "links are followed inside the folder, and inside the `models--*` folder of a Hugging Face cache: put \
                 the files themselves there, or take them away",
            ),
            Self::Patch(PatchError::BaseDtype { .. }) => finding
                .help("it may be the same model, converted: a patch fits only the very bytes that it was made for"),
            _ if self.is_another_base() => {
                finding.help("the patch was made for another base: `corrigenda build` makes one for this")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                finding.help("a checkpoint takes as much space as its base: free some, or name a place on another disk")
            }
            _ => finding,
        }
    }
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Self {
        let kind = if error.is_another_base() { StopKind::Stale } else { StopKind::Wrong };
        Self { kind, findings: vec![error.finding()], sources: Sources::default() }
    }
}
