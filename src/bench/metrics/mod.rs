//! Computes the published metrics of an edited model (Meng et al. 2022, section 3.4 and appendix; `algorithms.md` has
//! the details of the released evaluation).
//!
//! - [`counterfact`]: ES, PS, NS and their magnitudes, by comparing two answers;
//! - [`zsre`]: shares of correct tokens;
//! - [`fluency`], [`consistency`]: metrics of generated text; [`words`]: its tokenization into words;
//! - [`generate`]: generates the text.

pub mod consistency;
pub mod counterfact;
pub mod fluency;
pub mod generate;
pub mod words;
pub mod zsre;
