use super::safe_text::shown;
use crate::history::{Log, LogEntry, RecordedPatch};

/// Returns the history as a CSV table, with one row per changed field of a fact. A commit has only one row if its edit
/// files cannot be read, or if it changed only the patch.
pub(super) fn rows(log: &Log) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let head = ["commit", "date", "author", "email", "change", "id", "field", "before", "after", "patch", "summary"];
    // Writing to memory cannot fail. The writer rejects rows of different lengths, but all rows have 11 cells.
    let mut write = |row: [String; 11]| drop(writer.write_record(row));
    write(head.map(str::to_owned));
    for entry in &log.entries {
        let LogEntry { commit, facts, unreadable, before, patch } = entry;
        let id = |recorded: &RecordedPatch| recorded.id().map_or_else(String::new, ToString::to_string);
        let mut row = |change: &str, fact: &str, field: &str, old: String, new: String| {
            let (author, email) = (cell(&commit.author), cell(&commit.email));
            let [change, fact, field] = [change, fact, field].map(cell);
            let (commit_id, date, summary) = (commit.id.clone(), commit.time.to_string(), cell(&commit.summary));
            write([commit_id, date, author, email, change, fact, field, old, new, id(patch), summary]);
        };
        if let Some(why) = unreadable {
            row("unreadable", "", "", String::new(), cell(why));
        } else if facts.is_empty() {
            row("patch", "", "patch", id(before), id(patch));
        }
        for fact in facts {
            for field in &fact.fields {
                row(fact.change.as_str(), &fact.id, &field.name, cells(&field.before), cells(&field.after));
            }
        }
    }
    writer.into_inner().expect("memory can be written")
}

/// Joins texts to one cell, with line breaks between them. Each text is made safe by [`cell`].
fn cells(texts: &[String]) -> String {
    texts.iter().map(|text| cell(text)).collect::<Vec<_>>().join("\n")
}

/// Escapes a text so that spreadsheets do not evaluate it as a formula, and build servers do not execute it as a
/// command.
fn cell(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']) || text.trim_start().starts_with("::");
    let apostrophe = if runs { "'" } else { "" };
    format!("{apostrophe}{}", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        let shown = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "::stop", " ::stop", "a =b", "##[error]x", "\u{1b}[31m"]
            .map(cell)
            .join(" ; ");
        let safe =
            r"'=1+1 ; '+1 ; '-1 ; '@x ; '\u{9}x ; '\u{d}x ; '::stop ; ' ::stop ; a =b ; \u{23}#[error]x ; \u{1b}[31m";
        assert_eq!(shown, safe);
        assert_eq!(cells(&["a".to_owned(), "=b".to_owned()]), "a\n'=b");
    }
}
