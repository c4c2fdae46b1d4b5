//! Implements the commands `bench` and `trace`, and the search for the best layer, which `init` and `trace
//! --suggest-layer` use. `build` does not use this module.
//!
//! - [`bench`]: compares editing methods on published datasets and metrics;
//! - [`trace`]: finds by causal tracing which hidden states of a model carry a fact;
//! - [`hypernetworks`]: the trained editors MEND and KE;
//! - [`layers`]: searches for the layer at which edits work best;
//! - [`figure`]: draws figures as SVG and PNG, and builds HTML pages with figures.

pub mod bench;
pub mod figure;
pub mod hypernetworks;
pub mod layers;
pub mod trace;
