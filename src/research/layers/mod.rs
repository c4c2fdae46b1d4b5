//! Searches for the layer at which edits work best.
//!
//! - [`coarse`]: which layers to try if the user names none;
//! - [`trials`]: tries edits at one layer after the other;
//! - [`search`]: selects the best layer from the measured results.

pub mod coarse;
pub mod search;
pub mod trials;
