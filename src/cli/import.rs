//! Implements `import`: writes the records of a published dataset as edit files of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cli::answers::project::{ImportAnswer, LeftOutEntry, RejectedEntry};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::project::{Config, files_of};
use crate::regular_file::canonicalize_lenient;
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use crate::research::bench::data::{Case, DataError, Dataset, RejectedRecord, for_each_record};
use crate::research::bench::import::{ImportedEdits, LeftOutOfRecord, import};
use crate::store::{StoreError, atomic};

/// Declare the records of a published dataset as facts, one file each
///
/// Ids are stable: a record has the same id in every project. If records contradict one another, the first one is used.
/// Records and texts that are left out are listed, with the reason, in a separate file.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The dataset, which determines the schema of the records in the file
    #[arg(value_enum)]
    dataset: Dataset,
    /// File with one JSON array of records, or with one record per line (JSON Lines); for `halluedit`, a CSV file
    file: PathBuf,
    /// Name of the new folder inside the edits folder; by default, the name of the dataset
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Maximum number of records to read, not counting those that `--skip` skips; by default, no maximum
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Number of records to skip at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// File for the list of records and texts that are left out; by default, `rejected-DATASET.json` next to corrigenda.toml
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    import_records(context, arguments).unwrap_or_else(|stop| context.stop(&stop))
}

fn import_records(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let (config, ..) = Config::load(&context.root)?;
    let name = arguments.into.clone().unwrap_or_else(|| arguments.dataset.name().to_owned());
    if Path::new(&name).components().count() != 1 || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(Failure::from(Diagnostic::new(
            Code::DatasetUnusable,
            format!("{name:?} is not a valid name for a folder"),
        )));
    }
    let folder = config.edits.join(&name);
    context.may_import(&folder)?;
    let shown = folder.to_string_lossy().into_owned();
    if context.root.join(&folder).symlink_metadata().is_ok() {
        let message = format!("`{shown}` already exists: nothing was written");
        let finding = Diagnostic::new(Code::ProjectExists, message);
        return Err(Failure::from(finding.help("remove it, or name another folder with `--into NAME`")));
    }
    let (cases, mut refused) = read(arguments).map_err(|error| unusable(&error))?;
    let present = files_of(&context.root, &config.edits)?;
    let mut imported = import(&cases, &shown, &present);
    refused.append(&mut imported.refused);
    refused.sort_by_key(|one| one.record);
    imported.refused = refused;
    if imported.files.is_empty() {
        let first = imported.refused.iter().take(10);
        let finding =
            Diagnostic::new(Code::DatasetUnusable, "no record can be declared as a fact: nothing was written");
        return Err(Failure::from(first.fold(finding, |finding, one| finding.help(one.to_string()))));
    }
    let list = list(context, arguments, &imported)?;
    write(context, &folder, &imported)?;
    answer(context, arguments, &shown, &imported, list.as_deref());
    Ok(Outcome::Ok)
}

fn unusable(error: &DataError) -> Failure {
    let finding = Diagnostic::new(Code::DatasetUnusable, error.to_string());
    Failure::from(match error {
        DataError::Json { .. } => finding.help("the file must contain a JSON array of records, or one record per line"),
        DataError::Csv { .. } => finding.help("the file must be a CSV file with a header, in UTF-8"),
        DataError::Read { .. } | DataError::Foreign { .. } => finding,
    })
}

/// Reads the records that `--skip` and `--limit` select. Also returns the malformed records, each with the reason.
fn read(arguments: &Arguments) -> Result<(Vec<Case>, Vec<RejectedRecord>), DataError> {
    let (mut cases, mut refused, mut record) = (Vec::new(), Vec::new(), 0);
    let most = arguments.limit.unwrap_or(usize::MAX);
    for_each_record(&arguments.file, arguments.dataset, |one| {
        if record >= arguments.skip && record - arguments.skip < most {
            match one {
                Ok(edits) => cases.extend(edits),
                Err(why) => refused.push(why),
            }
        }
        record += 1;
    })?;
    Ok((cases, refused))
}

/// Writes the list of the records and texts that are left out and returns its path; `None` if nothing is left out.
fn list(context: &Context, arguments: &Arguments, imported: &ImportedEdits) -> Result<Option<PathBuf>, Failure> {
    if imported.refused.is_empty() && imported.texts.is_empty() {
        return Ok(None);
    }
    let default = || context.root.join(format!("rejected-{}.json", arguments.dataset.name()));
    let path = arguments.rejected.clone().unwrap_or_else(default);
    let input = canonicalize_lenient(&path) == canonicalize_lenient(&arguments.file);
    let free = if input {
        Err("the list would overwrite the file of the records".to_owned())
    } else {
        context.may_write(&path)
    };
    free.map_err(|why| Failure::from(Diagnostic::new(Code::ProjectExists, why)))?;
    let line = |one: &RejectedRecord| serde_json::to_string(&RejectedEntry::from(one)).expect("the keys are texts");
    let text = |one: &LeftOutOfRecord| serde_json::to_string(&LeftOutEntry::from(one)).expect("the keys are texts");
    let records = imported.refused.iter().map(|one| (one.record, line(one)));
    let mut lines: Vec<(u64, String)> =
        records.chain(imported.texts.iter().map(|one| (one.record, text(one)))).collect();
    lines.sort_by_key(|(record, _)| *record);
    let lines: Vec<String> = lines.into_iter().map(|(_, entry)| entry).collect();
    atomic::write(&path, format!("[\n{}\n]\n", lines.join(",\n")).as_bytes())?;
    Ok(Some(path))
}

/// Writes all edit files to a temporary folder next to the project file, and then renames that folder. Either all files
/// appear or none.
fn write(context: &Context, folder: &Path, imported: &ImportedEdits) -> Result<(), StoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { operation: "writing", path, source }
    };
    let target = context.root.join(folder);
    let staged = atomic::folder_in(&context.root).map_err(at(&context.root))?;
    let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
    for (path, text) in &imported.files {
        let path = staged.path().join(Path::new(path).strip_prefix(folder).unwrap_or(Path::new(path)));
        let parent = path.parent().unwrap_or(staged.path());
        std::fs::create_dir_all(parent).map_err(at(parent))?;
        std::fs::write(&path, text).map_err(at(&path))?;
        folders.insert(parent.to_owned());
        files.push(path);
    }
    // The files are synced only after all are written. By then the system has written most of the data to disk, so each
    // sync is fast.
    for path in &files {
        File::open(path).and_then(|file| file.sync_all()).map_err(at(path))?;
    }
    folders.iter().try_for_each(|written| atomic::sync_directory(written))?;
    let parent = target.parent().unwrap_or(&context.root);
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    // A temporary folder can be read only by its owner, so the final folder gets the permissions of the project's
    // folder.
    let readable = std::fs::metadata(&context.root).map(|found| found.permissions());
    readable.and_then(|permissions| std::fs::set_permissions(staged.path(), permissions)).map_err(at(staged.path()))?;
    std::fs::rename(staged.path(), &target).map_err(at(&target))?;
    // After the rename, the temporary path no longer exists, so it must not be removed on drop.
    let _ = staged.keep();
    atomic::sync_directory(parent)
}

fn answer(context: &Context, arguments: &Arguments, folder: &str, imported: &ImportedEdits, list: Option<&Path>) {
    let ImportedEdits { files, refused, texts, dropped } = imported;
    if context.format == Format::Json {
        let rejected = refused.iter().map(RejectedEntry::from).collect();
        let left_out = texts.iter().map(LeftOutEntry::from).collect();
        let answer = ImportAnswer { folder, edits: files.len(), rejected, left_out, neighbours_dropped: *dropped };
        context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
        return;
    }
    let mut table = Table::new(&[1], &[]);
    table.row(["read".to_owned(), format!("{} as {}", arguments.file.display(), arguments.dataset.name())]);
    table.row(["written".to_owned(), format!("{} in {folder}", plural(files.len(), "edit"))]);
    if let Some(list) = list.filter(|_| !refused.is_empty()) {
        table
            .row(["left out".to_owned(), format!("{}, listed in {}", plural(refused.len(), "record"), list.display())]);
        table.row(["reasons".to_owned(), reasons(refused)]);
    }
    if let Some(list) = list.filter(|_| !texts.is_empty()) {
        table.row([
            "texts".to_owned(),
            format!("{} left out, listed in {}", plural(texts.len(), "text"), list.display()),
        ]);
        table.row(["of fields".to_owned(), fields(texts)]);
    }
    if *dropped > 0 {
        table.row(["dropped".to_owned(), format!("{} naming an edited subject", plural(*dropped, "neighbour"))]);
    }
    table.row(["next".to_owned(), "corrigenda check, then plan".to_owned()]);
    context.ui.answer(&table.render(context.ui.width().max(60)));
}

/// Formats the number of left-out texts per field, with the most frequent field first.
fn fields(texts: &[LeftOutOfRecord]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    texts.iter().for_each(|one| *counts.entry(&one.text.field).or_default() += 1);
    most_frequent(counts)
}

/// Formats the number of rejected records per reason, with the most frequent reason first.
fn reasons(refused: &[RejectedRecord]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in refused {
        let is_code =
            |code: &&str| matches!(*code, "noise" | "one-key") || Code::ALL.iter().any(|known| known.as_str() == *code);
        let code = one.why.split(':').next().filter(is_code);
        *counts.entry(code.unwrap_or("malformed")).or_default() += 1;
    }
    most_frequent(counts)
}

fn most_frequent(counts: BTreeMap<&str, usize>) -> String {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
