//! Defines the answer of `stats build`, `stats show` and `stats import`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::Digest;
use crate::stats::Provenance;

/// The answer of `stats build`, `stats show` and `stats import`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StatisticsAnswer<'a> {
    /// The digest of the statistics' content, which the lock records.
    pub digest: Digest,
    /// The inputs that determine the second moment, such as the model, the layer and the corpus.
    pub provenance: &'a Provenance,
    /// The number of documents that were read; 0 if the statistics were imported.
    pub documents: u64,
    /// The number of MLP keys in the second moment, one per token of the corpus.
    pub keys: u64,
    /// The digest of the imported file; null if the statistics were computed.
    pub imported: Option<Digest>,
    /// The multiple of the identity that is added to the second moment so that it can be factorised, as a share of the
    /// mean diagonal element; 0 if none is needed.
    pub ridge: f64,
    /// The path of the statistics' file in the store.
    pub path: String,
}
