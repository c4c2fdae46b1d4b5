//! Implements the comparison of editing methods on the records of a published dataset.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::output::{BenchOutput, answer, write};
use super::set::EditorSetting;
use super::trained;
use crate::behaviour::check_finite_output;
use crate::cli::answers::bench::BenchSettings;
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::{Digest, FieldHasher};
use crate::export::destination::Destination;
use crate::link::Refinement;
use crate::numeric::NUMERICS;
use crate::pipeline::policy_limits::{not_finite_error, read_neutral};
use crate::pipeline::{Base, Setup};
use crate::progress::{NoProgress, Progress as _};
use crate::project::Project;
use crate::regular_file;
use crate::regular_file::NormalizedText;
use crate::report::Outcome;
use crate::research::bench::data::{Case, DataError, Dataset, RejectedRecord, read_all};
use crate::research::bench::editors::{EditorName, Overrides, editor};
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::research::bench::metrics::said::SaidForm;
use crate::research::bench::references;
use crate::research::bench::results_log::{LogLine, ResultsLog, ResultsLogError};
use crate::research::bench::run::{Bench, EditedRecords, FailedEdit, GenerationOptions, References, knows, text_error};
use crate::research::bench::sample::sample_records;
use crate::store::Store;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("sets").multiple(true).args(["batch", "sequence"]))]
pub(in crate::cli) struct Arguments {
    /// The dataset, which determines the schema of the records in the file
    #[arg(value_enum)]
    pub(super) dataset: Dataset,
    /// File with one JSON array of records, or with one record per line (JSON Lines)
    pub(super) file: PathBuf,
    /// Editing methods to compare; by default, rome
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', default_values_t = [EditorName::Rome])]
    pub(super) editors: Vec<EditorName>,
    /// Number of records, sampled with the seed; by default, all records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed for the sampling of records and of generated text
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Use only records whose true answer the base model gives
    #[arg(long)]
    pub(super) known: bool,
    /// Also edit sets of this many records at once: 1,10,100, or `all` for all records
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(super) batch: Vec<Size>,
    /// Also edit all records in batches of this many, each on the model with the earlier batches; each batch is measured
    /// after itself, and all records at the end
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    sequence: Vec<u32>,
    /// Do not edit single records, only the sets of `--batch` and `--sequence`
    #[arg(long, requires = "sets")]
    batch_only: bool,
    /// Generate text after the generation prompts of every Nth record, for the metrics GE (entropy) and RS (similarity
    /// to reference texts); 0 for none
    #[arg(long, value_name = "N", default_value_t = 1)]
    generate: usize,
    /// Folder with attribute_snippets.json, tfidf_vocab.json and idf.npy, as published with CounterFact; needed for RS
    #[arg(long, value_name = "DIR")]
    references: Option<PathBuf>,
    /// Also generate text after every prompt, greedily, at most 50 tokens, and measure whether it says the answer; as the
    /// prompt stands, or as a question
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, default_missing_value = "plain", require_equals = true)]
    said: Option<SaidForm>,
    /// Reproduce presumed errors of the published code: one optimisation attempt per value, the scoring of
    /// answers in ft, the tokenization of answers in kn, and the exchanged rates of mend
    #[arg(long)]
    published: bool,
    /// Measure trained editors also on records with which they were trained; the tables say so
    #[arg(long)]
    seen: bool,
    /// Address of a trained editor, or its beginning, if several fit; see `bench trained ls`
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    trained: Vec<String>,
    /// Change a numeric setting of an editor, such as rome.refine-steps=40
    #[arg(long, value_name = "EDITOR.NUMBER=X")]
    set: Vec<EditorSetting>,
    /// File with the results of an earlier run; they are not computed again, and new ones are appended
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// New folder for tables, charts, an HTML page, and all numbers as JSON
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// An argument of `--batch`: the number of records to edit at once, or `all` for all sampled records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Of(usize),
    All,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            Ok(size) if size > 0 => Ok(Self::Of(size)),
            _ if text == "all" => Ok(Self::All),
            _ => Err("expected a number of records, or `all`".to_owned()),
        }
    }
}

impl Arguments {
    /// Returns the distinct numbers of records to edit at once, as requested by `--batch`, in ascending order. `count`
    /// is the number of all records, which `--batch all` requests.
    ///
    /// # Errors
    /// If a value of `--batch` is greater than `count`.
    fn sizes(&self, count: usize) -> Result<Vec<usize>, Failure> {
        let size = |size: &Size| match size {
            Size::Of(size) if *size > count => Err(refused(format!("`--batch {size}` is more than {count} records"))),
            Size::Of(size) => Ok(*size),
            Size::All => Ok(count),
        };
        let sizes: BTreeSet<usize> = self.batch.iter().map(size).collect::<Result<_, _>>()?;
        Ok(sizes.into_iter().collect())
    }

    /// Returns the distinct batch sizes of `--sequence` in ascending order.
    ///
    /// # Errors
    /// If a batch size is greater than `count`, the number of records.
    fn batch_sizes(&self, count: usize) -> Result<Vec<usize>, Failure> {
        let size = |size: &u32| match usize::try_from(*size) {
            Ok(size) if size <= count => Ok(size),
            _ => Err(refused(format!("`--sequence {size}` is more than {count} records"))),
        };
        let sizes: BTreeSet<usize> = self.sequence.iter().map(size).collect::<Result<_, _>>()?;
        Ok(sizes.into_iter().collect())
    }

    /// Returns the editors of `--editors` in the order of the command line, without duplicates.
    fn names(&self) -> Vec<EditorName> {
        let mut seen = BTreeSet::new();
        self.editors.iter().copied().filter(|name| seen.insert(*name)).collect()
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    run_bench(context, arguments).unwrap_or_else(|outcome| outcome)
}

fn run_bench(context: &Context, arguments: &Arguments) -> Result<Outcome, Outcome> {
    let (project, store) = context.open_project_and_store()?;
    let stop = |stop: Failure| context.stop(&stop);
    if arguments.known && !arguments.dataset.states_old_answer() {
        let name = if arguments.dataset == Dataset::Zsre { "zsRE" } else { arguments.dataset.name() };
        let why = format!("records of {name} do not contain the answer before the edit, so `--known` cannot be used");
        return Err(stop(refused(why)));
    }
    let base = context.base(&project, &store, false).map_err(stop)?;
    for path in arguments.out.iter().chain(&arguments.resume) {
        context.may_export(path).map_err(|finding| context.fail(finding))?;
    }
    let place =
        arguments.out.as_deref().map(|out| Ok::<_, Failure>(Destination::folder(out, &base.folder, store.root())?));
    let place = place.transpose().map_err(stop)?;
    let (cases, refused) = read_all(&arguments.file, arguments.dataset).map_err(|error| stop(unusable(&error)))?;
    let mut output = run_editors(context, arguments, (&project, &base, &store), cases).map_err(stop)?;
    output.left.extend(refused);
    output.left.sort_by_key(|one| one.record);
    let files = place.map(|place| write(place, &output)).transpose().map_err(|why| {
        // The results took a long time to compute, so they are printed even if the files cannot be written.
        if context.format == Format::Human {
            answer(context, &output, None);
        }
        stop(why)
    })?;
    answer(context, &output, files.as_ref().map(|files| (arguments.out.as_deref().unwrap_or(Path::new("")), *files)));
    Ok(Outcome::Ok)
}

fn refused(message: String) -> Failure {
    Failure::from(Diagnostic::new(Code::BenchRefused, message))
}

fn unusable(error: &DataError) -> Failure {
    Failure::from(Diagnostic::new(Code::DatasetUnusable, error.to_string()))
}

fn unkept(error: ResultsLogError) -> Failure {
    refused(error.to_string())
}

/// Runs every editing method on the sampled records. Results that are already in the file of `--resume` are not
/// computed again.
fn run_editors(
    context: &Context,
    arguments: &Arguments,
    (project, base, store): (&Project, &Base, &Store),
    cases: Vec<Case>,
) -> Result<BenchOutput, Failure> {
    let names = arguments.names();
    let refusals = names.iter().filter_map(|name| name.refuses(base)).next();
    if let Some(why) = refusals {
        return Err(refused(why.to_owned()));
    }
    for name in ["ft.layer", "ft+l.layer", "ft-bf.layer", "ultraedit.layer"] {
        let layer = arguments.set.iter().find(|EditorSetting(other, _)| other == name);
        let found = layer.map(|EditorSetting(_, layer)| base.model.spec().check_layer(*layer as usize)).transpose();
        found.map_err(|error| refused(format!("{name}: {error}")))?;
    }
    let filled: Vec<String> = cases.iter().take(64).map(Case::filled).collect();
    check_finite_output(&base.model, &base.tokens, filled.iter().map(|text| text.as_str().into()))
        .map_err(|error| not_finite_error(&error))?;
    let mut eval = EvalContext::new(project, base, store)?;
    eval.trained = trained::find_all(store, base, &names, &arguments.trained)?;
    let references = match &arguments.references {
        Some(folder) => Some(
            references::read(folder, &cases).map_err(|why| refused(format!("the references cannot be used: {why}")))?,
        ),
        None => None,
    };
    let (cases, left) = prepare_cases(context, arguments, &eval, cases)?;
    let (sizes, batch_sizes) = (arguments.sizes(cases.len())?, arguments.batch_sizes(cases.len())?);
    let trained = trained::lines(&eval.trained, &cases, arguments.seen)?;
    let mut changed: Overrides = defaults(project);
    changed.extend(arguments.set.iter().map(|EditorSetting(name, number)| (name.clone(), *number)));
    let mut results = match &arguments.resume {
        Some(path) => {
            let of = identity(arguments, &eval, &cases, references.as_ref(), &changed)?;
            ResultsLog::open(path, &of).map_err(unkept)?
        }
        None => ResultsLog::in_memory(),
    };
    let neutral = if sizes.is_empty() && batch_sizes.is_empty() { None } else { Some(read_neutral(project, base)?) };
    let writing =
        GenerationOptions { every: arguments.generate, seed: arguments.seed, references: references.as_ref() };
    let mut bench =
        Bench { context: &eval, cases, generation: writing, said: arguments.said, base_texts: Vec::new(), neutral };
    if !is_complete(arguments, &bench, (&sizes, &batch_sizes), &results) {
        bench.generate_base_texts(&context.ui).map_err(text_error)?;
    }
    if !arguments.batch_only {
        run_single(context, arguments, &bench, &changed, &mut results)?;
    }
    run_batches(context, arguments, &bench, (&changed, &sizes), &mut results)?;
    run_sequences(context, arguments, &bench, (&changed, &batch_sizes), &mut results)?;
    let records = bench.cases.iter().map(|prepared| prepared.case.record).collect();
    Ok(BenchOutput {
        base: (base.name(), base.locked.digest.short()),
        dataset: arguments.dataset,
        file: arguments.file.clone(),
        layer: eval.setup.layer,
        cases: records,
        left,
        editors: names,
        results,
        settings: settings(arguments, &changed),
        trained,
    })
}

/// Returns the refinement settings of the project's `[link]` table as settings of the editor `rome`. If the project
/// sets `refine-steps`, the editor refines sets of any size, as `build` does.
fn defaults(project: &Project) -> Overrides {
    let link = &project.config.link;
    let steps = link.refine_steps.map(|steps| [("rome.refine-steps", steps), ("rome.refine-from", 1)]);
    let layers = link.refine_layers.map(|layers| ("rome.refine-layers", layers));
    let said = steps.into_iter().flatten().chain(layers);
    said.map(|(name, number)| (name.to_owned(), number as f64)).collect()
}

/// Samples and tokenizes the records. Also returns the records that cannot be used, each with the reason.
fn prepare_cases(
    context: &Context,
    arguments: &Arguments,
    eval: &EvalContext<'_>,
    cases: Vec<Case>,
) -> Result<(Vec<PreparedCase>, Vec<RejectedRecord>), Failure> {
    let limit = arguments.limit.and_then(|limit| usize::try_from(limit).ok());
    context.ui.begin("records to read", cases.len() as u64);
    let mut asked = 0;
    let (sampled, mut left) = sample_records(cases, limit, arguments.seed, |case| {
        asked += 1;
        context.ui.set_position(asked);
        // With `--known`, records that the base does not answer correctly are not sampled. A record that cannot be
        // tokenized is sampled nevertheless, so that the output lists it with the reason.
        !arguments.known || knows(eval, &eval.base.model, case).unwrap_or(true)
    });
    context.ui.end();
    let likelier = arguments.dataset.states_old_answer();
    let mut prepared = Vec::new();
    for case in sampled {
        let (record, id) = (case.record, Some(case.id));
        if likelier && case.was.is_none() {
            let why = "it has no old answer to compare the new one with".to_owned();
            left.push(RejectedRecord { record, id, why });
            continue;
        }
        match eval.prepare(case, likelier) {
            Ok(one) => prepared.push(one),
            Err(error) => left.push(RejectedRecord { record, id, why: error.to_string() }),
        }
    }
    if prepared.is_empty() {
        return Err(refused("there is no record to edit".to_owned()));
    }
    Ok((prepared, left))
}

/// Returns the digest of all inputs that determine the results, except the editing methods. Results in the file of
/// `--resume` are reused only if their inputs had the same digest.
fn identity(
    arguments: &Arguments,
    eval: &EvalContext<'_>,
    cases: &[PreparedCase],
    references: Option<&References>,
    changed: &Overrides,
) -> Result<Digest, Failure> {
    let mut canon = FieldHasher::new("bench/2");
    // The program's version covers the default settings of the editing methods, which change only with a new version.
    canon.text("version", env!("CARGO_PKG_VERSION"));
    Refinement::default().describe(&mut canon);
    // Of the project's `[link]` settings, only the ridge affects the editing methods, so the others are not hashed.
    let settings = Setup { refinement: None, ..eval.setup.clone() }.digest();
    canon.float("ridge", eval.setup.ridge.unwrap_or(-1.0));
    if let Some(path) = eval.project.config.test.neutral.as_ref().map(|path| eval.project.config.resolve(path)) {
        let read = regular_file::open(&path).and_then(NormalizedText::new).and_then(Digest::of_reader);
        let (digest, _) = read.map_err(|error| refused(format!("{}: {error}", path.display())))?;
        canon.digest("neutral", &digest);
    }
    canon.text("numerics", NUMERICS).digest("base", &eval.base.locked.digest).digest("settings", &settings);
    // Only imported statistics are hashed here. Computed statistics depend only on the base, the corpus and the
    // settings, which are hashed too.
    for (layer, file) in &eval.setup.imports {
        canon.number("layer", *layer as u64).digest("imported", file);
    }
    canon.digest("corpus", &eval.setup.provenance.corpus).text("dataset", arguments.dataset.name());
    canon.number("records", cases.len() as u64);
    for one in cases {
        one.case.describe(&mut canon);
    }
    canon.number("seed", arguments.seed).number("generate", arguments.generate as u64);
    canon.number("published", u64::from(arguments.published));
    if let Some(form) = arguments.said {
        canon.text("said", form.name());
    }
    for stored in eval.trained.values() {
        canon.digest("trained", &stored.address);
    }
    if let Some(references) = references {
        references.weights.describe(&mut canon);
    }
    let references = references.map(|references| &references.texts);
    canon.number("references", references.map_or(0, |texts| texts.len() as u64));
    references.into_iter().flatten().for_each(|((relation, answer), text)| {
        canon.text("relation", relation).text("answer", answer).text("text", text);
    });
    for (name, number) in changed {
        canon.text("set", name).float("number", *number);
    }
    Ok(canon.finish())
}

/// Returns whether the file of `--resume` has all results of the run.
fn is_complete(
    arguments: &Arguments,
    bench: &Bench<'_>,
    (sizes, batch_sizes): (&[usize], &[usize]),
    results: &ResultsLog,
) -> bool {
    let has_all = |name: Option<&str>| bench.cases.iter().all(|one| results.has(name, one.case.record));
    let has_sets = |name: &str| {
        sizes.iter().all(|size| results.has_batch(name, *size))
            && batch_sizes.iter().all(|batch| results.has_sequence(name, bench.cases.len(), *batch))
    };
    let alone = |name: EditorName| arguments.batch_only || has_all(Some(name.text()));
    let names = arguments.names();
    (arguments.batch_only || has_all(None))
        && names.into_iter().all(|name| alone(name) && (!name.edits_batches() || has_sets(name.text())))
}

fn run_single(
    context: &Context,
    arguments: &Arguments,
    bench: &Bench<'_>,
    changed: &Overrides,
    results: &mut ResultsLog,
) -> Result<(), Failure> {
    let count = bench.cases.len();
    context.ui.begin("base, records", count as u64);
    for index in 0..count {
        if !results.has(None, bench.cases[index].case.record) {
            results.add(LogLine::Row(bench.base(index)?)).map_err(unkept)?;
        }
        context.ui.set_position(index as u64 + 1);
    }
    context.ui.end();
    for name in arguments.names() {
        let editor = editor(name, changed, arguments.published);
        context.ui.begin(&format!("{}, records", name.text()), count as u64);
        for index in 0..count {
            if !results.has(Some(name.text()), bench.cases[index].case.record) {
                let record = bench.cases[index].case.record;
                let line = match bench.single(name, &*editor, index, &NoProgress) {
                    Ok(row) => LogLine::Row(row),
                    Err(stop) => LogLine::Failed(FailedEdit::of(stop, name, EditedRecords::One(record))?),
                };
                results.add(line).map_err(unkept)?;
            }
            context.ui.set_position(index as u64 + 1);
        }
        context.ui.end();
    }
    Ok(())
}

fn run_batches(
    context: &Context,
    arguments: &Arguments,
    bench: &Bench<'_>,
    (changed, sizes): (&Overrides, &[usize]),
    results: &mut ResultsLog,
) -> Result<(), Failure> {
    for name in arguments.names().into_iter().filter(|name| name.edits_batches()) {
        let editor = editor(name, changed, arguments.published);
        for &size in sizes.iter().filter(|size| !results.has_batch(name.text(), **size)).collect::<Vec<_>>() {
            context.ui.note(&format!("{}, {size} at once", name.text()));
            let line = match bench.batch(name, &*editor, size, &context.ui) {
                Ok(one) => LogLine::Batch(one),
                Err(stop) => LogLine::Failed(FailedEdit::of(stop, name, EditedRecords::Set(size))?),
            };
            results.add(line).map_err(unkept)?;
        }
    }
    Ok(())
}

fn run_sequences(
    context: &Context,
    arguments: &Arguments,
    bench: &Bench<'_>,
    (changed, batch_sizes): (&Overrides, &[usize]),
    results: &mut ResultsLog,
) -> Result<(), Failure> {
    let size = bench.cases.len();
    for name in arguments.names().into_iter().filter(|name| name.edits_batches()) {
        let editor = editor(name, changed, arguments.published);
        for &batch in batch_sizes {
            if results.has_sequence(name.text(), size, batch) {
                continue;
            }
            context.ui.note(&format!("{}, {size} in batches of {batch}", name.text()));
            let line = match bench.sequence(name, &*editor, batch, &context.ui) {
                Ok(one) => LogLine::Sequence(one),
                Err(stop) => LogLine::Failed(FailedEdit::of(stop, name, EditedRecords::Batches { size, batch })?),
            };
            results.add(line).map_err(unkept)?;
        }
    }
    Ok(())
}

/// Returns the settings of the run for the JSON output. `changed` has the settings of editing methods that `--set` or
/// the project changed.
fn settings(arguments: &Arguments, changed: &Overrides) -> BenchSettings {
    BenchSettings {
        seed: arguments.seed,
        limit: arguments.limit,
        known: arguments.known,
        generate: arguments.generate,
        said: arguments.said,
        published: arguments.published,
        set: changed.clone(),
    }
}
