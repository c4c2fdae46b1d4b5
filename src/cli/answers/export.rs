use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::Digest;
use crate::export::manifest::{ExportManifest, TensorEntry};
use crate::safetensors::Layout;

/// The JSON that `export checkpoint` and `patch apply` print with `--format json`, without the fields that all commands
/// print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct CheckpointAnswer<'a> {
    /// The path of the new folder with the checkpoint.
    pub path: String,
    /// The content of the manifest that the export writes to the folder.
    pub manifest: &'a ExportManifest,
    /// The files and subfolders of the base that were not copied.
    pub omitted: OmittedFiles<'a>,
}

/// The files and subfolders of a base that an export does not copy, by reason.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OmittedFiles<'a> {
    /// Pickle files, which can run code when a program loads them.
    pub pickles: &'a [String],
    /// Weights in formats other than the base's own, such as `*.gguf`, which the patch does not change.
    pub weights: &'a [String],
    /// Subfolders of the base's folder. An export copies only files.
    pub folders: &'a [String],
}

/// The JSON that `export peft --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PeftAnswer<'a> {
    /// The path of the new folder with the adapter.
    pub path: String,
    /// The content of the manifest that the export writes to the folder.
    pub manifest: &'a ExportManifest,
    /// The rank of the adapter, which is the same for every module.
    pub rank: usize,
    /// Notes on how to use the adapter, one sentence each.
    pub notes: &'a [String],
}

/// The JSON that `export gguf --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct GgufAnswer<'a> {
    /// The path of the new GGUF file.
    pub path: String,
    /// The digest of the bytes of the GGUF file.
    pub digest: Digest,
    /// The size of the GGUF file in bytes.
    pub size: u64,
    /// The digest of the base model's files.
    pub base: Digest,
    /// The id of the patch that the adapter contains.
    pub patch: Digest,
    /// The name that llama.cpp uses for the architecture of the model, such as `llama`.
    pub architecture: &'static str,
    /// The rank of the adapter, which is the same for every module.
    pub rank: usize,
    /// The tensors of the base that the adapter changes.
    pub tensors: &'a [TensorEntry],
    /// Notes on how to use the adapter, one sentence each.
    pub notes: &'a [String],
}

/// The JSON that `patch show --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PatchAnswer<'a> {
    /// The id of the patch: the digest of its bytes.
    pub id: Digest,
    /// The size of the patch in bytes.
    pub size: u64,
    /// The tensors that the patch changes, with the digests of their bytes in the base.
    pub tensors: Vec<PatchedTensor<'a>>,
    /// The edits that the patch contains. A patch has only the digest of an edit, not its text.
    pub edits: Vec<PatchedEdit>,
}

/// A tensor of the base that a patch changes.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PatchedTensor<'a> {
    /// The name of the tensor in the base.
    pub name: &'a str,
    /// The digest of the tensor's bytes in the base.
    pub base: Digest,
    /// The data type of the tensor's elements in the base, such as `F32`.
    pub dtype: &'static str,
    /// Whether the base stores the matrix as `[out, in]` (linear) or as `[in, out]` (conv1d).
    pub layout: Layout,
    /// The shape of the tensor in the base, `[rows, columns]`.
    pub shape: [u64; 2],
    /// The number of edits that change the tensor.
    pub edits: usize,
    /// The Frobenius norm of the patch's change to the tensor.
    pub norm: f64,
}

/// An edit that a patch contains, with the size of its weight change.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PatchedEdit {
    /// The digest of the edit's subject, prompt, target and `chat`.
    pub meaning: Digest,
    /// The Frobenius norm of the weight change that this edit contributes to the patch.
    pub norm: f64,
}
