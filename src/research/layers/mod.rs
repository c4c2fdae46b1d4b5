//! Searches for the layer at which edits work best.
//!
//! - [`coarse_search`]: which layers to try if the user names none;
//! - [`layer_trials`]: tries edits at one layer after the other;
//! - [`best_layer`]: selects the best layer from the measured results.

pub mod best_layer;
pub mod coarse_search;
pub mod layer_trials;
