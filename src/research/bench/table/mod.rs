//! Builds result tables as in Meng et al. 2022: means with 95 % intervals, and marks for the best value of a column and
//! for clear failures. [`render`](mod@render) formats the tables for a terminal and as Markdown, HTML and JSON.

pub mod protocol;
mod render;

use schemars::JsonSchema;
use serde::Serialize;

use super::metrics::counterfact::{self, LikelihoodMeans, harmonic};
use super::metrics::said::{self, SaidMetrics};
use super::metrics::zsre;
use super::run::{BatchResult, CaseMetrics, RecordResult};
use super::sequence::SequenceResult;
use crate::numeric::Mean;

pub use render::GridRow;

/// A value in a result table, with its 95 % interval and its marks for the best value and for a clear failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct TableCell {
    /// The value as shown in the table. The published metrics are multiplied by 100, as in Meng et al. 2022.
    pub value: f64,
    /// Half the width of the 95 % interval, in the unit of `value`; `None` if the value has no interval.
    pub half: Option<f64>,
    /// The number of decimal places to show.
    #[serde(skip)]
    pub digits: usize,
    /// Whether the value is the best of its column. Values that are equal after rounding are all marked.
    pub best: bool,
    /// Whether the value is a clear failure: not finite, or below the limit of its column (red in the tables of Meng et
    /// al. 2022).
    pub fails: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    name: &'static str,
    /// The limit below which a value is a clear failure (red in the tables of Meng et al. 2022).
    failing: Option<f64>,
    /// Whether larger values are better; `None` if no value of the column is marked as the best.
    more: Option<bool>,
}

const fn up(name: &'static str, failing: f64) -> Column {
    Column { name, failing: Some(failing), more: Some(true) }
}

const fn down(name: &'static str) -> Column {
    Column { name, failing: None, more: Some(false) }
}

const fn plain(name: &'static str, more: Option<bool>) -> Column {
    Column { name, failing: None, more }
}

const LIKELIER: [Column; 18] = [
    up("S", 50.0),
    up("ES", 75.0),
    up("EM", 20.0),
    up("PS", 60.0),
    up("PM", 10.0),
    up("NS", 45.0),
    up("NM", -5.0),
    up("GE", 600.0),
    up("RS", 31.0),
    plain(said::COLUMNS[0], Some(true)),
    plain(said::COLUMNS[1], Some(true)),
    plain(said::COLUMNS[2], Some(true)),
    plain(said::COLUMNS[3], Some(true)),
    plain(said::COLUMNS[4], Some(true)),
    down(said::COLUMNS[5]),
    down("not converged"),
    plain("s/edit", None),
    plain("MiB", None),
];
const RIGHT: [Column; 12] = [
    up("score", 20.0),
    up("efficacy", 50.0),
    up("paraphrase", 50.0),
    up("specificity", 20.0),
    plain(said::COLUMNS[0], Some(true)),
    plain(said::COLUMNS[1], Some(true)),
    plain(said::COLUMNS[2], Some(true)),
    plain(said::COLUMNS[3], Some(true)),
    plain(said::COLUMNS[4], Some(true)),
    down(said::COLUMNS[5]),
    plain("s/edit", None),
    plain("MiB", None),
];
const TOGETHER: [Column; 18] = [
    up("S", 50.0),
    up("ES", 75.0),
    up("PS", 60.0),
    up("NS", 45.0),
    plain("exact", Some(true)),
    plain("exact paraphrases", Some(true)),
    plain("exact neighbours", Some(true)),
    plain(said::COLUMNS[0], Some(true)),
    plain(said::COLUMNS[1], Some(true)),
    plain(said::COLUMNS[2], Some(true)),
    plain(said::COLUMNS[3], Some(true)),
    plain(said::COLUMNS[4], Some(true)),
    down(said::COLUMNS[5]),
    plain("untouched", Some(true)),
    down("damage"),
    down("not converged"),
    plain("s", None),
    plain("MiB", None),
];
const TOGETHER_RIGHT: [Column; 15] = [
    up("score", 20.0),
    up("efficacy", 50.0),
    up("paraphrase", 50.0),
    up("specificity", 20.0),
    plain(said::COLUMNS[0], Some(true)),
    plain(said::COLUMNS[1], Some(true)),
    plain(said::COLUMNS[2], Some(true)),
    plain(said::COLUMNS[3], Some(true)),
    plain(said::COLUMNS[4], Some(true)),
    down(said::COLUMNS[5]),
    plain("untouched", Some(true)),
    down("damage"),
    down("not converged"),
    plain("s", None),
    plain("MiB", None),
];

/// When the records of a sequence are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Every record right after its own batch.
    AfterEach,
    /// All records after the last batch.
    AfterAll,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultsTable {
    /// The header of the first column, which contains the row names.
    pub of: &'static str,
    /// The headers of the columns with values, such as `ES`.
    pub columns: Vec<&'static str>,
    /// The name of each row, and one value per column; `None` if the value was not measured.
    pub rows: Vec<(String, Vec<Option<TableCell>>)>,
}

fn hundredths(mean: Mean) -> Option<TableCell> {
    let half = Some(100.0 * mean.ci95);
    (mean.count > 0).then(|| TableCell { value: 100.0 * mean.value, half, digits: 1, ..TableCell::default() })
}

fn number(value: f64, digits: usize) -> Option<TableCell> {
    Some(TableCell { value, digits, ..TableCell::default() })
}

fn mebibytes(memory: impl Iterator<Item = Option<u64>>) -> Option<TableCell> {
    let most = memory.flatten().max()?;
    number(most as f64 / f64::from(1 << 20), 0)
}

impl ResultsTable {
    /// Builds the table of records edited alone, one row per editor. The row [`BASE`] has the results of the unedited
    /// base.
    pub fn single(editors: &[(String, Vec<&RecordResult>)]) -> Self {
        let likelier =
            editors.iter().flat_map(|(_, rows)| rows).all(|row| matches!(row.measured, CaseMetrics::Likelihoods(_)));
        let columns: &[Column] = if likelier { &LIKELIER } else { &RIGHT };
        let row = |(name, rows): &(String, Vec<&RecordResult>)| {
            let cells = if likelier { of_likelier(rows) } else { of_right(rows) };
            (name.clone(), cells)
        };
        // An editor that failed on some records has means over fewer records. These means are not comparable with the
        // means of the other editors, so they are not marked as the best.
        let most = editors.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        let apart = |name: &str| name == BASE || editors.iter().any(|(other, rows)| other == name && rows.len() < most);
        let rows = editors.iter().filter(|(_, rows)| !rows.is_empty()).map(row).collect();
        Self::of_rows("editor", columns, &mark(columns, rows, apart))
    }

    /// Builds the table of sets of records edited at once, one row per editor and set size. The best value is marked
    /// separately for each set size.
    pub fn batches(all: &[&BatchResult]) -> Self {
        let likelier = all.iter().flat_map(|one| &one.measured).all(|measured| measured.likelihoods().is_some());
        let columns: &[Column] = if likelier { &TOGETHER } else { &TOGETHER_RIGHT };
        let row = |one: &&BatchResult| (format!("{} × {}", one.editor, one.size), of_together(one, likelier));
        let mut rows = Vec::new();
        for some in all.chunk_by(|a, b| a.size == b.size) {
            rows.extend(mark(columns, some.iter().map(row).collect(), |_| false));
        }
        Self::of_rows("editor × facts", columns, &rows)
    }

    /// Builds a table of records edited in batches, one row per editor and batch size. The numbers after each
    /// batch are not comparable with those at the end, so each have their own table.
    pub fn sequences(all: &[&SequenceResult], when: Measured) -> Self {
        let part = |one: &SequenceResult| match when {
            Measured::AfterEach => one.after_each.clone(),
            Measured::AfterAll => one.after_all.clone(),
        };
        let of = match when {
            Measured::AfterEach => "after each batch",
            Measured::AfterAll => "after all batches",
        };
        let likelier = all.iter().flat_map(|one| part(one).measured).all(|measured| measured.likelihoods().is_some());
        let columns: &[Column] = if likelier { &TOGETHER } else { &TOGETHER_RIGHT };
        let row = |one: &&SequenceResult| {
            let (result, batch) = (part(one), one.batch);
            (format!("{} × {} by {batch}", result.editor, result.size), of_together(&result, likelier))
        };
        let mut rows = Vec::new();
        for some in all.chunk_by(|a, b| a.batch == b.batch) {
            rows.extend(mark(columns, some.iter().map(row).collect(), |_| false));
        }
        Self::of_rows(of, columns, &rows)
    }

    /// Returns the value in the row and the column with the given names. Returns `None` if there is no such row or
    /// column, or if the value was not measured.
    pub fn value(&self, row: &str, column: &str) -> Option<&TableCell> {
        let index = self.columns.iter().position(|name| *name == column)?;
        self.rows.iter().find(|(name, _)| name == row)?.1[index].as_ref()
    }

    /// Builds a table and omits the columns in which all cells are `None`.
    fn of_rows(of: &'static str, columns: &[Column], rows: &[TableRow]) -> Self {
        let some = |index: &usize| rows.iter().any(|(_, cells)| cells[*index].is_some());
        let kept: Vec<usize> = (0..columns.len()).filter(some).collect();
        let pick = |(name, cells): &TableRow| (name.clone(), kept.iter().map(|index| cells[*index].clone()).collect());
        let columns = kept.iter().map(|index| columns[*index].name).collect();
        Self { of, columns, rows: rows.iter().map(pick).collect() }
    }
}

type TableRow = (String, Vec<Option<TableCell>>);

/// Marks the clear failures, and the best value of each column. `left_out` is called with the name of a row; if it
/// returns true, the row is ignored in the search for the best value. No value is the best of a column with one value.
fn mark(columns: &[Column], mut rows: Vec<TableRow>, left_out: impl Fn(&str) -> bool) -> Vec<TableRow> {
    for (index, column) in columns.iter().enumerate() {
        let shown = |cell: &TableCell| format!("{:.*}", cell.digits, cell.value);
        let better = |a: f64, b: f64| if column.more == Some(true) { a > b } else { a < b };
        let others = rows.iter().filter(|(name, _)| !left_out(name)).filter_map(|(_, cells)| cells[index].as_ref());
        let count = others.clone().count();
        let others = others.filter(|cell| cell.value.is_finite());
        let best = others.reduce(|best, cell| if better(cell.value, best.value) { cell } else { best }).map(shown);
        let best = best.filter(|_| column.more.is_some() && count > 1);
        for (name, cells) in &mut rows {
            let Some(cell) = &mut cells[index] else { continue };
            cell.best = !left_out(name) && best.as_ref() == Some(&shown(cell));
            cell.fails = column.failing.is_some_and(|failing| cell.value < failing) || !cell.value.is_finite();
        }
    }
    rows
}

/// The name of the row with the results of the unedited base.
pub const BASE: &str = "base";

fn of_likelier(rows: &[&RecordResult]) -> Vec<Option<TableCell>> {
    let measured: Vec<_> = rows.iter().filter_map(|row| row.measured.likelihoods()).collect();
    let figures = LikelihoodMeans::of(&measured);
    let mean = |number: &dyn Fn(&RecordResult) -> Option<f64>| {
        Mean::of_population(&rows.iter().filter_map(|row| number(row)).collect::<Vec<_>>())
    };
    let unconverged = rows.iter().filter_map(|row| row.unconverged).map(usize::from).reduce(|a, b| a + b);
    let [es, em, _] = figures.rewrite;
    let [ps, pm, _] = figures.paraphrase;
    let [ns, nm, _] = figures.neighbour;
    let mut cells = vec![
        number(100.0 * figures.score(), 1),
        hundredths(es),
        hundredths(em),
        hundredths(ps),
        hundredths(pm),
        hundredths(ns),
        hundredths(nm),
        hundredths(mean(&|row| row.fluency)),
        hundredths(mean(&|row| row.consistency)),
    ];
    cells.extend(of_said(rows.iter().filter_map(|row| row.said)));
    cells.extend([
        unconverged.and_then(|count| number(count as f64, 0)),
        of_edits(&mean(&|row| row.seconds)),
        mebibytes(rows.iter().map(|row| row.memory)),
    ]);
    cells
}

/// Returns the cells of the generated texts, one per name in [`said::COLUMNS`].
fn of_said(measured: impl Iterator<Item = SaidMetrics>) -> impl Iterator<Item = Option<TableCell>> {
    said::means(&measured.collect::<Vec<_>>()).into_iter().map(hundredths)
}

/// Returns the table cell with the mean duration of the edits in seconds; `None` if no edit was timed.
fn of_edits(seconds: &Mean) -> Option<TableCell> {
    number(seconds.value, 2).filter(|_| seconds.count > 0)
}

fn of_right(rows: &[&RecordResult]) -> Vec<Option<TableCell>> {
    let seconds = Mean::of_population(&rows.iter().filter_map(|row| row.seconds).collect::<Vec<_>>());
    let mut cells = shares(rows.iter().filter_map(|row| row.measured.tokens()));
    cells.extend(of_said(rows.iter().filter_map(|row| row.said)));
    cells.push(of_edits(&seconds));
    cells.push(mebibytes(rows.iter().map(|row| row.memory)));
    cells
}

/// Returns the cells of score, efficacy, paraphrase and specificity for zsRE, where each metric is a share of correct
/// tokens.
fn shares(measured: impl Iterator<Item = zsre::TokenMetrics>) -> Vec<Option<TableCell>> {
    let parts = zsre::means(&measured.collect::<Vec<_>>());
    let score = 100.0 * harmonic(parts.iter().map(|mean| mean.value));
    std::iter::once(number(score, 1)).chain(parts.map(hundredths)).collect()
}

/// Returns the cells of S, ES, PS and NS for CounterFact, and three cells with the shares of edited prompts,
/// paraphrases and neighbours for which the model predicts every token of the expected answer.
fn comparisons(measured: impl Iterator<Item = counterfact::LikelihoodMetrics>) -> Vec<Option<TableCell>> {
    let figures = LikelihoodMeans::of(&measured.collect::<Vec<_>>());
    let parts = [figures.rewrite, figures.paraphrase, figures.neighbour];
    let score = number(100.0 * figures.score(), 1);
    let of = |index: usize| parts.map(|part| hundredths(part[index]));
    std::iter::once(score).chain(of(0)).chain(of(2)).collect()
}

fn of_together(one: &BatchResult, likelier: bool) -> Vec<Option<TableCell>> {
    let mut cells = if likelier {
        comparisons(one.measured.iter().filter_map(CaseMetrics::likelihoods))
    } else {
        shares(one.measured.iter().filter_map(CaseMetrics::tokens))
    };
    cells.extend(of_said(one.said.iter().copied()));
    let untouched = one.untouched.and_then(|(kept, all)| number(kept as f64 / all as f64, 2));
    let damage = one.damage.and_then(|(divergence, _)| number(divergence.unwrap_or(f64::INFINITY), 3));
    let unconverged = one.unconverged.and_then(|count| number(count as f64, 0));
    cells.extend([untouched, damage, unconverged, number(one.seconds, 1)]);
    cells.push(mebibytes(std::iter::once(one.memory)));
    cells
}

impl CaseMetrics {
    /// Returns the metrics of CounterFact; `None` if the record has the metrics of zsRE.
    pub fn likelihoods(&self) -> Option<counterfact::LikelihoodMetrics> {
        if let Self::Likelihoods(measured) = self { Some(*measured) } else { None }
    }

    /// Returns the metrics of zsRE; `None` if the record has the metrics of CounterFact.
    pub fn tokens(&self) -> Option<zsre::TokenMetrics> {
        if let Self::Tokens(measured) = self { Some(*measured) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::counterfact::PromptMetrics;
    use super::*;

    fn row(editor: Option<&str>, success: f64) -> RecordResult {
        let part = PromptMetrics { success, magnitude: success - 0.5, exact: success };
        let measured = counterfact::LikelihoodMetrics { rewrite: part, paraphrase: Some(part), neighbour: Some(part) };
        RecordResult {
            editor: editor.map(str::to_owned),
            record: 1,
            case: 1,
            measured: CaseMetrics::Likelihoods(measured),
            fluency: Some(6.2),
            consistency: None,
            said: None,
            seconds: editor.is_some().then_some(2.0),
            memory: Some(3 << 20),
            unconverged: editor.is_some().then_some(success < 0.5),
        }
    }

    #[test]
    fn a_set_of_shares_is_headed_as_shares() {
        let right = zsre::TokenMetrics { rewrite: 0.2, paraphrase: None, neighbour: None };
        let set = BatchResult {
            editor: "rome".to_owned(),
            size: 2,
            measured: vec![CaseMetrics::Tokens(right); 2],
            said: Vec::new(),
            untouched: None,
            damage: Some((Some(0.5), Some(1.0))),
            seconds: 1.0,
            memory: None,
            unconverged: Some(0),
        };
        let other =
            BatchResult { editor: "ft".to_owned(), damage: Some((None, None)), unconverged: None, ..set.clone() };
        insta::assert_snapshot!(ResultsTable::batches(&[&set, &other]).human(usize::MAX));
    }

    #[test]
    fn the_best_and_the_failing_are_marked() {
        let (base, good, bad) = (row(None, 0.2), row(Some("rome"), 1.0), row(Some("ft"), 0.4));
        let editors = [
            (BASE.to_owned(), vec![&base]),
            ("rome".to_owned(), vec![&good, &good]),
            ("ft".to_owned(), vec![&bad, &bad]),
        ];
        let grid = ResultsTable::single(&editors);
        insta::assert_snapshot!(grid.human(usize::MAX));
        insta::assert_snapshot!(grid.markdown());
        insta::assert_snapshot!(grid.human(40));
        assert!(grid.value("rome", "S").expect("there").best && grid.value("ft", "NS").expect("there").fails);
        assert_eq!(grid.value("rome", "RS"), None, "the column RS has no values and is omitted");
        assert!(grid.html().contains("<b>100.0 (0.0)</b>"), "{}", grid.html());
    }
}
