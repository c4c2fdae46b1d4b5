//! Reads the files that people write, and continues after a mistake, so that one run reports all mistakes.
//!
//! - `files`: finds and reads files, and reports rejected files as findings;
//! - `toml_reader`: reads TOML tables key by key; `numbers`: numbers, booleans and dates with their ranges;
//! - `format_version`: checks the line `format = 1`;
//! - `rules`: checks the texts of a single edit;
//! - `merge_markers`: finds the conflict markers of git.

pub(crate) mod files;
mod format_version;
pub(crate) mod merge_markers;
pub(crate) mod numbers;
pub(crate) mod rules;
pub(crate) mod toml_reader;
