//! Implements `log`: shows from the git history when, by whom and why facts changed.

mod csv;
mod safe_text;

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use crate::cli::answers::log::{CommittedLock, FactInForce, FactsInForce, LogAnswer, LoggedCommit, Trailer};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Sources, most_similar};
use crate::history::{self, Commit, HistoryError, Log, LogEntry, RecordedPatch, Repository, UNSHALLOW};
use crate::project::edits::diff::{FactChange, FieldChange};
use crate::project::edits::edit::PLACEHOLDER;
use crate::project::{ChangeKind, Config, Edit, PROJECT_FILE};
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use safe_text::{brief, shown};

/// Show when, by whom and why facts changed, from the git history
///
/// The history is that of the checked-out commit. The dates are those of the commits, in UTC. A merge shows only what
/// differs from all its parents. `--format csv` writes one row per changed field.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show only this fact; it is followed through changes of its id
    id: Option<String>,
    /// Show the facts in force at this time, and the history up to it. DATE is a day (its end in UTC), or an instant
    /// such as 2026-11-24T12:00:00+02:00. The search follows first parents from the checked-out commit
    #[arg(long, value_name = "DATE", value_parser = instant)]
    as_of: Option<Timestamp>,
    /// Maximum number of commits; by default, all
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

struct LogView<'a> {
    arguments: &'a Arguments,
    /// The newest commit at or before the time of `--as-of`; `None` without that option.
    then: Option<&'a Commit>,
    log: &'a Log,
    /// The number of commits that are not shown because of `--limit`.
    more: usize,
    /// Whether all fields of an added or removed fact are shown. A changed fact is always shown with all fields that
    /// differ.
    all: bool,
}

/// Parses the argument of `--as-of`: an instant, or a day. For a day, returns its last second in UTC, so that all
/// commits of the day are included.
fn instant(text: &str) -> Result<Timestamp, String> {
    let day = || {
        let day: Date = (text.len() <= "2026-11-24".len()).then(|| text.parse().ok()).flatten()?;
        Offset::UTC.to_timestamp(day.at(23, 59, 59, 0)).ok()
    };
    let instant = day().or_else(|| text.parse().ok());
    instant.ok_or_else(|| "expected a day such as 2026-11-24, or an instant such as 2026-11-24T12:00:00Z".to_owned())
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    show_log(context, arguments).unwrap_or_else(|finding| context.fail(finding))
}

fn show_log(context: &Context, arguments: &Arguments) -> Result<Outcome, Diagnostic> {
    let repository = Repository::discover(&context.root).map_err(finding)?;
    let head = repository.resolve("HEAD").map_err(finding)?;
    committed(&repository, &head)?;
    let then = match arguments.as_of {
        None => None,
        Some(instant) => Some(at(&repository, &head, instant)?),
    };
    let model = chosen(context)?;
    let mut log = history::log::log(&repository, then.as_ref().unwrap_or(&head), model.as_deref()).map_err(finding)?;
    if let Some(id) = &arguments.id {
        log = known(&log, id).map(|()| log.follow(id))?;
    }
    let most = arguments.limit.map_or(usize::MAX, NonZeroUsize::get);
    let more = log.entries.len().saturating_sub(most);
    log.entries.truncate(most);
    let all = arguments.id.is_some() || context.ui.verbose();
    let view = LogView { arguments, then: then.as_ref(), log: &log, more, all };
    let warnings: Vec<Diagnostic> = repository.is_shallow().then(shallow).into_iter().collect();
    match context.format {
        Format::Json => context.answer_json(Outcome::Ok, &warnings, &Sources::default(), view.answer()),
        Format::Csv => {
            context.ui.findings(&warnings, &Sources::default());
            context.ui.raw(&csv::rows(&log));
        }
        _ => {
            context.ui.findings(&warnings, &Sources::default());
            context.ui.answer(&view.human(context.ui.width()));
        }
    }
    Ok(Outcome::Ok)
}

/// Returns the name of the model whose patches are shown: the selected model, or else the only model of the project.
/// Returns `None` if this model has no name, or if no model is selected and the project file is invalid.
fn chosen(context: &Context) -> Result<Option<String>, Diagnostic> {
    // The history can be shown even if the project file on disk is invalid.
    let Ok((mut config, ..)) = Config::load(&context.root) else { return Ok(context.selected_model()) };
    config.choose(context.selected_model().as_deref())?;
    Ok(config.model.name)
}

fn finding(error: HistoryError) -> Diagnostic {
    error.finding()
}

fn shallow() -> Diagnostic {
    let message = "the clone is shallow: the facts of its oldest commit may be older than this commit";
    Diagnostic::new(Code::HistoryShallow, message).help(UNSHALLOW)
}

/// Returns an error if the project file is not in the commit `head`.
fn committed(repository: &Repository, head: &Commit) -> Result<(), Diagnostic> {
    if repository.file(head, PROJECT_FILE).map_err(finding)?.is_some() {
        return Ok(());
    }
    let message = format!("the checked-out commit {} has no {PROJECT_FILE} in this folder", head.short());
    let finding = Diagnostic::new(Code::HistoryMissing, message);
    Err(finding.help("commit the project, or name its folder with `-C DIR`"))
}

/// Follows the first parents from `head`, and returns the first commit that was made at or before `instant`. If there
/// is no such commit, returns an error.
fn at(repository: &Repository, head: &Commit, instant: Timestamp) -> Result<Commit, Diagnostic> {
    history::log::as_of(repository, head, instant).map_err(finding)?.ok_or_else(|| {
        let finding = Diagnostic::new(Code::HistoryMissing, format!("the history begins after {instant}"));
        finding.help(if repository.is_shallow() { UNSHALLOW } else { "name a later time" })
    })
}

/// Returns an error if no fact in the history has or had the id `id`. The error suggests the most similar id.
fn known(log: &Log, id: &str) -> Result<(), Diagnostic> {
    let ids = log.ids();
    if ids.contains(id) {
        return Ok(());
    }
    let finding = Diagnostic::new(Code::UnknownId, format!("no fact in the history has the id `{id}`"));
    let otherwise = "run `corrigenda log` to list all facts; a fact that is not committed has no history";
    Err(finding.suggest(most_similar(id, ids), otherwise))
}

fn day(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).date().to_string()
}

/// Formats the patch that a commit's `corrigenda.lock` names, or says that this file is missing or cannot be read.
fn locked(patch: &RecordedPatch) -> String {
    match patch {
        RecordedPatch::Unlocked => "no lock".to_owned(),
        RecordedPatch::Unreadable => "the lock cannot be read".to_owned(),
        RecordedPatch::Patch(id) => format!("patch {}", id.short()),
    }
}

// In this block, results of `write!` are ignored, because writing to a `String` cannot fail.
impl LogView<'_> {
    fn human(&self, width: usize) -> String {
        let mut out = String::new();
        if let Some(commit) = self.then {
            self.in_force(&mut out, commit, width);
        }
        for entry in &self.log.entries {
            if !out.is_empty() {
                out.push('\n');
            }
            self.entry(&mut out, entry);
        }
        if self.log.entries.is_empty() {
            out.push_str(if self.then.is_some() {
                "\nNo commit up to then changes a fact."
            } else {
                "No commit changes a fact."
            });
        }
        if self.more > 0 {
            let _ = write!(out, "\nand {}", plural(self.more, "older commit"));
        }
        out
    }

    fn in_force(&self, out: &mut String, commit: &Commit, width: usize) {
        let when = self.arguments.as_of.map_or_else(String::new, |instant| instant.to_string());
        let patch = locked(&self.log.patch);
        let unbuilt = if self.log.unbuilt { ", which was not built from these facts" } else { "" };
        let _ = writeln!(out, "in force at {when}: {} of {}, {patch}{unbuilt}", commit.short(), day(commit.time));
        if let Some(why) = &self.log.unreadable {
            let _ = writeln!(out, "{}; these are the facts of its last ancestor that can be read", shown(why));
        }
        let mut table = Table::new(&[1], &[]);
        for edit in &self.log.facts.edits {
            let prompt = edit.prompt.replacen(PLACEHOLDER, &edit.subject, 1);
            table.row([
                format!("  {}", shown(&edit.id)),
                format!("{} → {}", shown(prompt.trim()), shown(edit.target.trim())),
            ]);
        }
        out.push_str(&table.render(width));
        if self.log.facts.edits.is_empty() {
            out.push_str("  no facts\n");
        }
    }

    fn entry(&self, out: &mut String, entry: &LogEntry) {
        let LogEntry { commit, facts, unreadable, patch, .. } = entry;
        let (author, summary) = (brief(&commit.author), brief(&commit.summary));
        let _ = writeln!(out, "{}  {}  {author}  {summary}", commit.short(), day(commit.time));
        for (name, value) in &commit.trailers {
            let _ = writeln!(out, "    {}: {}", brief(name), brief(value));
        }
        if commit.is_shallow_boundary {
            let _ = writeln!(out, "    the clone ends here: the facts below may be older");
        }
        if let Some(why) = unreadable {
            let _ = writeln!(out, "    {}", shown(why));
        }
        for fact in facts {
            self.fact(out, fact);
        }
        let _ = writeln!(out, "    {}", locked(patch));
    }

    fn fact(&self, out: &mut String, fact: &FactChange) {
        let changed = fact.change == ChangeKind::Changed;
        let brief = if changed || self.all { String::new() } else { format!("  {}", shown(&sentence(fact))) };
        let _ = writeln!(out, "  {} {}{brief}", fact.change.sign(), shown(&fact.id));
        let why = |field: &&FieldChange| changed || self.all || ["reason", "source"].contains(&field.name.as_str());
        for field in fact.fields.iter().filter(why) {
            let name = &field.name;
            let _ = match (field.before.as_slice(), field.after.as_slice()) {
                ([], [after]) if !changed => writeln!(out, "      {name}: {}", shown(after)),
                ([before], []) if !changed => writeln!(out, "      {name}: {}", shown(before)),
                ([before], [after]) => writeln!(out, "      {name}: {} → {}", shown(before), shown(after)),
                (before, after) => writeln!(out, "      {name}:{}", list(before, after)),
            };
        }
    }

    fn answer(&self) -> LogAnswer<'_> {
        LogAnswer {
            as_of: self.then.map(|commit| self.facts_in_force(commit)),
            commits: self.log.entries.iter().map(logged_commit).collect(),
            more: self.more,
        }
    }

    fn facts_in_force<'l>(&'l self, commit: &'l Commit) -> FactsInForce<'l> {
        let fact = |edit: &'l Edit| FactInForce {
            id: &edit.id,
            subject: &edit.subject,
            prompt: &edit.prompt,
            target: &edit.target,
        };
        FactsInForce {
            instant: self.arguments.as_of.map(|instant| instant.to_string()),
            commit: &commit.id,
            date: commit.time.to_string(),
            patch: self.log.patch.id().map(ToString::to_string),
            unbuilt: self.log.unbuilt,
            unreadable: self.log.unreadable.as_deref(),
            facts: self.log.facts.edits.iter().map(fact).collect(),
        }
    }
}

fn logged_commit(entry: &LogEntry) -> LoggedCommit<'_> {
    let LogEntry { commit, facts, unreadable, before, patch } = entry;
    LoggedCommit {
        id: &commit.id,
        parents: &commit.parents,
        date: commit.time.to_string(),
        authored: commit.authored.display_with_offset(commit.offset).to_string(),
        author: &commit.author,
        email: &commit.email,
        summary: &commit.summary,
        message: &commit.message,
        trailers: commit.trailers.iter().map(|(name, value)| Trailer { name, value }).collect(),
        cut: commit.is_shallow_boundary,
        unreadable: unreadable.as_deref(),
        facts,
        patch: patch.id().map(ToString::to_string),
        patch_before: before.id().map(ToString::to_string),
        lock: match patch {
            RecordedPatch::Unlocked => CommittedLock::Missing,
            RecordedPatch::Unreadable => CommittedLock::Unreadable,
            RecordedPatch::Patch(_) => CommittedLock::Present,
        },
    }
}

/// Formats an added or removed fact: its prompt with the subject filled in, an arrow, and its target.
fn sentence(fact: &FactChange) -> String {
    let text = |name: &str| {
        let field = fact.fields.iter().find(|field| field.name == name)?;
        field.after.first().or(field.before.first()).map(String::as_str)
    };
    let [subject, prompt, target] = ["subject", "prompt", "target"].map(|name| text(name).unwrap_or_default());
    format!("{} → {}", prompt.replacen(PLACEHOLDER, subject, 1).trim(), target.trim())
}

/// Formats the change of a list field: first the removed texts, then the added texts, one per line. If only the order
/// of the texts changed, the result is ` in another order`.
fn list(before: &[String], after: &[String]) -> String {
    let line = |sign: &str, text: &String| format!("\n        {sign} {}", shown(text));
    let lost = before.iter().filter(|text| !after.contains(text)).map(|text| line("-", text));
    let gained = after.iter().filter(|text| !before.contains(text)).map(|text| line("+", text));
    let lines: String = lost.chain(gained).collect();
    if lines.is_empty() { " in another order".to_owned() } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants() {
        let read = |text: &str| instant(text).map(|instant| instant.to_string());
        assert_eq!(read("2026-11-24").as_deref(), Ok("2026-11-24T23:59:59Z"));
        assert_eq!(read("2026-11-24T12:00:00+02:00").as_deref(), Ok("2026-11-24T10:00:00Z"));
        for odd in ["", "2026-11-31", "2026-11-24T12:00:00", "24.11.2026", "yesterday", "9999-12-31T00:00:00-99:00"] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn lists_show_removed_and_added_texts() {
        let texts = |texts: &str| texts.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(list(&texts("a b"), &texts("b c")), "\n        - a\n        + c");
        assert_eq!(list(&texts("a b"), &texts("b a")), " in another order");
    }
}
