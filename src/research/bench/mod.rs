//! Benchmarks editing methods that need no trained network, with published datasets and metrics (Meng et al. 2022).
//!
//! - [`data`]: reads records of CounterFact, zsRE, EasyEdit and requests as one type;
//! - [`import`](mod@import): converts dataset records to edit files of a project;
//! - [`eval_context`]: provides the common input of all editors;
//! - [`editors`]: implements the editors by name;
//! - [`metrics`]: measures an edited model with the published metrics;
//! - [`sample`]: samples the records of a run;
//! - [`run`]: edits each record alone, and many at once; [`peak_memory`]: measures the peak memory;
//! - [`results_log`]: writes the results to a file, so that an interrupted run can be resumed;
//! - [`references`]: reads the published reference texts;
//! - [`table`]: builds tables in the published form; [`chart`]: draws charts.
//!
//! Nothing here affects the bytes of a patch that `build` writes.

pub mod chart;
pub mod data;
pub mod editors;
pub mod eval_context;
pub mod import;
pub mod metrics;
pub mod peak_memory;
pub mod references;
pub mod results_log;
pub mod run;
pub mod sample;
pub mod table;
