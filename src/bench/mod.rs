//! Benchmarks editing methods that need no trained network, with published datasets and metrics (Meng et al. 2022).
//!
//! - [`data`]: reads records of CounterFact, zsRE, EasyEdit and requests as one type;
//! - [`import`](mod@import): converts records to edit files of a project;
//! - [`ground`]: provides the common input of all editors;
//! - [`editors`]: implements the editors by name;
//! - [`metrics`]: measures an edited model with the published metrics;
//! - [`drawn`](mod@drawn): samples the records of a run;
//! - [`run`]: edits each record alone, and many at once; [`memory`]: measures the peak memory;
//! - [`kept`]: stores the results in a file, so that an interrupted run can resume;
//! - [`references`]: reads the published reference texts;
//! - [`table`]: builds tables in the published form; [`chart`]: draws charts.
//!
//! Nothing here affects the bytes of a patch that `build` writes.

pub mod chart;
pub mod data;
pub mod drawn;
pub mod editors;
pub mod ground;
pub mod import;
pub mod kept;
pub mod memory;
pub mod metrics;
pub mod references;
pub mod run;
pub mod table;
