//! Measurements and experiments: what `bench` and `trace` do. No build depends on this module, except that `init` and
//! `trace --suggest-layer` use its layer search.
//!
//! - [`bench`]: compares editing methods on published datasets and metrics;
//! - [`trace`]: finds where in the model a fact is stored, by causal tracing;
//! - [`layers`]: searches for the layer at which edits work best;
//! - [`figure`]: figures as SVG and PNG, and HTML pages with figures.

pub mod bench;
pub mod figure;
pub mod layers;
pub mod trace;
