//! Implements `build`: compiles the edits that are not in the store, links all edits into a patch, and shows the
//! changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::answers::NamedBase;
use crate::cli::answers::build::{
    BuildAnswer, BuiltEdit, BuiltPatch, LockChange, LockState, ScoredText, UsedStatistics,
};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Failure, escape_controls};
use crate::pipeline::record::{AnswerRecord, EditRecord, TensorRecord};
use crate::pipeline::{BuildOptions, Built, build, provenance};
use crate::project::{ChangeKind, Edit, EditChange, LOCK_FILE, Project};
use crate::report::Outcome;
use crate::report::table;
use crate::report::table::{Table, bytes, percent, plural, thousands};

/// Compile the edits into a patch, show what changed, and write corrigenda.lock.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Fail with exit code 3 instead of changing corrigenda.lock; all base files are read again
    #[arg(long, conflicts_with = "update_base")]
    locked: bool,
    /// Accept a base model that differs from the one in corrigenda.lock
    #[arg(long)]
    update_base: bool,
    /// Write an unsigned in-toto statement with SLSA provenance to this file: it records what the patch was built from
    #[arg(long, value_name = "FILE")]
    provenance: Option<PathBuf>,
    /// The URI of the builder in the provenance statement
    #[arg(long, value_name = "URI", requires = "provenance", default_value = provenance::BUILDER)]
    builder: String,
}

impl Arguments {
    /// Returns the output that cannot be written for several models at once: `a provenance statement` with
    /// `--provenance`, otherwise `None`.
    pub(super) fn alone(&self) -> Option<&'static str> {
        self.provenance.as_ref().map(|_| "a provenance statement")
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    let options = BuildOptions { isa: context.isa, locked: arguments.locked, update_base: arguments.update_base };
    let finished = check_provenance(context, arguments)
        .and_then(|()| build(&project, &store, options, &context.ui))
        .and_then(|built| write_provenance(arguments, &project, &built).map(|()| built));
    match finished {
        Ok(built) => {
            match context.format {
                Format::Json => json_answer(context, &project, &built),
                _ => {
                    context.ui.findings(&built.warnings, &project.edits.sources);
                    context.ui.answer(&human(&project, &built, context.ui.width()));
                }
            }
            Outcome::Ok
        }
        Err(stop) => context.stop(&stop),
    }
}

/// Rejects a path of `--provenance` that must not be overwritten. The check comes before the build, so that a long
/// build does not fail at its end.
fn check_provenance(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Some(path) = &arguments.provenance else { return Ok(()) };
    context.may_export(path)?;
    provenance::check(path, &arguments.builder)
}

fn write_provenance(arguments: &Arguments, project: &Project, built: &Built) -> Result<(), Failure> {
    let Some(path) = &arguments.provenance else { return Ok(()) };
    let statement = provenance::statement(project, &built.lock, &arguments.builder)?;
    Ok(provenance::write(path, &statement)?)
}

/// An edit, one name of its subject, and the measurements of the build for that name.
struct NamedRecord<'p> {
    edit: &'p Edit,
    /// The alias; `None` for the subject's own name.
    alias: Option<&'p str>,
    record: &'p EditRecord,
}

/// Returns one element for each edit and each name of its subject, ordered by edit id. The subject's own name comes
/// before its aliases.
fn by_id<'p>(project: &'p Project, built: &'p Built) -> Vec<NamedRecord<'p>> {
    // The map has a measurement for every edit and every name of its subject, so the `filter_map` below removes none.
    let records: BTreeMap<_, _> = built.record.edits.iter().map(|record| (record.meaning, record)).collect();
    let named = |edit: &'p Edit| {
        let found = edit.names().map(|(name, _)| (name, records.get(&edit.meaning_of(name)))).collect::<Vec<_>>();
        let named = found.into_iter().filter_map(move |(name, record)| {
            let alias = (name != edit.subject).then_some(name);
            Some(NamedRecord { edit, alias, record: record.copied()? })
        });
        named.collect::<Vec<_>>()
    };
    project.edits.edits.iter().flat_map(named).collect()
}

/// The minimum width of the terminal, in characters, at which the table of edits has all its columns.
const ROOMY: usize = 112;

fn sign(changes: &[EditChange], id: &str) -> &'static str {
    changes.iter().find(|change| change.id == id).map_or(" ", |change| change.kind.sign())
}

fn human(project: &Project, built: &Built, width: usize) -> String {
    let record = &built.record;
    let mut head = Table::new(&[1], &[]);
    head.row(["base", &format!("{}  {}", built.base, built.lock.base.digest.short())]);
    for statistics in &built.lock.statistics {
        let keys = thousands(statistics.count);
        let ridge = if record.statistics_ridge > 0.0 {
            format!(", ridge {:e} of the mean diagonal", record.statistics_ridge)
        } else {
            String::new()
        };
        head.row(["stats", &format!("layer {}, {keys} keys{ridge}  {}", statistics.layer, statistics.digest.short())]);
    }
    let mut edits = Table::new(&[1, 2, 4], &[3, 5, 6, 7]);
    // A narrow terminal has no space for the last two columns, `‖Δ‖` and `kept`.
    let columns = if width < ROOMY { 6 } else { 8 };
    let names = ["", "edit", "new answer", "before → after", "old answer", "before → after", "‖Δ‖", "kept"];
    edits.row(&names[..columns]);
    for named in by_id(project, built) {
        let sign = if named.alias.is_some() { " " } else { sign(&built.changes, &named.edit.id) };
        edits.row(&edit_row(sign, &named)[..columns]);
    }
    for change in built.changes.iter().filter(|change| change.kind == ChangeKind::Removed) {
        edits.row(["-", &change.id]);
    }
    let tensors: String = record.tensors.iter().map(|one| tensor(one, width)).collect();
    let mut tail = Table::new(&[], &[]);
    let size = format!("({}, {})", plural(project.edits.edits.len(), "edit"), bytes(record.size));
    if width < ROOMY {
        tail.row(["patch", &record.patch.to_string()]);
        tail.row(["", &size]);
    } else {
        tail.row(["patch", &format!("{} {size}", record.patch)]);
    }
    tail.row(["lock", &lock_line(built)]);
    let verdict = verdict(project, built);
    let (head, tail) = (head.render(width), tail.render(usize::MAX));
    // If there are no edits, the table is omitted, because it would have only a header.
    let edits = if edits.is_empty() { String::new() } else { edits.render(width) + "\n" };
    format!("{head}\n{edits}{tensors}{tail}{verdict}")
}

fn edit_row(sign: &str, NamedRecord { edit, alias, record }: &NamedRecord<'_>) -> [String; 8] {
    let change = |answer: &AnswerRecord| table::change(answer.before, answer.after);
    let was = record.was.as_ref();
    [
        sign.to_owned(),
        alias.map_or_else(|| edit.id.clone(), |alias| format!("  as {alias}")),
        edit.target.trim().to_owned(),
        change(&record.target),
        edit.was.as_deref().unwrap_or_default().trim().to_owned(),
        was.map(change).unwrap_or_default(),
        format!("{:.3}", record.norm),
        percent(record.surviving.min(1.0)),
    ]
}

fn tensor(tensor: &TensorRecord, width: usize) -> String {
    let seam = if width < ROOMY { "\n       " } else { "  " };
    format!(
        "tensor {}{seam}{} → {}  ‖Δ‖/‖W‖ {:.4}, {} of ‖Δ‖ kept\n",
        escape_controls(&tensor.name),
        tensor.before.short(),
        tensor.after.short(),
        tensor.relative,
        percent(tensor.surviving.min(1.0)),
    )
}

fn lock_line(built: &Built) -> String {
    if !built.written {
        return format!("{LOCK_FILE} unchanged");
    }
    let count = |kind| built.changes.iter().filter(|change| change.kind == kind).count();
    let counts = [(ChangeKind::Added, "added"), (ChangeKind::Changed, "changed"), (ChangeKind::Removed, "removed")];
    let said: Vec<String> = counts
        .into_iter()
        .map(|(kind, word)| (count(kind), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let edits = if said.is_empty() { "no edit changed".to_owned() } else { said.join(", ") };
    let changes =
        [vec![edits], built.changed_inputs.iter().map(|part| format!("new {part}")).collect()].concat().join(", ");
    format!("{LOCK_FILE} written: {changes}")
}

/// Returns a sentence that lists the edits whose target the patched model does not give; empty if there are none.
fn verdict(project: &Project, built: &Built) -> String {
    let fails: Vec<NamedRecord<'_>> =
        by_id(project, built).into_iter().filter(|named| !named.record.target.holds).collect();
    let mut ids: Vec<&str> = fails.iter().map(|named| named.edit.id.as_str()).collect();
    // An edit that fails under several names of its subject is listed once.
    ids.dedup();
    if ids.is_empty() {
        return String::new();
    }
    let label = |named: &NamedRecord<'_>| named.edit.label(named.alias.unwrap_or(&named.edit.subject));
    // `--bisect` finds edits that break other edits, so it is not suggested if there is only one edit.
    let bisect = match project.edits.edits.len() {
        1 => "",
        _ => "; `corrigenda test --bisect` names the edits that break others",
    };
    format!(
        "\n{} of {} {} not hold: {}{bisect}\n",
        ids.len(),
        plural(project.edits.edits.len(), "edit"),
        if ids.len() == 1 { "does" } else { "do" },
        fails.iter().map(label).collect::<Vec<_>>().join(", "),
    )
}

fn json_answer(context: &Context, project: &Project, built: &Built) {
    let (record, sources) = (&built.record, &project.edits.sources);
    let statistics = built.lock.statistics.iter().map(|one| UsedStatistics {
        layer: one.layer,
        digest: one.digest,
        corpus: one.corpus,
        keys: one.count,
        ridge: record.statistics_ridge,
    });
    let removed = built.changes.iter().filter(|change| change.kind == ChangeKind::Removed);
    let answer = BuildAnswer {
        base: NamedBase { name: built.base.clone(), digest: built.lock.base.digest.to_string() },
        layer: built.layer,
        statistics: statistics.collect(),
        edits: by_id(project, built).iter().map(|named| built_edit(project, built, named)).collect(),
        removed: removed.map(|change| change.id.as_str()).collect(),
        tensors: &record.tensors,
        patch: BuiltPatch { id: record.patch, size: record.size },
        holding: record.edits.iter().filter(|record| record.target.holds).count(),
        compiled: built.compiled,
        lock: if built.written { LockState::Written } else { LockState::Unchanged },
    };
    context.answer_json(Outcome::Ok, &built.warnings, sources, answer);
}

fn built_edit<'p>(project: &'p Project, built: &Built, named: &NamedRecord<'p>) -> BuiltEdit<'p> {
    let (NamedRecord { edit, alias, record }, sources) = (named, &project.edits.sources);
    BuiltEdit {
        id: &edit.id,
        alias: *alias,
        file: sources.path(edit.spans.file),
        line: sources.position(edit.spans.file, edit.spans.id.start).line,
        change: LockChange::of(&built.changes, &edit.id),
        meaning: record.meaning,
        target: ScoredText::new(&edit.target, &record.target),
        was: edit.was.as_ref().zip(record.was.as_ref()).map(|(text, record)| ScoredText::new(text, record)),
        norm: record.norm,
        surviving: record.surviving,
    }
}
