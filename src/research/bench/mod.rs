//! Compares methods that edit facts in language models, on published datasets and metrics (Meng et al. 2022).
//!
//! - [`data`]: reads dataset files (CounterFact, zsRE, EasyEdit, edit requests) into one record type;
//! - [`import`](mod@import): converts dataset records to edit files of a project;
//! - [`eval_context`]: holds the base model, the settings and the caches that all editors share;
//! - [`editors`]: implements the editing methods;
//! - [`metrics`]: measures an edited model with the published metrics;
//! - [`sample`]: samples the records to edit;
//! - [`run`]: edits each record alone, or many records at once, and measures the edited models;
//! - [`sequence`]: edits many records in batches, one batch after the other;
//! - [`peak_memory`]: measures the peak memory of an edit;
//! - [`results_log`]: writes the results to a file, so that an interrupted benchmark can be resumed;
//! - [`references`]: reads the reference texts published with CounterFact;
//! - [`table`]: builds result tables as in Meng et al. 2022;
//! - [`chart`]: draws charts of the scores.
//!
//! `build` does not use this module.

pub mod chart;
pub mod data;
pub mod draft;
pub mod editors;
pub mod eval_context;
pub mod import;
pub mod metrics;
pub mod peak_memory;
pub mod references;
pub mod results_log;
pub mod run;
pub mod sample;
pub mod sequence;
pub mod table;
