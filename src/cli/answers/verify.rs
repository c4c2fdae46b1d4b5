use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::verify::Check;

/// The JSON that `verify --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct VerifyAnswer<'a> {
    /// What was verified: `project`, `patch`, `checkpoint`, `adapter` or `rebuild`.
    pub kind: &'static str,
    /// The results of all checks, in the order in which they are printed.
    pub checks: Vec<CheckResult<'a>>,
    /// The number of checks whose `state` is not `ok`.
    pub failures: usize,
    /// How to repair the failures, one command or sentence per element.
    pub repair: &'a [String],
    /// Fields that depend on `kind`, such as the digests of the base and the patch, or the tensors and edits of a
    /// patch.
    #[serde(flatten)]
    pub fields: &'a Value,
}

/// The result of one comparison that `verify` made, for example of a file or a tensor.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct CheckResult<'a> {
    /// The result in one word: `ok`, `wrong`, `stale` (a new build is needed) or `unknown` (the check could not be
    /// made).
    pub state: String,
    /// The kind of the checked item, such as `file`, `tensor` or `object`.
    pub group: &'static str,
    /// The name of the checked item, such as a file name or a short digest.
    pub name: &'a str,
    /// The result in a few words, such as `as exported` or `missing`.
    pub said: &'a str,
    /// Further lines about the result, such as the expected and the found digest.
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
