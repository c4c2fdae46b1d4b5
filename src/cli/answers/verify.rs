//! Defines the answer of `verify`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::verify::Check;

/// The answer of `verify`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct VerifyAnswer<'a> {
    /// What was verified: project, patch, checkpoint, adapter or rebuild.
    pub kind: &'static str,
    /// The checks, in the order of the report.
    pub checks: Vec<CheckResult<'a>>,
    /// The number of checks that did not pass.
    pub failures: usize,
    /// How to repair the failures, mostly commands.
    pub repair: &'a [String],
    /// Values of this kind of verification: digests of the base and the patch, and the tensors and edits of a patch.
    #[serde(flatten)]
    pub fields: &'a Value,
}

/// A check and its result.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct CheckResult<'a> {
    /// The state of the check: ok, wrong, stale or unknown.
    pub state: String,
    /// The group of similar checks to which the check belongs.
    pub group: &'static str,
    /// What was checked.
    pub name: &'a str,
    /// The result, as a sentence.
    pub said: &'a str,
    /// More lines about the result.
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
