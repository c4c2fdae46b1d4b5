//! Writes the answer of `bench`: tables for a terminal, JSON with all numbers, and a folder of charts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, escape_controls};
use crate::export::destination::Place;
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use crate::research::bench::chart;
use crate::research::bench::data::{Dataset, Refused};
use crate::research::bench::editors::Name;
use crate::research::bench::results_log::Kept;
use crate::research::bench::run::{Failed, Row, Together};
use crate::research::bench::table::{BASE, Grid};
use crate::research::figure::Figure;
use crate::research::figure::page::Page;
use crate::research::figure::png::Painter;

/// The results of one run of `bench`, from which the answer is formatted.
pub(crate) struct Told {
    pub base: (String, String),
    pub dataset: Dataset,
    pub file: PathBuf,
    pub layer: usize,
    pub cases: Vec<u64>,
    /// Records that are malformed, that the model cannot read, or whose prompt is that of another record.
    pub left: Vec<Refused>,
    pub editors: Vec<Name>,
    pub kept: Kept,
    pub settings: Value,
}

impl Told {
    fn alone(&self) -> Vec<(String, Vec<&Row>)> {
        let base = (BASE.to_owned(), self.kept.rows(None, &self.cases));
        let editor = |name: &Name| (name.text().to_owned(), self.kept.rows(Some(name.text()), &self.cases));
        std::iter::once(base).chain(self.editors.iter().map(editor)).collect()
    }

    fn together(&self) -> Vec<&Together> {
        let mut all: Vec<&Together> = self.editors.iter().flat_map(|name| self.kept.together(name.text())).collect();
        // Sort by set size, so that the editors of one size are next to each other.
        all.sort_by_key(|one| one.size);
        all
    }

    fn grids(&self) -> [Option<Grid>; 2] {
        let alone = self.alone();
        let some = alone.iter().any(|(_, rows)| !rows.is_empty());
        let together = self.together();
        [some.then(|| Grid::alone(&alone)), (!together.is_empty()).then(|| Grid::together(&together))]
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        let mut lines = vec![
            ("base", format!("{}  {}", self.base.0, self.base.1)),
            ("records", format!("{} of {file}, as {}", self.cases.len(), self.dataset.name())),
            ("layer", self.layer.to_string()),
        ];
        if let Some(first) = self.left.first() {
            lines.push(("left out", format!("{}; {first}", plural(self.left.len(), "record"))));
        }
        for many in [false, true] {
            lines.extend(self.failed(many).into_iter().map(|text| ("failed", text)));
        }
        lines
    }

    /// Returns one line per editor with failed edits: the number of failures, and the reason of the first one. With
    /// `many`, the edits of sets are counted, otherwise those of single records.
    fn failed(&self, many: bool) -> Vec<String> {
        let of = |name: &Name| {
            let all = self.kept.failed(name.text()).into_iter().filter(|one| one.size.is_some() == many);
            let all: Vec<&Failed> = all.collect();
            let what = |one: &Failed| match (one.record, one.size) {
                (Some(record), _) => format!("record {record}"),
                (_, size) => format!("{} at once", size.unwrap_or_default()),
            };
            let first = all.first()?;
            Some(format!("{}, {}; {}: {}", name.text(), plural(all.len(), "edit"), what(first), first.why))
        };
        self.editors.iter().filter_map(of).collect()
    }

    fn figures(&self, alone: Option<&Grid>) -> Vec<Figure> {
        let mut figures: Vec<Figure> =
            alone.iter().flat_map(|grid| [chart::scores(grid), chart::trade(grid)]).flatten().collect();
        let together = self.together();
        let grid = Grid::together(&together);
        let lines = |column: &str| {
            let line = |name: &Name| {
                let own = together.iter().filter(|one| one.editor == name.text());
                let point = |one: &&Together| {
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
            // The name of the column depends on the dataset.
            let column = columns.into_iter().find(|column| grid.columns.contains(column))?;
            chart::curve(name, title, column, &lines(column))
        }));
        figures
    }
}

/// Prints the tables or the JSON answer on stdout. `wrote` is the folder with the charts and its number of files.
pub(crate) fn answer(context: &Context, told: &Told, wrote: Option<(&Path, usize)>) {
    if context.format == Format::Json {
        context.answer_json(Outcome::Ok, &[], &Sources::default(), json(told));
        return;
    }
    let width = context.ui.width();
    let mut head = Table::new(&[], &[]);
    for (name, value) in told.lines() {
        head.row([name.to_owned(), value]);
    }
    if let Some((out, files)) = wrote {
        head.row([
            "wrote".to_owned(),
            format!("{}: {}", escape_controls(&out.display().to_string()), plural(files, "file")),
        ]);
    }
    let mut out = head.render_wrapped(width);
    for grid in told.grids().into_iter().flatten() {
        let _ = write!(out, "\n{}", grid.human(width));
    }
    context.ui.answer(&out);
}

/// Returns the JSON answer: the run's settings, the tables, and the results of every record and set.
fn json(told: &Told) -> Value {
    let [alone, together] = told.grids();
    let rows: Vec<&Row> = told.alone().into_iter().flat_map(|(_, rows)| rows).collect();
    let left = told.left.iter().map(|one| json!({ "record": one.record, "case_id": one.id, "why": one.why }));
    let failed = told.editors.iter().flat_map(|name| told.kept.failed(name.text()));
    json!({
        "base": { "name": told.base.0, "digest": told.base.1 },
        "dataset": told.dataset.name(), "file": told.file.display().to_string(), "layer": told.layer,
        "records": told.cases, "left_out": left.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(), "settings": told.settings,
        "alone": alone.map(|grid| grid.json()), "together": together.map(|grid| grid.json()),
        "rows": rows, "sets": told.together(),
    })
}

/// Writes the tables, the charts, the HTML page and the JSON to a new folder. Returns the number of files.
pub(crate) fn write(place: Place, told: &Told) -> Result<usize, Failure> {
    let (painter, grids) = (Painter::default(), told.grids());
    let figures = told.figures(grids[0].as_ref());
    let staging = place.stage()?;
    let mut files = 0;
    let mut put = |name: &str, bytes: &[u8]| -> Result<(), Failure> {
        staging.write(name, |out| out.write_all(bytes))?;
        files += 1;
        Ok(())
    };
    for figure in &figures {
        let files = figure.files(&painter).map_err(|why| {
            let finding = Diagnostic::new(Code::BenchRefused, format!("the chart {why}"));
            Failure::from(finding)
        })?;
        for (name, bytes) in files {
            put(&name, &bytes)?;
        }
    }
    for (name, grid) in ["alone.md", "together.md"].into_iter().zip(&grids) {
        if let Some(grid) = grid {
            let failed = told.failed(name == "together.md");
            let failed: String = failed.iter().map(|text| format!("\nFailed: {text}\n")).collect();
            put(name, (grid.markdown() + &failed).as_bytes())?;
        }
    }
    put("index.html", page(told, &grids, &figures).as_bytes())?;
    put("bench.json", format!("{:#}\n", json(told)).as_bytes())?;
    staging.commit()?;
    Ok(files)
}

/// Returns an HTML page with the tables and the charts.
fn page(told: &Told, grids: &[Option<Grid>; 2], figures: &[Figure]) -> String {
    let title = format!("Editors on {} of {}", plural(told.cases.len(), "record"), told.dataset.name());
    let lines: Vec<(String, String)> = told.lines().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut page = Page::new("bench", &title, &lines);
    for (title, grid) in ["Each fact alone", "Many at once"].iter().zip(grids) {
        if let Some(grid) = grid {
            page.heading(title);
            page.part(&grid.html());
        }
    }
    page.part("<p>The best value of a column is bold; a value that the paper counts as a clear failure is red.</p>\n");
    page.figures(figures);
    page.finish()
}
