//! Computes the second moments of MLP keys (the inputs of the down-projection): `C = (1/n) Σ k kᵀ` over the tokens of a
//! corpus (ROME, appendix E.1).
//!
//! - [`moment`]: the running sum and its Cholesky factor;
//! - [`file`](mod@file): the sum as bytes, with its provenance;
//! - [`corpus`]: the documents of a text file, one per line;
//! - [`sum`](mod@sum): the sums of several layers in one streamed, resumable pass over a corpus;
//! - [`build`](mod@build): sums in the store, addressed by their provenance, and their factors;
//! - [`published`]: the sums that the authors of ROME published.
//!
//! The order of the sum is part of the numerics. Documents are read in the order of the file, in batches of
//! [`sum::DOCUMENTS`]. The MLP keys of all tokens of a batch are concatenated; blocks of
//! [`crate::numeric::matmul::BLOCK`] keys are summed in f32, and the blocks in f64. The last block of a batch may be
//! shorter. The number of threads and interruptions do not affect the result.

pub mod build;
pub mod corpus;
pub mod file;
pub mod moment;
pub mod published;
pub mod sum;

pub use build::{CachedStatistics, StatisticsError, factor, factor_address, find};
pub use file::{Provenance, Statistics, StatisticsFileError};
pub use moment::{RankDeficient, SecondMoment};
pub use sum::{SAVE_EVERY, SumRun, build, build_all, groups};
