//! Defines the answer of `verify`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::verify::Check;

/// The answer of `verify`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct VerifyAnswer<'a> {
    /// The object of the verification: project, patch, checkpoint, adapter or rebuild.
    pub kind: &'static str,
    /// The checks, in the order of the report.
    pub checks: Vec<CheckResult<'a>>,
    /// The number of checks that did not pass.
    pub failures: usize,
    /// How to repair the failures: commands or sentences.
    pub repair: &'a [String],
    /// Fields that depend on `kind`: digests of the base and the patch, and the tensors and edits of a patch.
    #[serde(flatten)]
    pub fields: &'a Value,
}

/// A check and its result.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct CheckResult<'a> {
    /// The result in one word: ok, wrong, stale or unknown.
    pub state: String,
    /// The group of similar checks to which the check belongs.
    pub group: &'static str,
    /// The file, tensor or entry that was checked.
    pub name: &'a str,
    /// The result, as a sentence.
    pub said: &'a str,
    /// Further lines about the result, such as the values that were expected and found.
    pub details: &'a [String],
}

impl<'a> From<&'a Check> for CheckResult<'a> {
    fn from(check: &'a Check) -> Self {
        Self {
            state: check.state.as_str().to_lowercase(),
            group: check.group,
            name: &check.name,
            said: &check.summary,
            details: &check.details,
        }
    }
}
