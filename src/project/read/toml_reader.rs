//! Reads TOML files that may have several mistakes.
//!
//! `serde` stops at the first invalid value. This module uses a parser that continues after a syntax error and returns
//! a tree with byte ranges. The methods of [`TomlReader`] read values from the tree and add a finding for every invalid
//! value. If a method returns `None`, it has added a finding, or an optional key is missing.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::diagnostics::{CappedFindings, Code, Diagnostic, FileId, list_in_words, nearest, shorten};

/// The maximum number of syntax errors that are reported for one file. A binary file can have millions of syntax
/// errors.
const MOST_SYNTAX_ERRORS: usize = 100;

/// The maximum number of delimiters (`,`, `[`, `=` …) in a file. In a file of more than 1.2 MB, the maximum is one
/// delimiter per eight bytes. Real project files and locks have about one delimiter per fifteen bytes.
///
/// The limit bounds memory: two bytes of a file can take two hundred bytes in the parsed tree.
const MOST_PARTS: usize = 150_000;

/// A TOML string with its byte range, which includes the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TomlText {
    pub(crate) value: String,
    pub(crate) span: Range<usize>,
}

/// A TOML table with its byte range. `what` describes the table in messages.
#[derive(Clone)]
pub(crate) struct TomlTable<'a, 'i> {
    pub(crate) table: &'a DeTable<'i>,
    pub(crate) span: Range<usize>,
    pub(crate) what: &'static str,
}

impl TomlTable<'_, '_> {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns the byte range from the table's header to the end of its last value.
    pub(crate) fn extent(&self) -> Range<usize> {
        self.span.start..last_byte(self.table).max(self.span.end)
    }
}

fn last_byte(table: &DeTable<'_>) -> usize {
    let ends = table.iter().map(|(_, value)| match value.get_ref() {
        DeValue::Table(inner) => value.span().end.max(last_byte(inner)),
        DeValue::Array(items) => value.span().end.max(last_byte_of_tables(items)),
        _ => value.span().end,
    });
    ends.max().unwrap_or(0)
}

/// Returns the end of the last value of an array of tables. The byte range of the array itself ends at its last header.
fn last_byte_of_tables(items: &DeArray<'_>) -> usize {
    let ends = items.iter().map(|item| match item.get_ref() {
        DeValue::Table(inner) => last_byte(inner),
        _ => 0,
    });
    ends.max().unwrap_or(0)
}

/// A reader of one TOML file that collects a finding for every mistake.
pub(crate) struct TomlReader {
    pub(crate) file: FileId,
    findings: CappedFindings,
    /// The byte ranges of the lines with syntax errors.
    broken: Vec<Range<usize>>,
    tables: KeysByTable,
}

/// The keys that must be arrays of tables, written with double brackets, such as `[[edit]]`.
const ARRAYS_OF_TABLES: [&str; 4] = ["edit", "edit.expect.consequence", "probe", "task"];

/// Pairs of a wrong key and the valid key that the user probably means. Without the pair, the message about `subjects`
/// would suggest `subject`, the valid key with the most similar spelling.
const SYNONYMS: [(&str, &str); 1] = [("subjects", "aliases")];

/// The tables of one kind of file. Each table has a description and its valid keys, so that a message can say to which
/// table a misplaced key belongs.
///
/// In TOML, keys are easily misplaced: every key after `[edit.expect]` is in that table, even if it was meant for the
/// edit.
pub(crate) type KeysByTable = &'static [(&'static str, &'static [&'static str])];

impl TomlReader {
    /// Parses a text, and returns the tree with the reader of its values. Every syntax error gives a finding, up to a
    /// maximum of [`MOST_SYNTAX_ERRORS`], and the tree does not contain the invalid part of the text. If the text has
    /// too many delimiters ([`MOST_PARTS`]), the tree is empty.
    pub(crate) fn document(file: FileId, text: &str, tables: KeysByTable) -> (Self, DeTable<'_>) {
        let mut reader = Self { file, findings: CappedFindings::default(), broken: Vec::new(), tables };
        let most = MOST_PARTS.max(text.len() / 8);
        let parts = text.bytes().filter(|byte| matches!(byte, b',' | b'\n' | b'[' | b'{' | b'=' | b'.')).count();
        if parts > most {
            reader.note(Code::FileTooLarge, format!("the file holds more than {most} keys and values"), &(0..0), "");
            reader.broken.push(0..text.len());
            return (reader, DeTable::new());
        }
        // `Sources` has removed one byte order mark, and the parser would silently ignore a second one.
        if text.starts_with('\u{feff}') {
            reader.note(
                Code::Syntax,
                "this is not valid TOML",
                &(0..'\u{feff}'.len_utf8()),
                "a second byte order mark",
            );
        }
        let (tree, mut errors) = DeTable::parse_recoverable(text);
        reader.merge_repeated_headers(text, &mut errors);
        let rest = errors.len().saturating_sub(MOST_SYNTAX_ERRORS);
        for error in errors.into_iter().take(MOST_SYNTAX_ERRORS) {
            let span = error.span().unwrap_or(text.len()..text.len());
            reader.broken.push(whole_lines(text, &span));
            reader.note(Code::Syntax, "this is not valid TOML", &span, error.message());
        }
        if rest > 0 {
            reader.push(Diagnostic::new(Code::Syntax, format!("and {rest} more syntax errors in this file")).at(
                file,
                &(text.len()..text.len()),
                "",
            ));
        }
        (reader, tree.into_inner())
    }

    /// Reports a repeated table header as one finding, instead of the parser's errors for every key under the second
    /// header.
    fn merge_repeated_headers(&mut self, text: &str, errors: &mut Vec<toml::de::Error>) {
        let line = |error: &toml::de::Error| text.get(whole_lines(text, &error.span()?)).map(str::trim);
        let is_twice = |error: &toml::de::Error| error.message().contains("duplicate key");
        let header = errors.iter().filter(|error| is_twice(error)).find_map(|error| {
            let name = line(error)?.strip_prefix('[')?.strip_suffix(']').filter(|name| !name.starts_with('['))?;
            Some((name.to_owned(), error.span()?))
        });
        let Some((name, span)) = header else { return };
        let echoes = |error: &toml::de::Error| is_twice(error) && error.span().is_some_and(|at| at.start >= span.start);
        for error in errors.iter().filter(|error| echoes(error)) {
            self.broken.extend(error.span().map(|repeat| whole_lines(text, &repeat)));
        }
        errors.retain(|error| !echoes(error));
        let finding = Diagnostic::new(Code::Syntax, format!("`[{name}]` is written more than once"));
        let finding = finding.at(self.file, &span, "the second");
        let help = if ARRAYS_OF_TABLES.contains(&name.as_str()) {
            format!("write `[[{name}]]`, with two brackets, above each one")
        } else {
            format!("put all of its keys under one `[{name}]`")
        };
        self.push(finding.help(help));
    }

    pub(crate) fn root<'a, 'i>(tree: &'a DeTable<'i>) -> TomlTable<'a, 'i> {
        TomlTable { table: tree, span: 0..0, what: "the file" }
    }

    pub(crate) fn push(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    pub(crate) fn note(&mut self, code: Code, message: impl Into<String>, span: &Range<usize>, label: &str) {
        self.push(Diagnostic::new(code, message).at(self.file, span, label));
    }

    /// Returns the findings. If the file has syntax errors, no key is reported as missing, and no other finding is
    /// reported on the lines with syntax errors.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let Self { findings, broken, .. } = self;
        let findings = findings.finish();
        let echo = |finding: &Diagnostic| {
            let on_broken_line = |at: usize| broken.iter().any(|line| line.contains(&at));
            !matches!(finding.code, Code::Syntax | Code::FileTooLarge)
                && (finding.code == Code::MissingKey
                    || finding.primary().is_some_and(|label| on_broken_line(label.span.start)))
        };
        if broken.is_empty() { findings } else { findings.into_iter().filter(|finding| !echo(finding)).collect() }
    }

    /// Adds a finding for every key of the table that is not in `known`. The finding names the table to which the key
    /// belongs, or suggests a key of this table with a similar name.
    pub(crate) fn known_keys(&mut self, entry: &TomlTable<'_, '_>, known: &[&str]) {
        for key in entry.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = shorten(key.get_ref());
            let mut finding = Diagnostic::new(Code::UnknownKey, format!("{} has no key `{name}`", entry.what)).at(
                self.file,
                &key.span(),
                "unknown key",
            );
            let home = self.tables.iter().find(|(_, keys)| keys.contains(&name.as_str()));
            let meant = SYNONYMS.iter().find(|(plural, _)| *plural == name).map(|(_, usual)| *usual);
            let near = meant.filter(|usual| known.contains(usual)).or_else(|| nearest(&name, known));
            finding = match home {
                Some((table, _)) => finding.help(format!("`{name}` belongs {table}")),
                None => finding.suggest(near, format!("the keys here are {}", list_in_words(known))),
            };
            self.push(finding);
        }
    }

    pub(crate) fn optional<'a, 'i>(
        &mut self,
        entry: &TomlTable<'a, 'i>,
        key: &str,
    ) -> Option<&'a Spanned<DeValue<'i>>> {
        entry.table.get(key).filter(|value| self.is_written(value))
    }

    /// Returns whether a value is in the file. After a syntax error, the parser inserts values that are not in the
    /// file.
    fn is_written(&self, value: &Spanned<DeValue<'_>>) -> bool {
        self.broken.is_empty() || !value.span().is_empty()
    }

    /// Returns the value of a required key; adds a finding if the key is missing.
    pub(crate) fn required<'a, 'i>(
        &mut self,
        entry: &TomlTable<'a, 'i>,
        key: &str,
    ) -> Option<&'a Spanned<DeValue<'i>>> {
        let value = entry.table.get(key);
        if value.is_none() {
            self.note(Code::MissingKey, format!("{} lacks `{key}`", entry.what), &entry.span, "it belongs here");
        }
        value.filter(|value| self.is_written(value))
    }

    /// Adds a finding that a value has the wrong type. In the message, `what` describes the value, and `expected`
    /// describes the required type.
    pub(crate) fn wrong_type(&mut self, what: &str, expected: &str, value: &Spanned<DeValue<'_>>) {
        let found = with_article(value.get_ref().type_str());
        let message = format!("{what} must be {expected}, not {found}");
        self.note(Code::WrongType, message, &value.span(), &format!("this is {found}"));
    }

    pub(crate) fn text(&mut self, entry: &TomlTable<'_, '_>, key: &str) -> Option<TomlText> {
        let value = self.optional(entry, key)?;
        self.as_text(&in_backticks(key), value)
    }

    pub(crate) fn required_text(&mut self, entry: &TomlTable<'_, '_>, key: &str) -> Option<TomlText> {
        let value = self.required(entry, key)?;
        self.as_text(&in_backticks(key), value)
    }

    /// Returns a TOML value as a string. If the value has another type, adds a finding in which `what` describes the
    /// value.
    fn as_text(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<TomlText> {
        match value.get_ref() {
            DeValue::String(text) => Some(TomlText { value: text.clone().into_owned(), span: value.span() }),
            _ => {
                self.wrong_type(what, "a string", value);
                None
            }
        }
    }

    /// Reads an optional list of strings. Adds a finding if the list has more than `most` items, and for every item
    /// that is not a string.
    pub(crate) fn texts(&mut self, entry: &TomlTable<'_, '_>, key: &str, most: usize) -> Vec<TomlText> {
        let Some(items) = self.array(entry, key, "an array of strings") else { return Vec::new() };
        if items.len() > most {
            let message = format!("`{key}` holds {} entries; at most {most} are allowed", items.len());
            let span = entry.table.get(key).map_or(0..0, Spanned::span);
            self.note(Code::OutOfRange, message, &span, "too many");
        }
        let what = format!("every entry of `{key}`");
        let items: Vec<_> = items.iter().take(most).filter(|item| self.is_written(item)).collect();
        items.into_iter().filter_map(|item| self.as_text(&what, item)).collect()
    }

    pub(crate) fn array<'a, 'i>(
        &mut self,
        entry: &TomlTable<'a, 'i>,
        key: &str,
        expected: &str,
    ) -> Option<&'a [Spanned<DeValue<'i>>]> {
        let value = self.optional(entry, key)?;
        match value.get_ref() {
            DeValue::Array(items) => Some(items),
            _ => {
                self.wrong_type(&in_backticks(key), expected, value);
                None
            }
        }
    }

    pub(crate) fn table<'a, 'i>(
        &mut self,
        entry: &TomlTable<'a, 'i>,
        key: &str,
        what: &'static str,
    ) -> Option<TomlTable<'a, 'i>> {
        let value = self.optional(entry, key)?;
        self.as_table(&in_backticks(key), what, value)
    }

    /// Returns a TOML value as a table. Later messages describe the table as `what`. If the value is not a table, adds
    /// a finding that describes the value as `value_is`.
    pub(crate) fn as_table<'a, 'i>(
        &mut self,
        value_is: &str,
        what: &'static str,
        value: &'a Spanned<DeValue<'i>>,
    ) -> Option<TomlTable<'a, 'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(TomlTable { table, span: value.span(), what }),
            _ => {
                self.wrong_type(value_is, "a table", value);
                None
            }
        }
    }

    /// Reads an optional array of tables, which is written as `[[key]]` in the file.
    pub(crate) fn tables<'a, 'i>(
        &mut self,
        entry: &TomlTable<'a, 'i>,
        key: &str,
        what: &'static str,
    ) -> Vec<TomlTable<'a, 'i>> {
        let Some(value) = self.optional(entry, key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => {
                let each = format!("every entry of `{key}`");
                items.iter().filter_map(|item| self.as_table(&each, what, item)).collect()
            }
            other => {
                let found = with_article(other.type_str());
                let message = format!("`{key}` must be an array of tables, not {found}");
                let header = ARRAYS_OF_TABLES.iter().find(|header| header.rsplit('.').next() == Some(key));
                let finding = Diagnostic::new(Code::WrongType, message)
                    .at(self.file, &value.span(), format!("this is {found}"))
                    .help(format!("write `[[{}]]`, with two brackets, above each one", header.unwrap_or(&key)));
                self.push(finding);
                Vec::new()
            }
        }
    }
}

fn whole_lines(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.as_bytes()[..span.start.min(text.len())].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let from = span.end.clamp(start, text.len());
    let end = text.as_bytes()[from..].iter().position(|b| *b == b'\n').map_or(text.len(), |at| from + at);
    start..end + 1
}

pub(crate) fn in_backticks(key: &str) -> String {
    format!("`{key}`")
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

#[cfg(test)]
#[path = "toml_reader_tests.rs"]
mod tests;
