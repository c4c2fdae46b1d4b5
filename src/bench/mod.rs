//! The benchmark: published datasets, published metrics, and every editor of the paper's tables that needs no trained
//! network, side by side.
//!
//! - [`data`]: records of CounterFact, zsRE and EasyEdit's flat form, as one kind of value;
//! - [`import`](mod@import): records as declared facts;
//! - [`metrics`]: what is measured of an edited model, as published.

pub mod data;
pub mod import;
pub mod metrics;
