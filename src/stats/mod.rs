//! Computes the second moment of the MLP keys of a layer (the inputs of its down-projection): `C = (1/n) Σ k kᵀ` over
//! the n tokens of a corpus (ROME, appendix E.1).
//!
//! - [`moment`]: the sum of one layer, and its Cholesky factor;
//! - [`file`](mod@file): the file of a sum, with its provenance;
//! - [`corpus`]: the documents of a text file, one per line;
//! - [`sum`](mod@sum): the sums of several layers in one pass over a corpus, which can be interrupted and resumed;
//! - [`build`](mod@build): the sums in the store, and their Cholesky factors;
//! - [`published`]: the sums that the authors of ROME published.
//!
//! The order of a sum is fixed, because the bytes depend on it. Documents are read in the order of the file, in batches
//! of [`sum::DOCUMENTS`]. The MLP keys of a batch are summed in f32 in blocks of [`crate::numeric::matmul::BLOCK`]
//! keys, and the block sums are added in f64. Neither the number of threads nor an interruption affects the result.

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
