//! The room of a comment: sections that are cut between rows, never inside one.

use super::figures::thousands;
use super::markdown_text::code;

/// A comment must be shorter than this, whatever is in it.
pub(super) const MOST: usize = 60_000;
/// What a section needs beside its rows: its title, its heads, its end, and the line that says what was left out.
const FRAME: usize = 1024;
/// A command that is longer once it is escaped stands at the end of the comment only.
const MOST_COMMAND: usize = 256;

/// A table, and how it is announced.
pub(super) struct Section<'a> {
    /// Its title.
    pub title: String,
    /// Whether it is folded away.
    pub folded: bool,
    /// The heads of its columns, a colon behind those whose figures stand at the right.
    pub heads: &'a [&'a str],
    /// Its rows, one line each, written when there is room.
    pub rows: Box<dyn ExactSizeIterator<Item = String> + 'a>,
}

/// A comment that is being written.
pub(super) struct Page {
    text: String,
    end: String,
    again: String,
}

impl Page {
    /// A comment with its first lines and its last.
    pub(super) fn new(start: String, end: String, command: &str) -> Self {
        let command = code(command, usize::MAX);
        let again = if command.is_empty() || command.len() > MOST_COMMAND {
            "see the end of this comment".to_owned()
        } else {
            format!("run {command}")
        };
        Self { text: start, end, again }
    }

    /// Writes the sections. Each may use its share of what is left; what it does not use is left for those behind it.
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
        self.text += &match folded {
            true => format!("\n<details>\n<summary>{title}</summary>\n\n"),
            false => format!("\n#### {title}\n\n"),
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

/// The cells as a row.
pub(super) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}
