//! Defines the two orientations in which files store the weight of a linear map.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The orientation in which a file stores a weight matrix: `[out, in]` or `[in, out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[out, in]`, as in `torch.nn.Linear`.
    Linear,
    /// `[in, out]`, as in the `Conv1D` of GPT-2.
    Conv1d,
}
