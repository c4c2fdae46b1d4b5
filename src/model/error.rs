//! Defines the error type for opening and running models, and the advice that is printed with an error.

use std::path::{Path, PathBuf};

use super::load::storage::SAVE;
use crate::safetensors::{HeaderError, PickleError};

/// The reason why a model cannot be opened or cannot be run on a text, for example an unsupported architecture, a
/// missing tensor, or a text that is longer than the context. [`ModelError::hint`] returns the advice for the user.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants and their fields")]
pub enum ModelError {
    #[error("there is no model folder at {}", .0.display())]
    NoFolder(PathBuf),
    #[error("{} is a file; the model is the folder that holds config.json, model.safetensors and tokenizer.json", .0.display())]
    NotAFolder(PathBuf),
    #[error("the model at {} has no {name}", folder.display())]
    NoFile { folder: PathBuf, name: &'static str },
    #[error("{} is a link that leaves the model's folder", path.display())]
    LinkLeaves { path: PathBuf },
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is {size} bytes long; more than {limit} is refused", path.display())]
    TooLarge { path: PathBuf, size: u64, limit: u64 },
    #[error("{} is not JSON: {source}", path.display())]
    NotJson { path: PathBuf, source: serde_json::Error },
    #[error("{}: `{key}` {problem}", path.display())]
    Config { path: PathBuf, key: String, problem: String },
    #[error("{}: architecture `{found}` is not supported (supported: {supported})", path.display())]
    Architecture { path: PathBuf, found: String, supported: String, part: Option<&'static str> },
    #[error("{}: {found}", path.display())]
    Stored { path: PathBuf, found: String, help: String },
    #[error("{}: the weights are quantised ({method})", path.display())]
    Quantised { path: PathBuf, method: String },
    #[error("{0}")]
    Pickle(#[from] PickleError),
    #[error("{}: {problem}", path.display())]
    Index { path: PathBuf, problem: String },
    #[error("{} names {shard}, which does not exist", index.display())]
    NoShard { index: PathBuf, shard: String },
    #[error("{} assigns `{tensor}` to {shard}, which does not contain it", index.display())]
    NotInShard { index: PathBuf, tensor: String, shard: String },
    #[error("the tensor `{tensor}` is in two files: {} and {}", shards[0], shards[1])]
    Twice { tensor: String, shards: [String; 2] },
    #[error("{}: {source}", path.display())]
    Header { path: PathBuf, source: HeaderError },
    #[error("{} has no tensor `{tensor}`", path.display())]
    NoTensor { path: PathBuf, tensor: String },
    #[error("{}: tensor `{tensor}` has shape {found:?}, but config.json requires {expected:?}", path.display())]
    Shape { path: PathBuf, tensor: String, expected: Vec<u64>, found: Vec<u64> },
    #[error("{}: tensor `{tensor}` is {found}; weights are read in F32, F16 and BF16", path.display())]
    Dtype { path: PathBuf, tensor: String, found: String },
    #[error("{}: tensor `{tensor}` has {value} at element {index} (byte {offset} of the file)", path.display())]
    NotFinite { path: PathBuf, tensor: String, value: f32, index: usize, offset: u64 },
    #[error("{}: the tokenizer cannot be loaded: {problem}", path.display())]
    Tokenizer { path: PathBuf, problem: String },
    #[error("the tokenizer cannot encode {text:?}: {problem}")]
    Encode { text: String, problem: String },
    #[error("the model's output is not finite: its weights overflow")]
    Overflow,
    #[error("the tokenizer gives the id {id} for {text:?}; the model's vocabulary ends at {vocabulary}")]
    Vocabulary { text: String, id: u32, vocabulary: usize },
    #[error("{problem}")]
    Chat { problem: String },
    #[error("layer {layer} does not exist: the model has layers 0 to {last}")]
    NoLayer { layer: usize, last: usize },
    #[error("{text:?} is {tokens} tokens long; the model's context is {limit}")]
    TooLong { text: String, tokens: usize, limit: usize },
}

impl ModelError {
    /// Returns the error for a model in an unsupported storage format. `found` describes the format, and `help` is the
    /// advice for the user.
    pub(super) fn stored(path: &Path, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Stored { path: path.to_owned(), found: found.into(), help: help.into() }
    }

    /// Returns advice on how to fix the error; `None` for errors without advice.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoFolder(_) => "`[model] path` in corrigenda.toml is relative to the folder of that file".into(),
            Self::NoFile { name: "model.safetensors", .. } => {
                format!("only safetensors are read: {SAVE}")
            }
            Self::NoFile { .. } => {
                "a model folder has the layout of the Hugging Face Hub: config.json, model.safetensors, tokenizer.json"
                    .into()
            }
            Self::Stored { help, .. } => help.clone(),
            Self::Quantised { method, .. } if matches!(method.as_str(), "fp8" | "mxfp4") => format!(
                "name the model that it was made from; if it was published only in {method}, write it in bfloat16 \
                 with `AutoModelForCausalLM.from_pretrained(A, \
                 quantization_config={}(dequantize=True)).save_pretrained(B)` of transformers",
                if method == "fp8" { "FineGrainedFP8Config" } else { "Mxfp4Config" }
            ),
            Self::Quantised { .. } => {
                "an edit needs the precision that quantising removed: name the model that it was made from, and \
                 quantise what `corrigenda export checkpoint` writes"
                    .into()
            }
            Self::Dtype { found, .. } if found == "F64" => {
                "save it in float32 with `AutoModelForCausalLM.from_pretrained(A, \
                 dtype=torch.float32).save_pretrained(B)` of transformers"
                    .into()
            }
            Self::Dtype { .. } => {
                "name the model as it was before it was quantised, or save it in float32, float16 or bfloat16".into()
            }
            Self::LinkLeaves { .. } => {
                "copy the file into the folder; only a snapshot of the Hugging Face cache may link to its own blobs"
                    .into()
            }
            Self::NoShard { .. } | Self::NotInShard { .. } | Self::Twice { .. } => {
                "the index and the files are not from the same download: fetch the model again".into()
            }
            Self::Architecture { part: Some(part), .. } => format!(
                "its language part is `{part}`, which is supported: name a folder that contains only that part, with \
                 the names and the config.json of a `{part}` model"
            ),
            Self::Architecture { .. } => {
                "the model's own code is never run: only architectures that are built in can be read".into()
            }
            Self::NotFinite { .. } | Self::Header { .. } => {
                "the file is damaged or was cut short: fetch it again".into()
            }
            Self::Overflow => {
                "the base is damaged, or was saved in a type whose range is too small: fetch it again".into()
            }
            Self::Vocabulary { .. } => "tokenizer.json and config.json do not belong to the same model".into(),
            _ => return None,
        })
    }
}
