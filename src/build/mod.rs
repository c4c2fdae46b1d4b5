//! From declared facts and a base to a patch and a lock.
//!
//! Read in the order of the flow:
//!
//! - [`base`](mod@base): the base model, its tokenizer, and the digests that name it;
//! - [`setup`]: the project's numbers over the defaults: layer, templates, optimisation, statistics;
//! - [`plan`](mod@plan): every edit resolved to tokens and position, with findings that point into its file;
//! - [`objects`]: each edit compiled alone, or taken from the store;
//! - [`linked`]: all objects in one solve, laid on the weights and rounded;
//! - [`record`]: what the build did, in figures, kept in the store so that a build without changes only reads it;
//! - [`provenance`]: what a patch was built from, for whoever signs it;
//! - [`run`]: the steps in order, the lock, and what stops them.
//!
//! Nothing here prints, and nothing writes to the base. The only files outside the store are
//! the lock, and the provenance where one is asked for.

pub mod base;
pub mod linked;
pub mod objects;
pub mod plan;
pub mod provenance;
pub mod record;
pub mod run;
pub mod setup;

pub use base::Base;
pub use plan::{Plan, Planned, plan};
pub use record::{Record, record_address};
pub use run::{Built, Options, build};
pub use setup::Setup;

use crate::project::{Code, Diagnostic, Findings, Sources};
use crate::store::StoreError;

/// Why a verb ended without its answer: findings, and the texts that they point into.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Whether the lock, or the base that it names, is not what was found; else the input is wrong.
    pub stale: bool,
    /// All that was found.
    pub findings: Vec<Diagnostic>,
    /// Where the findings point to.
    pub sources: Sources,
}

impl Stop {
    /// Wrong input.
    pub fn wrong(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { stale: false, findings, sources: sources.clone() }
    }

    /// The world is not as it was locked.
    pub fn stale(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { stale: true, findings, sources: sources.clone() }
    }
}

impl From<Findings> for Stop {
    fn from(findings: Findings) -> Self {
        Self { stale: false, findings: findings.diagnostics, sources: findings.sources }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::wrong(vec![Diagnostic::new(Code::StoreFailed, error.to_string())], &Sources::default())
    }
}
