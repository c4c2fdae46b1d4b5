//! Implements the measurements and experiments of `bench` and `trace`. No build depends on this module; `init` and
//! `trace --suggest-layer` use its layer search.
//!
//! - [`bench`]: compares editing methods on published datasets and metrics;
//! - [`trace`]: measures, by causal tracing, which states of the model carry a fact;
//! - [`layers`]: searches for the layer at which edits work best;
//! - [`figure`]: draws figures as SVG and PNG, and builds HTML pages with figures.

pub mod bench;
pub mod figure;
pub mod layers;
pub mod trace;
