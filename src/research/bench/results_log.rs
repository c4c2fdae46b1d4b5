//! Stores the results of a benchmark in a JSON Lines file, so that an interrupted benchmark can be resumed.
//!
//! The first line is a digest of all inputs that affect the results. A benchmark rejects a file with a different
//! digest.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run::{BatchResult, EditedRecords, FailedEdit, RecordResult};
use super::sequence::SequenceResult;
use crate::digest::Digest;
use crate::regular_file;

/// The maximum length of a line in the results file, in bytes (16 MiB). The longest lines are the results of sets of
/// records, with about 200 bytes per record.
const MOST_LINE_BYTES: u64 = 1 << 24;

/// One line of the results file, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLine {
    /// The digest of all inputs that affect the results; always the first line.
    Of(Digest),
    /// The result of one record, which was edited alone or measured on the unedited base.
    Row(RecordResult),
    /// The result of a set of records edited at once.
    #[serde(rename = "together")]
    Batch(BatchResult),
    /// The result of records edited in batches, one batch after the other.
    Sequence(SequenceResult),
    /// A failed edit of one record or of one set of records.
    Failed(FailedEdit),
}

#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum ResultsLogError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} contains rows of another run: another base, dataset, setting, seed or version")]
    Other(PathBuf),
    #[error("line {line} of {path} is not a row: {why}")]
    Damaged { path: PathBuf, line: usize, why: String },
    #[error("{0} is in use: another run appends rows to it")]
    Busy(PathBuf),
}

/// The results of a benchmark in memory, and the file to which new results are appended.
pub struct ResultsLog {
    out: Option<(PathBuf, File)>,
    rows: BTreeMap<(Option<String>, u64), RecordResult>,
    batches: BTreeMap<(String, usize), BatchResult>,
    sequences: BTreeMap<(String, usize), SequenceResult>,
    failed: BTreeMap<(String, EditedRecords), FailedEdit>,
}

impl ResultsLog {
    /// Creates an empty log without a file, for a benchmark that cannot be resumed.
    pub fn in_memory() -> Self {
        let (rows, batches, sequences, failed) = Default::default();
        Self { out: None, rows, batches, sequences, failed }
    }

    /// Opens or creates a results file. `of` is the digest of the benchmark's inputs. The first line of an existing
    /// file must have the same digest. A truncated last line is removed. The file stays locked, so that two processes
    /// cannot append to it at the same time.
    ///
    /// # Errors
    /// If the file cannot be read or written, has a different digest or an invalid line, or is locked by another
    /// process.
    pub fn open(path: &Path, of: &Digest) -> Result<Self, ResultsLogError> {
        let failed = |source| ResultsLogError::Io { path: path.to_owned(), source };
        // A symbolic link is rejected because it may point to any file. `regular_file::open` rejects pipes and devices.
        if path.is_symlink() {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is a symbolic link, which is not followed",
            )));
        }
        if path.exists() {
            regular_file::open(path).map_err(failed)?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ResultsLogError::Busy(path.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        let first = line(&LogLine::Of(*of));
        let mut kept = Self::in_memory();
        let sound = kept.read(&mut BufReader::new(&file), &first, path)?;
        file.set_len(sound).map_err(failed)?;
        if sound == 0 {
            file.write_all(first.as_bytes()).map_err(failed)?;
        }
        kept.out = Some((path.to_owned(), file));
        Ok(kept)
    }

    /// Reads all complete lines and returns their total length in bytes. Rejects a file whose first line is not
    /// `first`.
    fn read(&mut self, reader: &mut impl BufRead, first: &str, path: &Path) -> Result<u64, ResultsLogError> {
        let other = || ResultsLogError::Other(path.to_owned());
        let (mut sound, mut text) = (0, String::new());
        for number in 1.. {
            text.clear();
            let most = if number == 1 { first.len() as u64 } else { MOST_LINE_BYTES };
            let read = reader.by_ref().take(most).read_line(&mut text);
            if read.map_err(|source| ResultsLogError::Io { path: path.to_owned(), source })? == 0 {
                break;
            }
            if number > 1 && text.len() as u64 == most {
                let why = format!("it is longer than {MOST_LINE_BYTES} bytes");
                return Err(ResultsLogError::Damaged { path: path.to_owned(), line: number, why });
            }
            // The last line is truncated if the program was stopped while it wrote the line. The caller removes such a
            // line. If the first line does not match, the file belongs to another run or program and is not changed.
            match text.strip_suffix('\n') {
                None if number == 1 && !first.starts_with(&text) => return Err(other()),
                None => break,
                Some(_) if number == 1 && text != first => return Err(other()),
                Some(_) if number == 1 => {}
                Some(whole) => match serde_json::from_str(whole) {
                    Ok(LogLine::Of(_)) => return Err(other()),
                    Ok(line) => self.take(line),
                    Err(error) => {
                        let (path, why) = (path.to_owned(), error.to_string());
                        return Err(ResultsLogError::Damaged { path, line: number, why });
                    }
                },
            }
            sound += text.len() as u64;
        }
        Ok(sound)
    }

    fn take(&mut self, line: LogLine) {
        match line {
            LogLine::Of(_) => {}
            LogLine::Row(row) => drop(self.rows.insert((row.editor.clone(), row.record), row)),
            LogLine::Batch(one) => drop(self.batches.insert((one.editor.clone(), one.size), one)),
            LogLine::Sequence(one) => {
                drop(self.sequences.insert((one.after_all.editor.clone(), one.batch), one));
            }
            LogLine::Failed(one) => {
                drop(self.failed.insert((one.editor.clone(), one.edited()), one));
            }
        }
    }

    /// Adds a result in memory and, if the log has a file, appends the result to the file.
    ///
    /// # Errors
    /// If the result cannot be written to the file.
    pub fn add(&mut self, one: LogLine) -> Result<(), ResultsLogError> {
        if let Some((path, file)) = &mut self.out {
            let written = file.write_all(line(&one).as_bytes()).and_then(|()| file.flush());
            written.map_err(|source| ResultsLogError::Io { path: path.clone(), source })?;
        }
        self.take(one);
        Ok(())
    }

    /// Returns whether the log contains a result or a failed edit of this editor for the record; `editor` is `None` for
    /// the unedited base.
    pub fn has(&self, editor: Option<&str>, record: u64) -> bool {
        let failed = |name: &str| self.failed.contains_key(&(name.to_owned(), EditedRecords::One(record)));
        self.rows.contains_key(&(editor.map(str::to_owned), record)) || editor.is_some_and(failed)
    }

    /// Returns whether the log contains a result or a failed edit of this editor for the set of the first `size`
    /// records.
    pub fn has_batch(&self, editor: &str, size: usize) -> bool {
        let failed = self.failed.contains_key(&(editor.to_owned(), EditedRecords::Set(size)));
        failed || self.batches.contains_key(&(editor.to_owned(), size))
    }

    /// Returns whether the log contains a result or a failed edit of this editor for `size` records in batches.
    pub fn has_sequence(&self, editor: &str, size: usize, batch: usize) -> bool {
        let edited = EditedRecords::Batches { size, batch };
        let failed = self.failed.contains_key(&(editor.to_owned(), edited));
        failed || self.sequences.contains_key(&(editor.to_owned(), batch))
    }

    /// Returns the results of an editor for records edited in batches, in ascending order of the batch size.
    pub fn sequences(&self, editor: &str) -> Vec<&SequenceResult> {
        self.sequences.values().filter(|one| one.after_all.editor == editor).collect()
    }

    /// Returns the results of an editor for the given records, in the order of `records`; `editor` is `None` for the
    /// unedited base. Records without a result are skipped.
    pub fn rows(&self, editor: Option<&str>, records: &[u64]) -> Vec<&RecordResult> {
        records.iter().filter_map(|record| self.rows.get(&(editor.map(str::to_owned), *record))).collect()
    }

    /// Returns the failed edits of an editor: first single records in the order of the dataset, then sets of records, then
    /// batches, both in ascending order of size.
    pub fn failed(&self, editor: &str) -> Vec<&FailedEdit> {
        self.failed.values().filter(|one| one.editor == editor).collect()
    }

    /// Returns the results of an editor for sets of records, in ascending order of size.
    pub fn batches(&self, editor: &str) -> Vec<&BatchResult> {
        self.batches.values().filter(|one| one.editor == editor).collect()
    }
}

fn line(line: &LogLine) -> String {
    // Serialising a `LogLine` cannot fail, because it contains only numbers, strings, arrays and structs.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::bench::metrics::zsre;
    use crate::research::bench::run::CaseMetrics;

    fn row(record: u64) -> LogLine {
        let case = record;
        let measured = CaseMetrics::Tokens(zsre::TokenMetrics { rewrite: 0.5, paraphrase: None, neighbour: None });
        let (editor, fluency, consistency) = (Some("rome".to_owned()), None, None);
        let (seconds, memory, unconverged) = (Some(1.0), Some(3), Some(false));
        LogLine::Row(RecordResult {
            editor,
            record,
            case,
            measured,
            fluency,
            consistency,
            said: None,
            seconds,
            memory,
            unconverged,
        })
    }

    #[test]
    fn a_truncated_log_is_resumed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, of) = (folder.path().join("rows.jsonl"), Digest::of(b"this"));
        let mut first = ResultsLog::open(&path, &of).expect("new");
        first.add(row(1)).expect("written");
        first.add(row(2)).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        std::fs::write(&path, &text[..text.len() - 5]).expect("cut");
        drop(first);
        let mut kept = ResultsLog::open(&path, &of).expect("there");
        assert!(matches!(ResultsLog::open(&path, &of), Err(ResultsLogError::Busy(_))), "the file is in use");
        assert!(kept.has(Some("rome"), 1) && !kept.has(Some("rome"), 2) && !kept.has(None, 1));
        kept.add(row(2)).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        assert_eq!(kept.rows(Some("rome"), &[2, 1, 7]).len(), 2);
        let (editor, why) = ("rome".to_owned(), "no number".to_owned());
        let failed = FailedEdit { editor, record: Some(3), size: None, batch: None, why };
        kept.add(LogLine::Failed(failed)).expect("written");
        assert!(kept.has(Some("rome"), 3) && !kept.has(None, 3) && kept.failed("rome").len() == 1);
        drop(kept);
        assert!(ResultsLog::open(&path, &of).expect("there").has(Some("rome"), 3), "a failed edit is not tried again");
        std::fs::write(&path, &text).expect("written");
        assert!(matches!(ResultsLog::open(&path, &Digest::of(b"that")), Err(ResultsLogError::Other(_))));
        let damaged = text.replacen("\"seconds\":1.0", "\"seconds\":true", 1);
        std::fs::write(&path, &damaged).expect("written");
        assert!(
            matches!(ResultsLog::open(&path, &of), Err(ResultsLogError::Damaged { line: 2, .. })),
            "a complete line that is not a result is rejected"
        );
        assert_eq!(std::fs::read_to_string(&path).expect("there"), damaged);
        for foreign in ["something else\n", "something else"] {
            std::fs::write(&path, foreign).expect("written");
            assert!(
                matches!(ResultsLog::open(&path, &of), Err(ResultsLogError::Other(_))),
                "a file of another program is not changed"
            );
            assert_eq!(std::fs::read_to_string(&path).expect("there"), foreign);
        }
        std::fs::write(&path, &text[..20]).expect("written");
        drop(ResultsLog::open(&path, &of).expect("the first line alone, cut off"));
        assert_eq!(std::fs::read_to_string(&path).expect("there").lines().count(), 1);
    }
}
