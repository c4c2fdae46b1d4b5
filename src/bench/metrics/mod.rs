//! What is measured of an edited model, as published (Meng et al. 2022, section 3.4 and appendix; algorithms.md has the
//! details of the released evaluation).
//!
//! - [`counterfact`]: ES, PS, NS and their magnitudes, by comparison of two answers;
//! - [`zsre`]: shares of tokens that are right;
//! - [`fluency`], [`consistency`]: of what a model writes; [`words`]: as it is counted;
//! - [`generate`]: what it writes.

pub mod consistency;
pub mod counterfact;
pub mod fluency;
pub mod generate;
pub mod words;
pub mod zsre;
