//! Reads the files that people write. A mistake does not stop the reading, so one run reports all mistakes.
//!
//! - `files`: finds and reads files, and reports rejected files as findings.
//! - `toml_reader`: reads the keys of TOML tables. `numbers`: reads numbers, booleans and dates, and checks their
//!   ranges.
//! - `format_version`: checks the line `format = 1`.
//! - `rules`: checks the texts of one edit.
//! - `merge_markers`: finds the conflict markers of git.

pub(crate) mod files;
mod format_version;
pub(crate) mod merge_markers;
pub(crate) mod numbers;
pub(crate) mod rules;
pub(crate) mod toml_reader;
