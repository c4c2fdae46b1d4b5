//! Searches for the layer at which edits work best.
//!
//! - [`coarse_search`]: selects the layers to try if the user does not name layers;
//! - [`layer_trials`]: tries the edits of a project at one layer;
//! - [`best_layer`]: selects the best layer from the results.

pub mod best_layer;
pub mod coarse_search;
pub mod layer_trials;
