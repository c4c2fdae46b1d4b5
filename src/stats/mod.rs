//! Second moments of keys: `C = (1/n) Σ k kᵀ` over the tokens of a corpus (ROME, appendix E.1).
//!
//! - [`moment`]: the running sum and its factor;
//! - [`file`](mod@file): the sum as bytes, with its provenance;
//! - [`corpus`]: the documents of a text file, one a line;
//! - [`sum`](mod@sum): the sums of several layers over a corpus: streamed, resumable;
//! - [`build`](mod@build): sums in the store, cached by what they depend on, and their factors;
//! - [`published`]: the sum as others published it.
//!
//! The order of the sum is part of the numerics: documents in the order of the file, [`sum::DOCUMENTS`] of them at
//! a time, the keys of all their tokens laid end to end, blocks of [`crate::numeric::matmul::BLOCK`] keys summed in
//! f32 and the blocks in f64. The last block of a batch may be short; threads and interruptions change nothing.

pub mod build;
pub mod corpus;
pub mod file;
pub mod moment;
pub mod published;
pub mod sum;

pub use build::{Cached, Problem, factor, factor_address, find};
pub use file::{Provenance, Statistics, StatisticsError};
pub use moment::{Deficient, Moment};
pub use sum::{Run, SAVE_EVERY, build, build_all, groups};
