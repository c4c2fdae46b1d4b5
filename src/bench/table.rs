//! Rows as the published tables have them: means with 95 % intervals, the best of a column marked, clear failures too.

use std::fmt::Write as _;

use super::metrics::counterfact::{Figures, harmonic};
use super::metrics::zsre;
use super::run::{Measured, Row, Together};
use crate::figure::svg::escaped;
use crate::numeric::Mean;
use crate::report::table::Table;

/// A number of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The number, as it is shown: in hundredths where the published tables have it so.
    pub value: f64,
    /// Half of its 95 % interval, where it has one.
    pub half: Option<f64>,
    /// Digits behind the point.
    pub digits: usize,
    /// Whether it is the best of its column.
    pub best: bool,
    /// Whether it is below what the paper counts as a clear failure.
    pub fails: bool,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    name: &'static str,
    /// Below this an editor clearly fails (the red numbers of the paper's tables).
    failing: Option<f64>,
    /// Whether more is better; none where neither is.
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

const LIKELIER: [Column; 12] = [
    up("S", 50.0),
    up("ES", 75.0),
    up("EM", 20.0),
    up("PS", 60.0),
    up("PM", 10.0),
    up("NS", 45.0),
    up("NM", -5.0),
    up("GE", 600.0),
    up("RS", 31.0),
    down("not converged"),
    plain("s/edit", None),
    plain("MiB", None),
];
const RIGHT: [Column; 6] = [
    up("score", 20.0),
    up("efficacy", 50.0),
    up("paraphrase", 50.0),
    up("specificity", 20.0),
    plain("s/edit", None),
    plain("MiB", None),
];
const TOGETHER: [Column; 12] = [
    up("S", 50.0),
    up("ES", 75.0),
    up("PS", 60.0),
    up("NS", 45.0),
    plain("exact", Some(true)),
    plain("exact paraphrases", Some(true)),
    plain("exact neighbours", Some(true)),
    plain("untouched", Some(true)),
    down("damage"),
    down("not converged"),
    plain("s", None),
    plain("MiB", None),
];

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// What the first column names.
    pub of: &'static str,
    /// The names of the others.
    pub columns: Vec<&'static str>,
    /// The rows by name.
    pub rows: Vec<(String, Vec<Option<Cell>>)>,
}

fn hundredths(mean: Mean) -> Option<Cell> {
    let half = Some(100.0 * mean.half);
    (mean.count > 0).then(|| Cell { value: 100.0 * mean.value, half, digits: 1, ..Cell::default() })
}

fn number(value: f64, digits: usize) -> Option<Cell> {
    Some(Cell { value, digits, ..Cell::default() })
}

fn mebibytes(memory: impl Iterator<Item = Option<u64>>) -> Option<Cell> {
    let most = memory.flatten().max()?;
    number(most as f64 / f64::from(1 << 20), 0)
}

impl Grid {
    /// Each record alone, by editor; the base is called `base`.
    pub fn alone(editors: &[(String, Vec<&Row>)]) -> Self {
        let likelier =
            editors.iter().flat_map(|(_, rows)| rows).all(|row| matches!(row.measured, Measured::Likelier(_)));
        let columns: &[Column] = if likelier { &LIKELIER } else { &RIGHT };
        let row = |(name, rows): &(String, Vec<&Row>)| {
            let cells = if likelier { of_likelier(rows) } else { of_right(rows) };
            (name.clone(), cells)
        };
        let rows = editors.iter().filter(|(_, rows)| !rows.is_empty()).map(row).collect();
        Self::of_rows("editor", columns, &mark(columns, rows, |name| name == BASE))
    }

    /// Many at once: a row an editor and size; the best is that of its size.
    pub fn together(all: &[&Together]) -> Self {
        let row = |one: &&Together| (format!("{} × {}", one.editor, one.size), of_together(one));
        let mut rows = Vec::new();
        for some in all.chunk_by(|a, b| a.size == b.size) {
            rows.extend(mark(&TOGETHER, some.iter().map(row).collect(), |_| false));
        }
        Self::of_rows("editor × facts", &TOGETHER, &rows)
    }

    /// A column that nobody has a number for says nothing, and is left out.
    fn of_rows(of: &'static str, columns: &[Column], rows: &[Line]) -> Self {
        let some = |index: &usize| rows.iter().any(|(_, cells)| cells[*index].is_some());
        let kept: Vec<usize> = (0..columns.len()).filter(some).collect();
        let pick = |(name, cells): &Line| (name.clone(), kept.iter().map(|index| cells[*index].clone()).collect());
        let columns = kept.iter().map(|index| columns[*index].name).collect();
        Self { of, columns, rows: rows.iter().map(pick).collect() }
    }
}

/// A row: its name and its cells.
type Line = (String, Vec<Option<Cell>>);

/// Marks the best of every column, among those that are not left out, and what clearly fails.
fn mark(columns: &[Column], mut rows: Vec<Line>, left_out: impl Fn(&str) -> bool) -> Vec<Line> {
    for (index, column) in columns.iter().enumerate() {
        let shown = |cell: &Cell| format!("{:.*}", cell.digits, cell.value);
        let better = |a: f64, b: f64| if column.more == Some(true) { a > b } else { a < b };
        let others = rows.iter().filter(|(name, _)| !left_out(name)).filter_map(|(_, cells)| cells[index].as_ref());
        let count = others.clone().count();
        let best = others.reduce(|best, cell| if better(cell.value, best.value) { cell } else { best }).map(shown);
        let best = best.filter(|_| column.more.is_some() && count > 1);
        for (name, cells) in &mut rows {
            let Some(cell) = &mut cells[index] else { continue };
            cell.best = !left_out(name) && best.as_ref() == Some(&shown(cell));
            cell.fails = column.failing.is_some_and(|failing| cell.value < failing);
        }
    }
    rows
}

/// The name of the base in tables.
pub const BASE: &str = "base";

fn of_likelier(rows: &[&Row]) -> Vec<Option<Cell>> {
    let measured: Vec<_> = rows.iter().filter_map(|row| row.measured.likelier()).collect();
    let figures = Figures::of(&measured);
    let mean = |number: &dyn Fn(&Row) -> Option<f64>| {
        Mean::of_all(&rows.iter().filter_map(|row| number(row)).collect::<Vec<_>>())
    };
    let edited = rows.iter().all(|row| row.editor.is_some());
    let unconverged = rows.iter().filter(|row| row.unconverged).count();
    let [es, em, _] = figures.rewrite;
    let [ps, pm, _] = figures.paraphrase;
    let [ns, nm, _] = figures.neighbour;
    vec![
        number(100.0 * figures.score(), 1),
        hundredths(es),
        hundredths(em),
        hundredths(ps),
        hundredths(pm),
        hundredths(ns),
        hundredths(nm),
        hundredths(mean(&|row| row.fluency)),
        hundredths(mean(&|row| row.consistency)),
        edited.then(|| number(unconverged as f64, 0)).flatten(),
        edited.then(|| number(mean(&|row| Some(row.seconds)).value, 2)).flatten(),
        mebibytes(rows.iter().map(|row| row.memory)),
    ]
}

fn of_right(rows: &[&Row]) -> Vec<Option<Cell>> {
    let measured: Vec<_> = rows.iter().filter_map(|row| row.measured.right()).collect();
    let [efficacy, paraphrase, specificity] = zsre::figures(&measured);
    let score = 100.0 * harmonic([efficacy, paraphrase, specificity].iter().map(|mean| mean.value));
    let edited = rows.iter().all(|row| row.editor.is_some());
    let seconds = Mean::of(&rows.iter().map(|row| row.seconds).collect::<Vec<_>>()).value;
    vec![
        number(score, 1),
        hundredths(efficacy),
        hundredths(paraphrase),
        hundredths(specificity),
        edited.then(|| number(seconds, 2)).flatten(),
        mebibytes(rows.iter().map(|row| row.memory)),
    ]
}

fn of_together(one: &Together) -> Vec<Option<Cell>> {
    let mut cells = match one.measured.first() {
        Some(Measured::Right(_)) => {
            let measured: Vec<_> = one.measured.iter().filter_map(Measured::right).collect();
            let [efficacy, paraphrase, specificity] = zsre::figures(&measured);
            let score = 100.0 * harmonic([efficacy, paraphrase, specificity].iter().map(|mean| mean.value));
            vec![
                number(score, 1),
                hundredths(efficacy),
                hundredths(paraphrase),
                hundredths(specificity),
                None,
                None,
                None,
            ]
        }
        _ => {
            let measured: Vec<_> = one.measured.iter().filter_map(Measured::likelier).collect();
            let figures = Figures::of(&measured);
            let parts = [figures.rewrite, figures.paraphrase, figures.neighbour];
            let [es, ps, ns] = parts.map(|part| hundredths(part[0]));
            let exact = parts.map(|part| hundredths(part[2]));
            [vec![number(100.0 * figures.score(), 1), es, ps, ns], exact.into()].concat()
        }
    };
    let untouched = one.untouched.and_then(|(kept, all)| number(kept as f64 / all as f64, 2));
    let damage = one.damage.and_then(|(divergence, _)| number(divergence, 3));
    cells.extend([untouched, damage, number(one.unconverged as f64, 0), number(one.seconds, 1)]);
    cells.push(mebibytes(std::iter::once(one.memory)));
    cells
}

impl Cell {
    fn text(&self) -> String {
        let half = self.half.map_or_else(String::new, |half| format!(" ({half:.*})", self.digits));
        let value = format!("{:.*}", self.digits, self.value);
        let value = if value.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
            value.trim_start_matches('-').to_owned()
        } else {
            value
        };
        format!("{value}{half}")
    }
}

impl Grid {
    /// For a terminal: the best with `*`, failures with `!`.
    pub fn human(&self, width: usize) -> String {
        let mut table = Table::new(&[], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        table.row(std::iter::once(self.of).chain(self.columns.iter().copied()));
        for (name, cells) in &self.rows {
            let cell = |cell: &Option<Cell>| {
                cell.as_ref().map_or_else(String::new, |cell| {
                    let mark = if cell.best {
                        "*"
                    } else if cell.fails {
                        "!"
                    } else {
                        " "
                    };
                    format!("{}{mark}", cell.text())
                })
            };
            table.row(std::iter::once(name.clone()).chain(cells.iter().map(cell)));
        }
        match table.fits(width) {
            true => table.render(width),
            false => self.below(),
        }
    }

    /// A line a number, for narrow terminals.
    fn below(&self) -> String {
        let mut out = String::new();
        for (name, cells) in &self.rows {
            let _ = writeln!(out, "{name}");
            let mut table = Table::new(&[], &[]);
            for (column, cell) in self.columns.iter().zip(cells) {
                if let Some(cell) = cell {
                    let mark = if cell.best {
                        " *"
                    } else if cell.fails {
                        " !"
                    } else {
                        ""
                    };
                    table.row([format!("  {column}"), format!("{}{mark}", cell.text())]);
                }
            }
            out.push_str(&table.render(usize::MAX));
        }
        out
    }

    /// For a document: the best in bold, failures with `!`.
    pub fn markdown(&self) -> String {
        let mut out =
            format!("| {} | {} |\n|---|{}\n", self.of, self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            let cell = |cell: &Option<Cell>| {
                cell.as_ref().map_or_else(String::new, |cell| match (cell.best, cell.fails) {
                    (true, _) => format!("**{}**", cell.text()),
                    (_, true) => format!("{} !", cell.text()),
                    _ => cell.text(),
                })
            };
            let cells: Vec<String> = cells.iter().map(cell).collect();
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
        out
    }

    /// For a page.
    pub fn html(&self) -> String {
        let mut out = format!("<div class=\"box\" tabindex=\"0\"><table>\n<thead><tr><th>{}</th>", escaped(self.of));
        for column in &self.columns {
            let _ = write!(out, "<th class=\"number\">{}</th>", escaped(column));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (name, cells) in &self.rows {
            let _ = write!(out, "<tr><th>{}</th>", escaped(name));
            for cell in cells {
                let text = cell.as_ref().map_or_else(String::new, |cell| {
                    let text = escaped(&cell.text());
                    match (cell.best, cell.fails) {
                        (true, _) => format!("<b>{text}</b>"),
                        (_, true) => format!("<span class=\"fails\">{text}</span>"),
                        _ => text,
                    }
                });
                let _ = write!(out, "<td class=\"number\">{text}</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n");
        out
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let row = |(name, cells): &(String, Vec<Option<Cell>>)| {
            let mut fields = serde_json::Map::from_iter([("name".to_owned(), name.clone().into())]);
            for (column, cell) in self.columns.iter().zip(cells) {
                let value = cell.as_ref().map(|cell| {
                    serde_json::json!({ "value": cell.value, "half": cell.half, "best": cell.best, "fails": cell.fails })
                });
                fields.insert((*column).to_owned(), value.into());
            }
            serde_json::Value::Object(fields)
        };
        self.rows.iter().map(row).collect()
    }

    /// A number of a row.
    pub fn value(&self, row: &str, column: &str) -> Option<&Cell> {
        let index = self.columns.iter().position(|name| *name == column)?;
        self.rows.iter().find(|(name, _)| name == row)?.1[index].as_ref()
    }
}

impl Measured {
    /// The comparison, if it is one.
    pub fn likelier(&self) -> Option<super::metrics::counterfact::Measured> {
        if let Self::Likelier(measured) = self { Some(*measured) } else { None }
    }

    /// The shares of tokens, if they are some.
    pub fn right(&self) -> Option<zsre::Measured> {
        if let Self::Right(measured) = self { Some(*measured) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::counterfact::{self, Part};
    use super::*;

    fn row(editor: Option<&str>, success: f64) -> Row {
        let part = Part { success, magnitude: success - 0.5, exact: success };
        let measured = counterfact::Measured { rewrite: part, paraphrase: Some(part), neighbour: Some(part) };
        Row {
            editor: editor.map(str::to_owned),
            record: 1,
            case: 1,
            measured: Measured::Likelier(measured),
            fluency: Some(6.2),
            consistency: None,
            seconds: 2.0,
            memory: Some(3 << 20),
            unconverged: success < 0.5,
        }
    }

    #[test]
    fn the_best_and_the_failing_are_marked() {
        let (base, good, bad) = (row(None, 0.2), row(Some("rome"), 1.0), row(Some("ft"), 0.4));
        let editors =
            [(BASE.to_owned(), vec![&base]), ("rome".to_owned(), vec![&good, &good]), ("ft".to_owned(), vec![&bad])];
        let grid = Grid::alone(&editors);
        insta::assert_snapshot!(grid.human(usize::MAX));
        insta::assert_snapshot!(grid.markdown());
        insta::assert_snapshot!(grid.human(40));
        assert!(grid.value("rome", "S").expect("there").best && grid.value("ft", "NS").expect("there").fails);
        assert_eq!(grid.value("rome", "RS"), None, "nobody has it");
        assert!(grid.html().contains("<b>100.0 (0.0)</b>"), "{}", grid.html());
    }
}
