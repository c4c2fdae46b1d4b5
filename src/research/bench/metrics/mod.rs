//! Computes the published metrics of an edited model (Meng et al. 2022, section 3.4 and appendix; `algorithms.md` has
//! the details of the released evaluation).
//!
//! - [`counterfact`]: computes ES, PS, NS and their magnitudes, by comparing the likelihoods of two answers;
//! - [`zsre`]: computes shares of correct tokens;
//! - [`generate`]: generates text after prompts;
//! - [`fluency`], [`consistency`]: compute GE and RS of generated text;
//! - [`words`]: splits text into words, for GE.

pub mod consistency;
pub mod counterfact;
pub mod fluency;
pub mod generate;
pub mod words;
pub mod zsre;
