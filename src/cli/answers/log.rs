//! Defines the answer of `log`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::project::edits::diff::FactChange;

/// The answer of `log`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct LogAnswer<'a> {
    /// The facts in force at the time of `--as-of`; null without that option.
    pub as_of: Option<FactsInForce<'a>>,
    /// The commits that changed facts or the patch, newest first.
    pub commits: Vec<LoggedCommit<'a>>,
    /// The number of older commits that `--limit` left out.
    pub more: usize,
}

/// The facts that were in force at a time.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct FactsInForce<'a> {
    /// The time of `--as-of`, in UTC.
    pub instant: Option<String>,
    /// The newest commit at that time.
    pub commit: &'a str,
    /// The committer's time of `commit`, in UTC.
    pub date: String,
    /// The id of the patch in the commit's `corrigenda.lock`; null if the lock names none.
    pub patch: Option<String>,
    /// Whether the lock lists facts that differ from those in force, so that the patch is out of date.
    pub unbuilt: bool,
    /// Why the facts of the commit cannot be read; null if they can. The facts are then those of an ancestor.
    pub unreadable: Option<&'a str>,
    /// The facts that the edit files of the commit declare.
    pub facts: Vec<FactInForce<'a>>,
}

/// A fact that was in force at the time of `--as-of`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct FactInForce<'a> {
    /// The id of the fact.
    pub id: &'a str,
    /// The entity that the fact is about.
    pub subject: &'a str,
    /// The sentence up to the answer, with `{}` in place of the subject.
    pub prompt: &'a str,
    /// The answer that the model should give.
    pub target: &'a str,
}

/// A commit that changed facts or the patch.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct LoggedCommit<'a> {
    /// The full id of the commit.
    pub id: &'a str,
    /// The ids of the parent commits.
    pub parents: &'a [String],
    /// The committer's time, in UTC.
    pub date: String,
    /// The author's time with the author's offset.
    pub authored: String,
    /// The name of the author.
    pub author: &'a str,
    /// The author's e-mail address.
    pub email: &'a str,
    /// The first paragraph of the message, on one line.
    pub summary: &'a str,
    /// The whole message.
    pub message: &'a str,
    /// The trailers of the message, such as `Reviewed-by: NAME`, in their order.
    pub trailers: Vec<Trailer<'a>>,
    /// Whether the commit has parents that a shallow clone lacks.
    pub cut: bool,
    /// Why the edits of the commit cannot be read; null if they can.
    pub unreadable: Option<&'a str>,
    /// The facts that the commit added, changed or removed.
    pub facts: &'a [FactChange],
    /// The id of the patch in the commit's `corrigenda.lock`; null if the lock names none.
    pub patch: Option<String>,
    /// The id of the patch in the first parent's `corrigenda.lock`; null if there was none.
    pub patch_before: Option<String>,
    /// Whether the commit has a `corrigenda.lock` that can be read.
    pub lock: CommittedLock,
}

/// A trailer of a commit message.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Trailer<'a> {
    /// The name of the trailer, such as Reviewed-by.
    pub name: &'a str,
    /// The text after the trailer's name and colon.
    pub value: &'a str,
}

/// Whether a commit has a `corrigenda.lock` that can be read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum CommittedLock {
    /// The commit has no `corrigenda.lock`.
    Missing,
    /// The commit's `corrigenda.lock` cannot be read.
    Unreadable,
    /// The commit's `corrigenda.lock` names a patch.
    Present,
}
