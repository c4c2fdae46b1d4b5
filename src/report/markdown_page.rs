//! Assembles a comment on a pull request and keeps it below the maximum size by omitting whole rows of its tables.

use super::format::thousands;
use super::markdown_text::code;

/// The size in bytes that a comment must stay below. GitHub rejects comments of more than 65,536 characters.
pub(super) const MOST: usize = 60_000;
/// The number of bytes that are reserved for the parts of a section other than its rows: the title, the column headers,
/// the number of omitted rows and the closing tag.
const FRAME: usize = 1024;
/// The maximum length, in bytes after escaping, of a command that is repeated after each table with omitted rows. A
/// longer command is printed only once, at the end of the comment, and each of these tables refers to it.
const MOST_COMMAND: usize = 256;

/// A section of a comment on a pull request: a table with a title.
pub(super) struct Section<'a> {
    pub title: String,
    /// Whether the section is collapsed until the reader opens it.
    pub folded: bool,
    /// The column headers. A trailing colon means that the column is aligned to the right.
    pub heads: &'a [&'a str],
    /// The rows of the table, one line each. The iteration stops at the first row for which the comment has no space,
    /// so later rows are not formatted.
    pub rows: Box<dyn ExactSizeIterator<Item = String> + 'a>,
}

/// A comment on a pull request, to which sections can be appended.
pub(super) struct Comment {
    text: String,
    end: String,
    again: String,
}

impl Comment {
    /// Returns a comment without sections. `start` is the text before the sections, and `end` is the text after them. A
    /// section with omitted rows refers to `command`, which shows all rows.
    pub(super) fn new(start: String, end: String, command: &str) -> Self {
        let command = code(command, usize::MAX);
        let again = if command.is_empty() || command.len() > MOST_COMMAND {
            "see the end of this comment".to_owned()
        } else {
            format!("run {command}")
        };
        Self { text: start, end, again }
    }

    /// Appends the sections and returns the comment. Each section can use an equal share of the remaining space. Space
    /// that a section does not use is left for the sections after it.
    pub(super) fn finish(mut self, sections: Vec<Section<'_>>) -> String {
        let sections: Vec<Section<'_>> = sections.into_iter().filter(|section| section.rows.len() > 0).collect();
        let count = sections.len();
        for (index, section) in sections.into_iter().enumerate() {
            let left = (MOST - 1).saturating_sub(self.text.len() + self.end.len());
            self.section(section, left / (count - index));
        }
        self.text + &self.end
    }

    fn section(&mut self, section: Section<'_>, share: usize) {
        if share < FRAME {
            return;
        }
        let Section { title, folded, heads, mut rows } = section;
        self.text += &if folded {
            format!("\n<details>\n<summary>{title}</summary>\n\n")
        } else {
            format!("\n#### {title}\n\n")
        };
        self.heads(heads);
        let limit = self.text.len() + share - FRAME;
        while let Some(row) = rows.next() {
            if self.text.len() + row.len() + 1 > limit {
                let count = thousands(rows.len() as u64 + 1);
                self.text += &format!("\n… {count} more: {}\n", self.again);
                break;
            }
            self.text += &row;
            self.text.push('\n');
        }
        if folded {
            self.text += "\n</details>\n";
        }
    }

    fn heads(&mut self, heads: &[&str]) {
        let names: Vec<&str> = heads.iter().map(|head| head.trim_end_matches(':')).collect();
        let rules: Vec<&str> = heads.iter().map(|head| if head.ends_with(':') { "---:" } else { "---" }).collect();
        self.text += &format!("{}\n{}\n", row(&names), row(&rules));
    }
}

/// Returns the cells as a row of a Markdown table. The cells must be escaped.
pub(super) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}
