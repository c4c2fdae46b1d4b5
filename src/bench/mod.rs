//! The benchmark: published datasets, published metrics, and every editor of the paper's tables that needs no trained
//! network, side by side.
//!
//! - [`data`]: records of CounterFact, zsRE and EasyEdit's flat form, as one kind of value;
//! - [`import`](mod@import): records as declared facts;
//! - [`ground`]: what every editor is given;
//! - [`editors`]: the editors by name;
//! - [`metrics`]: what is measured of an edited model, as published;
//! - [`drawn`](mod@drawn): which records a run is of;
//! - [`run`]: each record alone, and many at once; [`memory`]: what it takes;
//! - [`kept`]: rows in a file, so that a run goes on where it was interrupted; [`references`]: published reference texts;
//! - [`table`]: rows as the published tables have them; [`chart`]: as figures.
//!
//! Nothing here makes a byte that ships.

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
