//! Implements `bench train`: trains MEND or KE for the project's base model and stores the editor.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::set::TrainingSetting;
use super::trained::listed;
use crate::cli::answers::bench::{TrainAnswer, ValidationLoss};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::Digest;
use crate::model::ModelError;
use crate::pipeline::Base;
use crate::project::Project;
use crate::report::Outcome;
use crate::report::table::{Table, bytes, plural};
use crate::research::bench::data::{Case, DataError, Dataset, RejectedRecord, read_all};
use crate::research::bench::editors::Overrides;
use crate::research::hypernetworks::data::{
    PreparedData, beginnings, digest_of, facts_of_cases, facts_of_passages, passage_tokens, seen_digest,
};
use crate::research::hypernetworks::settings::{Method, TRAINING_NUMBERS, TrainedOn, TrainingNumbers, numbers};
use crate::research::hypernetworks::stored::{
    AnyEditor, EditorHead, StoredEditor, TrainingInputs, Validation, read, to_bytes,
};
use crate::research::hypernetworks::train::TrainingData;
use crate::research::hypernetworks::training_run::{RunError, partial_address, train};
use crate::stats::corpus::Documents;
use crate::store::{EntryKind, Store};

/// Train an editor for the project's base model
///
/// MEND and KE (KnowledgeEditor) are networks that turn the gradient for a fact into changes of the MLP matrices of the
/// last blocks. The trained editor is stored under the digest of the base model, the training data and all settings,
/// and is the same on every machine. An interrupted training is continued by the same command.
///
/// It is only used by `bench`: a patch is never made of its edits.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The editor to train
    #[arg(value_enum)]
    editor: Method,
    /// The facts to train on
    #[arg(value_enum)]
    data: TrainedOn,
    /// File with the records for `zsre` (schema of MEND) and `cf` (schema of ROME or EasyEdit)
    #[arg(required_if_eq_any([("data", "zsre"), ("data", "cf")]))]
    file: Option<PathBuf>,
    /// File with records that are not used for training, in the schema of FILE
    #[arg(long, value_name = "FILE")]
    without: Vec<PathBuf>,
    /// Text whose lines are the unrelated texts, and the passages of `text`; by default, the corpus of the project's
    /// statistics
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Number of records to train on: the first ones of the file; by default, all records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Number of training steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Seed for the parameters, the validation facts and the order of the facts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Reproduce presumed errors of the published code: the rates of MEND in the optimiser of its networks, and an
    /// embedding of KE that is not trained
    #[arg(long)]
    published: bool,
    /// Change a numeric setting of the training, such as rank=64
    #[arg(long, value_name = "NUMBER=X")]
    set: Vec<TrainingSetting>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    run_training(context, arguments).unwrap_or_else(|outcome| outcome)
}

/// A trained editor with what the answer says about it.
struct Answer {
    editor: AnyEditor,
    head: EditorHead,
    address: Digest,
    /// Whether the store had the editor already.
    stored: bool,
    left: Vec<RejectedRecord>,
    edit_bytes: u64,
}

fn run_training(context: &Context, arguments: &Arguments) -> Result<Outcome, Outcome> {
    let (project, store) = context.open_project_and_store()?;
    let stop = |stop: Failure| context.stop(&stop);
    let base = context.base(&project, &store, false).map_err(stop)?;
    store.check_writable().map_err(|error| context.fail_store(&error))?;
    let numbers = settings(arguments, &base).map_err(stop)?;
    let prepared = prepare(context, arguments, &project, &base, &numbers).map_err(stop)?;
    let done = obtain(context, arguments, (&base, &store), numbers, prepared).map_err(stop)?;
    answer(context, &store, done);
    Ok(Outcome::Ok)
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::from(Diagnostic::new(Code::BenchRefused, message.into()))
}

fn unusable(error: &DataError) -> Failure {
    Failure::from(Diagnostic::new(Code::DatasetUnusable, error.to_string()))
}

fn settings(arguments: &Arguments, base: &Base) -> Result<TrainingNumbers, Failure> {
    let mut changed = TrainingNumbers::new();
    for TrainingSetting(name, number) in &arguments.set {
        let method = TRAINING_NUMBERS.iter().find(|(_, other, ..)| other == name).and_then(|(method, ..)| *method);
        if method.is_some_and(|method| method != arguments.editor) {
            return Err(refused(format!("`--set {name}` is not a setting of {}", arguments.editor.name())));
        }
        changed.insert(name.clone(), *number);
    }
    if let Some(steps) = arguments.steps {
        changed.insert("steps".to_owned(), f64::from(steps));
    }
    Ok(numbers(arguments.editor, base.model.spec(), arguments.published, &changed))
}

/// Reads and tokenizes the facts and the unrelated texts.
fn prepare(
    context: &Context,
    arguments: &Arguments,
    project: &Project,
    base: &Base,
    numbers: &TrainingNumbers,
) -> Result<PreparedData, Failure> {
    let limit = base.model.spec().max_positions;
    let mut texts = Texts::open(arguments, project)?;
    let length = (numbers["locality-tokens"] as usize).min(limit);
    let (training, validation) = (numbers["texts"] as usize, numbers["validation"] as usize);
    let mut unrelated = texts.take(base, length, training + validation)?;
    let mut prepared = match &arguments.file {
        Some(file) if arguments.data != TrainedOn::Text => {
            let (cases, left) = cases(arguments, file)?;
            let mut prepared = facts_of_cases(&base.tokens, limit, &cases, numbers, arguments.seed);
            prepared.left.extend(left);
            prepared
        }
        Some(file) => {
            return Err(refused(format!("`text` needs no file with records: give {} with `--text`", file.display())));
        }
        None => {
            let passages = texts.take(base, passage_tokens(limit, numbers), numbers["passages"] as usize)?;
            context.ui.note(&format!("sampling continuations of {}", plural(passages.len(), "passage")));
            let data = facts_of_passages(&base.model, &base.tokens, &passages, numbers, arguments.seed);
            PreparedData { data, ..PreparedData::default() }
        }
    };
    let data = &mut prepared.data;
    // The last texts are those of the validation: one per fact.
    data.validation_unrelated = unrelated.split_off(unrelated.len().saturating_sub(data.validation.len()));
    data.unrelated = unrelated;
    check(arguments, &prepared, &texts)?;
    Ok(prepared)
}

/// Returns an error that names the file if there are no facts or not enough texts.
fn check(arguments: &Arguments, prepared: &PreparedData, texts: &Texts) -> Result<(), Failure> {
    let TrainingData { facts, unrelated, validation, validation_unrelated } = &prepared.data;
    if facts.is_empty() || validation.is_empty() {
        let file = arguments.file.as_deref().unwrap_or(&texts.path);
        let why = prepared.left.first().map_or_else(String::new, |first| format!("; {first}"));
        let count = facts.len() + validation.len();
        let message = format!(
            "{}: {} can be used for training, at least 5 are needed{why}",
            file.display(),
            plural(count, "fact")
        );
        return Err(refused(message));
    }
    if unrelated.is_empty() || validation_unrelated.len() < validation.len() {
        let count = unrelated.len() + validation_unrelated.len();
        let message = format!(
            "{}: {} of at least 30 words can be used as unrelated text, more than {} are needed",
            texts.path.display(),
            plural(count, "line"),
            validation.len()
        );
        return Err(Failure::from(
            Diagnostic::new(Code::BenchRefused, message).help("give another file with `--text`"),
        ));
    }
    Ok(())
}

/// The lines of the text file, which are used once each.
struct Texts {
    path: PathBuf,
    documents: Documents,
}

impl Texts {
    fn open(arguments: &Arguments, project: &Project) -> Result<Self, Failure> {
        let statistics = project.config.statistics.as_ref();
        let corpus = || statistics.map(|statistics| project.config.resolve(&statistics.corpus));
        let path = arguments.text.clone().or_else(corpus).ok_or_else(|| {
            Diagnostic::new(Code::BenchRefused, "the project has no corpus for unrelated texts")
                .help("give a text file with `--text`")
        })?;
        let documents = Documents::open(&path).map_err(|error| refused(error.to_string()))?;
        Ok(Self { path, documents })
    }

    fn take(&mut self, base: &Base, length: usize, most: usize) -> Result<Vec<Vec<u32>>, Failure> {
        let mut failed = None;
        let lines = self.documents.by_ref().map_while(|line| line.map_err(|error| failed = Some(error)).ok());
        let taken = beginnings(&base.tokens, lines, length, most);
        if let Some(error) = failed {
            return Err(refused(error.to_string()));
        }
        taken.map_err(|error: ModelError| refused(format!("{}: {error}", self.path.display())))
    }
}

/// Reads the records to train on: those of the file that are not in a file of `--without`.
fn cases(arguments: &Arguments, file: &Path) -> Result<(Vec<Case>, Vec<RejectedRecord>), Failure> {
    let (mut cases, mut left) = read_records(file, arguments.data)?;
    let mut excluded = BTreeSet::new();
    for other in &arguments.without {
        excluded.extend(read_records(other, arguments.data)?.0.iter().map(seen_digest));
    }
    let mut seen = BTreeSet::new();
    cases.retain(|case| {
        let digest = seen_digest(case);
        let why = if excluded.contains(&digest) {
            "it is in a file of `--without`"
        } else if seen.insert(digest) {
            return true;
        } else {
            "an earlier record has the same subject and prompt"
        };
        left.push(RejectedRecord { record: case.record, id: Some(case.id), why: why.to_owned() });
        false
    });
    cases.truncate(arguments.limit.map_or(usize::MAX, |limit| limit as usize));
    Ok((cases, left))
}

/// Reads the records of a file in the first schema that fits one of them.
fn read_records(file: &Path, data: TrainedOn) -> Result<(Vec<Case>, Vec<RejectedRecord>), Failure> {
    let schemas: &[Dataset] =
        if data == TrainedOn::Zsre { &[Dataset::Zsre] } else { &[Dataset::Counterfact, Dataset::Easyedit] };
    let mut first = None;
    for schema in schemas {
        let (cases, left) = read_all(file, *schema).map_err(|error| unusable(&error))?;
        if !cases.is_empty() {
            return Ok((cases, left));
        }
        first.get_or_insert((cases, left));
    }
    Ok(first.unwrap_or_default())
}

/// Returns the editor: from the store, or trained and then stored.
fn obtain(
    context: &Context,
    arguments: &Arguments,
    (base, store): (&Base, &Store),
    numbers: TrainingNumbers,
    prepared: PreparedData,
) -> Result<Answer, Failure> {
    let PreparedData { data, seen, left } = prepared;
    let kind = (arguments.editor, arguments.data);
    let (digest, run) = (digest_of(&data), (arguments.seed, arguments.published));
    let inputs = TrainingInputs::new(kind, (base.locked.digest, &base.model), numbers, run, digest);
    let address = inputs.address();
    if let Ok(StoredEditor { head, editor, .. }) = read(store, &address, &base.model, &base.locked.digest) {
        let edit_bytes = mean_bytes(&editor, base, &data);
        return Ok(Answer { editor, head, address, stored: true, left, edit_bytes });
    }
    let trained = train(&base.model, &data, &inputs, store, &context.ui).map_err(|error| failed(&error))?;
    let file = arguments.file.as_deref().or(arguments.text.as_deref());
    let file = file.and_then(Path::file_name).map_or_else(|| "the corpus".into(), |name| name.to_string_lossy());
    let (curve, best, facts) = (trained.curve, trained.best, data.facts.len());
    let head = EditorHead { inputs, base_name: base.name(), file: file.into_owned(), facts, curve, best };
    let mut editor = trained.editor;
    let kept =
        store.replace_with(EntryKind::Editor, &address, |out| out.write_all(&to_bytes(&head, &mut editor, &seen)));
    kept.and_then(|_| store.remove(EntryKind::Partial, &partial_address(&address)))
        .map_err(|error| store_failed(&error))?;
    let edit_bytes = mean_bytes(&editor, base, &data);
    Ok(Answer { editor, head, address, stored: false, left, edit_bytes })
}

fn store_failed(error: &crate::store::StoreError) -> Failure {
    Failure::from(Diagnostic::new(Code::StoreFailed, error.to_string()))
}

fn failed(error: &RunError) -> Failure {
    match error {
        RunError::Store(error) => store_failed(error),
        RunError::Training(_) => refused(format!("the training cannot continue: {error}")),
        RunError::NotLearned { .. } => {
            let finding = Diagnostic::new(Code::BenchRefused, error.to_string());
            Failure::from(finding.help("change the learning rate with `--set rate=X`, or the number of steps"))
        }
    }
}

/// Returns the mean size of the changes for the validation facts, in bytes as f32.
fn mean_bytes(editor: &AnyEditor, base: &Base, data: &TrainingData) -> u64 {
    let size = |fact: &crate::research::hypernetworks::train::TrainingFact| {
        let changes = editor.changes(&base.model, std::slice::from_ref(&fact.stated));
        changes.iter().map(|change| 4 * (change.a.len() + change.b.len()) as u64).sum::<u64>()
    };
    let some = &data.validation[..data.validation.len().min(10)];
    some.iter().map(size).sum::<u64>() / some.len().max(1) as u64
}

fn answer(context: &Context, store: &Store, done: Answer) {
    let Answer { editor, head, address, stored, left, edit_bytes } = done;
    let size = store.path(EntryKind::Editor, &address).metadata().map_or(0, |metadata| metadata.len());
    let curve: Vec<Validation> = head.curve.clone();
    let matrices = editor.sites().len();
    if context.format == Format::Json {
        let loss = |one: &Validation| ValidationLoss {
            step: one.step,
            edit: one.edit,
            divergence: one.divergence,
            total: one.total,
        };
        let curve = curve.iter().map(loss).collect();
        let left_out = left.iter().map(ToString::to_string).collect();
        let answer = TrainAnswer { editor: listed(address, size, head), stored, curve, left_out, edit_bytes };
        context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
        return;
    }
    let steps = head.inputs.numbers["steps"];
    let at = |step: usize| curve.iter().find(|one| one.step == step).map_or(f64::NAN, |one| one.total);
    let mut table = Table::new(&[], &[]);
    let trained = if stored { "was in the store already" } else { "is trained and stored" };
    table.row(["editor", &format!("{} {trained}: {}, {}", head.inputs.name(), address.short(), bytes(size))]);
    table.row(["base", &format!("{}  {}", head.base_name, head.inputs.base.short())]);
    table.row(["facts", &format!("{} of {}", head.facts, head.file)]);
    if let Some(first) = left.first() {
        table.row(["left out", &format!("{}; {first}", plural(left.len(), "record"))]);
    }
    table.row(["loss", &format!("{:.4} before, {:.4} after step {} of {steps}", at(0), at(head.best), head.best)]);
    table.row(["settings", &shown(&head.inputs.numbers)]);
    let weight = format!("{} as factors of {matrices} matrices; no patch is made of it", bytes(edit_bytes));
    table.row(["an edit", &weight]);
    context.ui.answer(&table.render_wrapped(context.ui.width()));
}

fn shown(numbers: &Overrides) -> String {
    numbers.iter().map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join(", ")
}
