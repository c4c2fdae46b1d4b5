//! Formats tables, wrapped paragraphs and sizes in bytes for a terminal.

use unicode_width::UnicodeWidthStr;

pub(crate) use super::format::{percent, plural, thousands};
use crate::diagnostics::escape_controls;

/// A table of text cells for a terminal. If the table has a header, it is the first row. Control characters in cells
/// are escaped.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// The indices of the columns that are shortened if the lines are wider than the terminal.
    elastic: &'static [usize],
    /// The indices of the columns that are aligned to the right.
    right: &'static [usize],
}

/// The width, in terminal columns, below which a table column is not shortened.
const LEAST: usize = 6;
const GAP: usize = 2;

impl Table {
    pub(crate) fn new(elastic: &'static [usize], right: &'static [usize]) -> Self {
        Self { rows: Vec::new(), elastic, right }
    }

    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| escape_controls(cell.as_ref()).to_string()).collect());
    }

    /// Returns whether the table has no rows after the header, which is the first row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Returns the lines of the table. To fit into `width` terminal columns, the columns in `elastic` are shortened,
    /// but not below [`LEAST`]. Lines can therefore be wider than `width`.
    pub(crate) fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cell = cut(cell, widths[column]);
                let pad = " ".repeat(widths[column].saturating_sub(cell.width()));
                let gap = if column == 0 { "" } else { "  " };
                let (before, after) =
                    if self.right.contains(&column) { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.extend([gap, before, &cell, after]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Returns whether all lines fit into `width` without shortening.
    pub(crate) fn fits(&self, width: usize) -> bool {
        self.render(usize::MAX).lines().all(|line| line.width() <= width)
    }

    /// Formats a table with two columns, names and values, without shortening its texts. A value that does not fit into
    /// `width` continues on further lines, which are indented to the column of values.
    pub(crate) fn render_wrapped(&self, width: usize) -> String {
        let name = self.rows.iter().filter_map(|row| row.first()).map(|name| name.width()).max().unwrap_or(0);
        let most = width.saturating_sub(name + GAP).max(LEAST_WRAPPED);
        let mut out = String::new();
        for row in &self.rows {
            let value = row.get(1).map_or("", String::as_str);
            for (index, line) in wrapped(value, most).iter().enumerate() {
                let shown = if index == 0 { row[0].as_str() } else { "" };
                let pad = " ".repeat(name + GAP - shown.width());
                out.push_str(format!("{shown}{pad}{line}").trim_end());
                out.push('\n');
            }
        }
        out
    }

    fn widths(&self, most: usize) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let needed = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let mut widths: Vec<usize> = (0..columns).map(|column| needed(column).unwrap_or(0)).collect();
        let total = |sizes: &[usize]| sizes.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
        while total(&widths) > most {
            // The widest column that can still be shortened is shortened first.
            let widest = self.elastic.iter().copied().filter(|column| widths.get(*column).is_some_and(|w| *w > LEAST));
            let Some(widest) = widest.max_by_key(|column| widths[*column]) else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

/// The minimum line width of a wrapped text, in terminal columns. Lines can therefore be wider than a narrow terminal.
const LEAST_WRAPPED: usize = 24;

/// Breaks `text` into lines of at most `width` columns, each indented by `indent` spaces and ended by a line break.
pub(crate) fn paragraph(text: &str, indent: usize, width: usize) -> String {
    let most = width.saturating_sub(indent).max(LEAST_WRAPPED);
    let pad = " ".repeat(indent);
    wrapped(text, most).iter().map(|line| format!("{pad}{line}\n")).collect()
}

/// Breaks `text` at single spaces into lines of at most `width` columns. A word that is wider than `width` is not
/// broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("at least one line");
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Shortens `text` to at most `width` columns, with an ellipsis if it was shortened.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for character in text.chars() {
        // A grapheme cluster can be wider than its characters together, so the width of the whole text is computed
        // again after each character.
        let before = out.len();
        out.push(character);
        if out.width() + 1 > width {
            out.truncate(before);
            break;
        }
    }
    out.push('…');
    out
}

/// Formats two probabilities as `before → after`. The second has a fixed width, which aligns the arrows if the cells
/// are aligned to the right.
pub(crate) fn change(before: f64, after: f64) -> String {
    format!("{} → {:>6}", percent(before), percent(after))
}

/// Formats a size in bytes: "814 B", "1.2 KiB".
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB"] {
        // A size that would be rounded to 1024.0 is written in the next unit.
        if size < 1023.95 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_shortened() {
        let mut table = Table::new(&[0, 1], &[2]);
        table.row(["a", "The Eiffel Tower", "1.0%"]);
        table.row(["bridge.city", "埃菲尔铁塔", "100.0%"]);
        insta::assert_snapshot!(table.render(usize::MAX) + "\n" + &table.render(30));
        assert!(table.render(30).lines().all(|line| line.width() <= 30));
    }

    #[test]
    fn clusters_that_are_wider_than_their_parts() {
        let mut table = Table::new(&[0], &[]);
        table.row(["❤️".repeat(40), "x".to_owned()]);
        assert!(table.render(20).lines().all(|line| line.width() <= 20));
    }

    #[test]
    fn numbers() {
        let shown = [0.0, 0.0001, 0.5, 0.9999, 1.0].map(percent);
        assert_eq!(shown, ["0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%"]);
        let sizes = [0, 1023, 1024, 1024 * 1024 - 1, 5 << 20, (1 << 30) - 1, 3 << 40, u64::MAX];
        assert_eq!(
            sizes.map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 MiB", "1.0 GiB", "3.0 TiB", "16777216.0 TiB"]
        );
        assert_eq!([1, 1000, 1_234_567].map(thousands), ["1", "1,000", "1,234,567"]);
    }

    #[test]
    fn control_characters_are_visible() {
        let mut table = Table::new(&[], &[]);
        table.row(["\u{1b}[31mred"]);
        assert!(!table.render(80).contains('\u{1b}'));
    }
}
