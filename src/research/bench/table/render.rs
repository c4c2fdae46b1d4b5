//! Formats a result table for a terminal and as Markdown, HTML and JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::{ResultsTable, TableCell};
use crate::report::table::Table;
use crate::research::figure::svg::escaped;

/// The columns with numbers: all but the first one.
const NUMBERS: [usize; 18] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];

impl TableCell {
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

impl TableCell {
    /// Returns `*` for the best value of a column, `!` for a clear failure, `*!` for both; `None` for any other value.
    fn marks(&self) -> Option<&'static str> {
        match (self.best, self.fails) {
            (true, true) => Some("*!"),
            (true, false) => Some("*"),
            (false, true) => Some("!"),
            (false, false) => None,
        }
    }
}

impl ResultsTable {
    /// Formats the table for a terminal of `width` columns, with `*` for the best value and `!` for a clear failure. If
    /// the table is too wide, each value is on a separate line.
    pub fn human(&self, width: usize) -> String {
        let mut table = Table::new(&[], &NUMBERS);
        table.row(std::iter::once(self.of).chain(self.columns.iter().copied()));
        for (name, cells) in &self.rows {
            let cell = |cell: &Option<TableCell>| {
                cell.as_ref().map_or_else(String::new, |cell| format!("{}{}", cell.text(), cell.marks().unwrap_or(" ")))
            };
            table.row(std::iter::once(name.clone()).chain(cells.iter().map(cell)));
        }
        if table.fits(width) { table.render(width) } else { self.below() }
    }

    /// Formats the table with one line per value, for narrow terminals.
    fn below(&self) -> String {
        let mut out = String::new();
        for (name, cells) in &self.rows {
            let _ = writeln!(out, "{name}");
            let mut table = Table::new(&[], &[]);
            for (column, cell) in self.columns.iter().zip(cells) {
                if let Some(cell) = cell {
                    let marks = cell.marks().map_or_else(String::new, |marks| format!(" {marks}"));
                    table.row([format!("  {column}"), format!("{}{marks}", cell.text())]);
                }
            }
            out.push_str(&table.render(usize::MAX));
        }
        out
    }

    /// Formats the table as Markdown, with the best value in bold and `!` for a clear failure.
    pub fn markdown(&self) -> String {
        let mut out =
            format!("| {} | {} |\n|---|{}\n", self.of, self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            let cell = |cell: &Option<TableCell>| {
                cell.as_ref().map_or_else(String::new, |cell| match (cell.best, cell.fails) {
                    (true, true) => format!("**{}** !", cell.text()),
                    (true, false) => format!("**{}**", cell.text()),
                    (_, true) => format!("{} !", cell.text()),
                    _ => cell.text(),
                })
            };
            let cells: Vec<String> = cells.iter().map(cell).collect();
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
        out
    }

    /// Formats the table as an HTML `<table>` with escaped texts.
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
                        (true, true) => format!("<b class=\"fails\">{text}</b>"),
                        (true, false) => format!("<b>{text}</b>"),
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

    /// Returns the rows for JSON. Each row maps column names to cells.
    pub fn named_rows(&self) -> Vec<GridRow<'_>> {
        let rows = self.rows.iter().map(|(name, cells)| GridRow {
            name,
            cells: self.columns.iter().copied().zip(cells.iter().map(Option::as_ref)).collect(),
        });
        rows.collect()
    }
}

/// One row of a result table in the JSON output.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GridRow<'a> {
    /// The name of the row: an editor, `base` for the unedited base, or an editor and the number of edited facts, such
    /// as `rome × 10`.
    pub name: &'a str,
    /// The values by column name; null if a value was not measured.
    #[serde(flatten)]
    pub cells: BTreeMap<&'a str, Option<&'a TableCell>>,
}
