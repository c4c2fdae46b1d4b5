//! The patch: what an edit set changes in a model.

use serde::{Deserialize, Serialize};

/// How a file stores the weight of a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[outputs, inputs]`.
    Linear,
    /// `[inputs, outputs]`.
    Conv1d,
}
