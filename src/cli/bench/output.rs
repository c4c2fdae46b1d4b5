//! Writes the results of `bench`: tables for a terminal, JSON with all numbers, and a folder with charts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cli::answers::NamedBase;
use crate::cli::answers::bench::{BenchAnswer, BenchSettings};
use crate::cli::answers::project::RejectedEntry;
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::export::destination::Destination;
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use crate::research::bench::chart;
use crate::research::bench::data::{Dataset, RejectedRecord};
use crate::research::bench::editors::EditorName;
use crate::research::bench::results_log::ResultsLog;
use crate::research::bench::run::{BatchResult, EditedRecords, FailedEdit, RecordResult};
use crate::research::bench::sequence::SequenceResult;
use crate::research::bench::table::protocol::of_column;
use crate::research::bench::table::{BASE, Measured, ResultsTable};
use crate::research::figure::page::Page;
use crate::research::figure::{Figure, write_all, wrote as wrote_to};

/// The results of one run of `bench`, which are printed as tables or as JSON and drawn as charts.
pub(in crate::cli) struct BenchOutput {
    pub base: (String, String),
    pub dataset: Dataset,
    pub file: PathBuf,
    pub layer: usize,
    pub cases: Vec<u64>,
    /// The records that are not edited, for example because they cannot be tokenized, each with the reason.
    pub left: Vec<RejectedRecord>,
    pub editors: Vec<EditorName>,
    pub results: ResultsLog,
    pub settings: BenchSettings,
    /// For each trained editor: its name, and a description of its training.
    pub trained: Vec<(String, String)>,
}

/// How the records of a table are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edits {
    Alone,
    Together,
    InBatches,
}

impl Edits {
    fn of(failed: &FailedEdit) -> Self {
        match failed.edited() {
            EditedRecords::One(_) => Self::Alone,
            EditedRecords::Set(_) => Self::Together,
            EditedRecords::Batches { .. } => Self::InBatches,
        }
    }
}

/// The tables: how the records are edited, the name of the file, and the heading on the HTML page.
const TABLES: [(Edits, &str, &str); 4] = [
    (Edits::Alone, "alone.md", "Each fact alone"),
    (Edits::Together, "together.md", "Many at once"),
    (Edits::InBatches, "after-each.md", "In batches, measured after each batch"),
    (Edits::InBatches, "after-all.md", "In batches, measured after all batches"),
];

type Grids = [Option<ResultsTable>; TABLES.len()];

impl BenchOutput {
    fn alone(&self) -> Vec<(String, Vec<&RecordResult>)> {
        let base = (BASE.to_owned(), self.results.rows(None, &self.cases));
        let editor = |name: &EditorName| (name.text().to_owned(), self.results.rows(Some(name.text()), &self.cases));
        std::iter::once(base).chain(self.editors.iter().map(editor)).collect()
    }

    fn together(&self) -> Vec<&BatchResult> {
        let mut all: Vec<&BatchResult> =
            self.editors.iter().flat_map(|name| self.results.batches(name.text())).collect();
        // The results are sorted by set size, so that all editing methods are adjacent for each size.
        all.sort_by_key(|one| one.size);
        all
    }

    fn sequences(&self) -> Vec<&SequenceResult> {
        let mut all: Vec<&SequenceResult> =
            self.editors.iter().flat_map(|name| self.results.sequences(name.text())).collect();
        all.sort_by_key(|one| one.batch);
        all
    }

    /// Returns the tables in the order of [`TABLES`]; `None` for a table without rows.
    fn grids(&self) -> Grids {
        let (alone, together, sequences) = (self.alone(), self.together(), self.sequences());
        let some = alone.iter().any(|(_, rows)| !rows.is_empty());
        let sequence = |when| (!sequences.is_empty()).then(|| ResultsTable::sequences(&sequences, when));
        [
            some.then(|| ResultsTable::single(&alone)),
            (!together.is_empty()).then(|| ResultsTable::batches(&together)),
            sequence(Measured::AfterEach),
            sequence(Measured::AfterAll),
        ]
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        let mut lines = vec![
            ("base", format!("{}  {}", self.base.0, self.base.1)),
            ("records", format!("{} of {file}, as {}", self.cases.len(), self.dataset.name())),
            ("layer", self.layer.to_string()),
        ];
        if let Some(form) = self.settings.said {
            lines.push(("texts", of_column("said", Some(form)).protocol.to_owned()));
        }
        if let Some(first) = self.left.first() {
            lines.push(("left out", format!("{}; {first}", plural(self.left.len(), "record"))));
        }
        lines.extend(self.trained.iter().map(|(name, text)| ("trained", format!("{name}: {text}"))));
        for kind in [Edits::Alone, Edits::Together, Edits::InBatches] {
            lines.extend(self.failed(kind).into_iter().map(|text| ("failed", text)));
        }
        lines
    }

    /// Returns one line for each editing method with failed edits of a kind: the number of failed edits, and the reason
    /// for the first one.
    fn failed(&self, kind: Edits) -> Vec<String> {
        let of = |name: &EditorName| {
            let all = self.results.failed(name.text()).into_iter().filter(|one| Edits::of(one) == kind);
            let all: Vec<&FailedEdit> = all.collect();
            let what = |one: &FailedEdit| match one.edited() {
                EditedRecords::One(record) => format!("record {record}"),
                EditedRecords::Set(size) => format!("{size} at once"),
                EditedRecords::Batches { size, batch } => format!("{size} in batches of {batch}"),
            };
            let first = all.first()?;
            Some(format!("{}, {}; {}: {}", name.text(), plural(all.len(), "edit"), what(first), first.why))
        };
        self.editors.iter().filter_map(of).collect()
    }

    fn figures(&self, alone: Option<&ResultsTable>) -> Vec<Figure> {
        let mut figures: Vec<Figure> =
            alone.iter().flat_map(|grid| [chart::scores(grid), chart::trade(grid)]).flatten().collect();
        let together = self.together();
        let grid = ResultsTable::batches(&together);
        let lines = |column: &str| {
            let line = |name: &EditorName| {
                let own = together.iter().filter(|one| one.editor == name.text());
                let point = |one: &&BatchResult| {
                    Some((one.size, grid.value(&format!("{} × {}", one.editor, one.size), column)?.value))
                };
                (name.text().to_owned(), own.filter_map(point).collect::<Vec<_>>())
            };
            self.editors.iter().map(line).filter(|(_, points)| !points.is_empty()).collect::<Vec<_>>()
        };
        let curves = [
            ("curve-score", "Score against the size of the set", ["S", "score"]),
            ("curve-efficacy", "Efficacy against the size of the set", ["ES", "efficacy"]),
            ("curve-paraphrase", "Paraphrases against the size of the set", ["PS", "paraphrase"]),
            ("curve-specificity", "Neighbours against the size of the set", ["NS", "specificity"]),
            ("curve-untouched", "Untouched facts that are still known", ["untouched"; 2]),
        ];
        figures.extend(curves.into_iter().filter_map(|(name, title, columns)| {
            // CounterFact and zsRE have different column names for the same metric, so each curve lists both names.
            let column = columns.into_iter().find(|column| grid.columns.contains(column))?;
            chart::curve(name, title, column, &lines(column))
        }));
        figures
    }
}

/// Prints the tables or the JSON output on stdout. `wrote` is the folder with the charts and the number of its files;
/// `None` if no folder was written.
pub(in crate::cli) fn answer(context: &Context, output: &BenchOutput, wrote: Option<(&Path, usize)>) {
    if context.format == Format::Json {
        context.answer_json(Outcome::Ok, &[], &Sources::default(), numbers(output, &output.grids()));
        return;
    }
    let width = context.ui.width();
    let mut head = Table::new(&[], &[]);
    for (name, value) in output.lines() {
        head.row([name.to_owned(), value]);
    }
    if let Some((out, files)) = wrote {
        head.row(["wrote".to_owned(), wrote_to(out, files)]);
    }
    let mut out = head.render_wrapped(width);
    for grid in output.grids().into_iter().flatten() {
        let _ = write!(out, "\n{}", grid.human(width));
    }
    context.ui.answer(&out);
}

/// Returns the fields of the JSON output: the settings of the run, the tables, the results of each record, and the
/// results of each set of records.
fn numbers<'t>(output: &'t BenchOutput, grids: &'t Grids) -> BenchAnswer<'t> {
    let [alone, together, after_each, after_all] = grids;
    BenchAnswer {
        base: NamedBase { name: output.base.0.clone(), digest: output.base.1.clone() },
        dataset: output.dataset.name(),
        file: output.file.display().to_string(),
        layer: output.layer,
        records: &output.cases,
        left_out: output.left.iter().map(RejectedEntry::from).collect(),
        failed: output.editors.iter().flat_map(|name| output.results.failed(name.text())).collect(),
        settings: &output.settings,
        trained: output.trained.iter().map(|(name, text)| format!("{name}: {text}")).collect(),
        protocols: grids
            .iter()
            .flatten()
            .flat_map(|grid| grid.columns.iter().map(|name| (*name, of_column(name, output.settings.said))))
            .collect(),
        alone: alone.as_ref().map(ResultsTable::named_rows),
        together: together.as_ref().map(ResultsTable::named_rows),
        after_each: after_each.as_ref().map(ResultsTable::named_rows),
        after_all: after_all.as_ref().map(ResultsTable::named_rows),
        rows: output.alone().into_iter().flat_map(|(_, rows)| rows).collect(),
        sets: output.together(),
        sequences: output.sequences(),
    }
}

/// Writes the tables, the charts, the HTML page and the JSON to a new folder. Returns the number of files.
pub(in crate::cli) fn write(place: Destination, output: &BenchOutput) -> Result<usize, Failure> {
    let grids = output.grids();
    let figures = output.figures(grids[0].as_ref());
    let mut files = Vec::new();
    for ((kind, name, _), grid) in TABLES.into_iter().zip(&grids) {
        if let Some(grid) = grid {
            let failed = output.failed(kind);
            let failed: String = failed.iter().map(|text| format!("\nFailed: {text}\n")).collect();
            let trained: String =
                output.trained.iter().map(|(editor, text)| format!("\nTrained {editor}: {text}\n")).collect();
            let form = output.settings.said.map(|form| of_column("said", Some(form)).protocol);
            let texts = form.map_or_else(String::new, |protocol| format!("\nTexts: {protocol}\n"));
            files.push((name, grid.markdown() + &texts + &trained + &failed));
        }
    }
    files.push(("index.html", page(output, &grids, &figures)));
    let numbers = serde_json::to_value(numbers(output, &grids)).expect("the keys are texts");
    files.push(("bench.json", format!("{numbers:#}\n")));
    let render_error = |why| Failure::from(Diagnostic::new(Code::BenchRefused, format!("the chart {why}")));
    write_all(place, &figures, &files, render_error)
}

fn page(output: &BenchOutput, grids: &Grids, figures: &[Figure]) -> String {
    let title = format!("Editors on {} of {}", plural(output.cases.len(), "record"), output.dataset.name());
    let lines: Vec<(String, String)> =
        output.lines().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut page = Page::new("bench", &title, &lines);
    for ((_, _, heading), grid) in TABLES.iter().zip(grids) {
        if let Some(grid) = grid {
            page.heading(heading);
            page.part(&grid.html());
        }
    }
    page.part("<p>The best value of a column is bold; a value that the paper counts as a clear failure is red.</p>\n");
    page.figures(figures);
    page.finish()
}
