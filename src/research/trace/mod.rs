//! Implements causal tracing (Meng et al. 2022, section 2): it measures which states of the model carry a fact.
//!
//! There are three kinds of run: the clean run; the corrupted run, with noise on the embeddings of the subject; and,
//! for every token and layer, a corrupted run in which one state is restored to its clean value. The *total effect* is
//! the probability of the answer in the clean run minus that in the corrupted run. The *indirect effect* of a state is
//! the probability of the answer in the run with the state restored minus that in the corrupted run.
//!
//! - [`noise`]: defines the noise and its strength;
//! - [`fact`]: tokenizes a fact, and reads files of known facts;
//! - [`counterfactuals`]: creates counterfactual edits of known facts, to test at which layer edits work;
//! - [`cache`](mod@cache): caches traces in the store;
//! - [`plan`]: defines which states are restored, and at which tokens;
//! - [`indirect_effects`]: traces one fact; [`averages`]: averages the effects over many facts; [`plots`]: draws the
//!   figures.
//!
//! Nothing here affects the bytes of a patch. The results depend only on the model, the facts, the settings and the
//! seed.

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
