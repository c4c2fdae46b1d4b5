use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::Digest;
use crate::stats::Provenance;

/// The JSON that `stats build`, `stats show` and `stats import` print with `--format json`, without the fields that all
/// commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct StatisticsAnswer<'a> {
    /// The digest of the stored second moment, which `corrigenda.lock` names.
    pub digest: Digest,
    /// The inputs that determine the second moment, such as the base model, the layer and the corpus.
    pub provenance: &'a Provenance,
    /// The number of documents of the corpus that were read; 0 if the second moment was imported.
    pub documents: u64,
    /// The number of MLP keys in the second moment, one per token that was read from the corpus.
    pub keys: u64,
    /// The digest of the imported file; null if the second moment was computed from the corpus.
    pub imported: Option<Digest>,
    /// The ridge: the number that is added to the diagonal of the second moment so that it can be factorised. It is
    /// given as a share of the mean diagonal element, and is 0 if none is needed.
    pub ridge: f64,
    /// The path of the file in the store that contains the second moment.
    pub path: String,
}
