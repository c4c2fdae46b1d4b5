//! Computes the published metrics of an edited model as the released evaluation does (Meng et al. 2022, section 3.4 and
//! appendix).
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
