//! Computes the metrics of Meng et al. 2022 (section 3.4 and appendix) as in the released evaluation code.
//!
//! - [`counterfact`]: computes success rates and magnitudes from the likelihoods of two answers;
//! - [`zsre`]: computes shares of correctly predicted tokens;
//! - [`generate`]: generates text after prompts;
//! - [`said`]: judges generated text by whether it says the answer;
//! - [`fluency`]: computes GE, the entropy of generated text;
//! - [`consistency`]: computes RS, the similarity of generated texts and reference texts;
//! - [`words`]: splits texts into words for GE.

pub mod consistency;
pub mod counterfact;
pub mod fluency;
pub mod generate;
pub mod said;
pub mod words;
pub mod zsre;
