use schemars::JsonSchema;
use serde::Serialize;

use crate::project::edits::diff::FactChange;

/// The JSON that `log --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct LogAnswer<'a> {
    /// The facts in force at the time of `--as-of`; null without that option.
    pub as_of: Option<FactsInForce<'a>>,
    /// The commits that changed facts or the patch, newest first.
    pub commits: Vec<LoggedCommit<'a>>,
    /// The number of older commits that are not listed because of `--limit`.
    pub more: usize,
}

/// The facts that were in force at the time of `--as-of`, and the commit that contains them.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct FactsInForce<'a> {
    /// The time of `--as-of`, in UTC. It is never null, because this object exists only with `--as-of`.
    pub instant: Option<String>,
    /// The full id of the newest commit that is not later than `instant`.
    pub commit: &'a str,
    /// The committer date of `commit`, in UTC.
    pub date: String,
    /// The id of the patch in the `corrigenda.lock` of `commit`; null if that file is missing or cannot be read.
    pub patch: Option<String>,
    /// Whether the facts in `corrigenda.lock` differ from `facts`, so that the patch is out of date.
    pub unbuilt: bool,
    /// The reason why the edit files of `commit` cannot be read; null if they can be read. If the reason is set,
    /// `facts` are those of the last ancestor whose edit files can be read.
    pub unreadable: Option<&'a str>,
    /// The facts that the edit files of `commit` declare.
    pub facts: Vec<FactInForce<'a>>,
}

/// A fact that was in force at the time of `--as-of`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct FactInForce<'a> {
    /// The id of the fact, as its edit file declares it.
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
    /// The full git object id of the commit.
    pub id: &'a str,
    /// The full ids of the parent commits. The list is empty for the first commit, and for a commit whose parents a
    /// shallow clone lacks.
    pub parents: &'a [String],
    /// The committer date, in UTC.
    pub date: String,
    /// The author date, with the author's UTC offset.
    pub authored: String,
    /// The author's name, as the commit states it.
    pub author: &'a str,
    /// The author's e-mail address, as the commit states it.
    pub email: &'a str,
    /// The first paragraph of the commit message, joined to one line.
    pub summary: &'a str,
    /// The whole commit message, including its trailers.
    pub message: &'a str,
    /// The trailers of the commit message, such as `Reviewed-by: NAME`, in their order.
    pub trailers: Vec<Trailer<'a>>,
    /// Whether the repository is a shallow clone that lacks the parents of this commit.
    pub cut: bool,
    /// The reason why the edit files of the commit cannot be read; null if they can be read.
    pub unreadable: Option<&'a str>,
    /// The facts that the commit added, changed or removed.
    pub facts: &'a [FactChange],
    /// The id of the patch in the commit's `corrigenda.lock`; null if that file is missing or cannot be read.
    pub patch: Option<String>,
    /// The id of the patch in the first parent's `corrigenda.lock`; null if there is no such file, or if it cannot be
    /// read.
    pub patch_before: Option<String>,
    /// Whether the commit has a `corrigenda.lock` that can be read.
    pub lock: CommittedLock,
}

/// A trailer of a commit message: a line `NAME: VALUE` at the end of the message.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Trailer<'a> {
    /// The name of the trailer, such as `Reviewed-by`.
    pub name: &'a str,
    /// The text after the name and the colon.
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
