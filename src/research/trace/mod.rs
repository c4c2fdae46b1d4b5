//! Implements causal tracing (Meng et al. 2022, section 2), which measures how much each hidden state contributes to a
//! fact.
//!
//! The clean run is the model on the prompt of a fact. A corrupted run has noise on the token embeddings of the
//! subject. In a restored run, one state of the corrupted run is replaced by the state of the clean run. The *total
//! effect* is the probability of the answer in the clean run minus its probability in the corrupted run. The *indirect
//! effect* of a state is the probability of the answer in the restored run minus its probability in the corrupted run.
//!
//! - [`noise`]: computes the noise;
//! - [`fact`]: reads and tokenizes the facts to trace;
//! - [`counterfactuals`]: creates counterfactual edits of known facts, to test at which layer edits work;
//! - [`cache`](mod@cache): caches traces in the store;
//! - [`plan`]: defines which states are restored, and at which tokens;
//! - [`indirect_effects`]: traces one fact;
//! - [`averages`]: averages the effects over many facts;
//! - [`plots`]: draws the figures.
//!
//! `build` does not use this module.

pub mod averages;
pub mod cache;
pub mod counterfactuals;
pub mod fact;
pub mod indirect_effects;
pub mod noise;
pub mod plan;
pub mod plots;

pub use averages::{AverageEffects, TokenClass};
pub use fact::{GatheredFacts, KnownFact, Skipped, known_facts, subject_in};
pub use indirect_effects::{FactTrace, trace};
pub use noise::{Noise, NoiseRule};
pub use plan::{RestoredKind, RestoredTokens, SeveredNoise, TracePlan};
