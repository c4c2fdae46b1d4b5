//! Causal tracing (Meng et al. 2022, section 2): where in the model a fact is held.
//!
//! Three runs: the clean one; the corrupted one, with noise on the embeddings of the subject; and, for every token and
//! layer, the corrupted one with one state restored. The probability of the answer that comes back is the *indirect
//! effect* of that state; what was lost in all is the *total effect*.
//!
//! - [`noise`]: how strong the noise is;
//! - [`fact`]: what is traced, and reading files of known facts;
//! - [`rewritten`]: edits made of known facts, to try where edits take;
//! - [`kept`]: traces that are kept in the store;
//! - [`table`]: the runs of one fact; [`effects`]: the means over many; [`picture`]: the figures.
//!
//! Nothing here makes a byte that ships, and still every number is a function of the model, the facts and the seed.

pub mod effects;
pub mod fact;
pub mod kept;
pub mod noise;
pub mod picture;
pub mod rewritten;
pub mod table;

pub use effects::{Class, Effects};
pub use fact::{Gathered, KnownFact, LeftOut, known_facts, subject_in};
pub use noise::{Noise, NoiseRule};
pub use table::{Kind, Places, Plan, SeveredNoise, Traced, trace};
