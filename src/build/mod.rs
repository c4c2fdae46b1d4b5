//! From declared facts and a base to a patch and a lock.
//!
//! Read in the order of the flow:
//!
//! - [`base`](mod@base): the base model, its tokenizer, and the digests that name it;
//! - [`setup`]: the project's numbers over the defaults: layer, templates, optimisation, statistics;
//! - [`plan`](mod@plan): every edit resolved to tokens and position, with findings that point into its file;
//! - [`elsewhere`]: the facts as another base reads them;
//! - [`sink`]: subjects that begin a text at an attention sink, and the text that is put before them;
//! - `sunk`: the facts and paraphrases of a set that end their subject at one;
//! - [`objects`]: each edit compiled alone, or taken from the store;
//! - [`refusal`]: why an edit cannot be compiled, found once;
//! - [`prepare`](mod@prepare): what a link is made of, gathered;
//! - [`linked`]: all objects in one solve, laid on the weights and rounded;
//! - [`alike`]: edits whose keys are nearly one;
//! - [`gate`]: the limits of the policy that only the patch can break;
//! - [`locked`]: the patch that the lock names, for verbs that only ask it;
//! - [`named`]: the patch that a person names;
//! - [`made`]: the patch of any state of a project, found or made;
//! - [`record`]: what the build did, in figures, kept in the store so that a build without changes only reads it;
//! - [`provenance`]: what a patch was built from, for whoever signs it;
//! - `warnings`: what a person should look at after a build;
//! - [`run`]: the steps in order, the lock, and what stops them.
//!
//! Nothing here prints, and nothing writes to the base. The only files outside the store are
//! the lock, and the provenance where one is asked for.

pub mod alike;
pub mod base;
pub mod elsewhere;
pub mod gate;
pub mod linked;
pub mod locked;
pub mod made;
pub mod named;
pub mod objects;
pub mod plan;
pub mod prepare;
pub mod provenance;
pub mod record;
pub mod refusal;
pub mod run;
pub mod setup;
pub mod sink;
mod sunk;
mod warnings;

pub use base::Base;
pub use plan::{Plan, Planned, plan};
pub use record::{Record, record_address};
pub use run::{Built, Options, build};
pub use setup::Setup;

use crate::project::{Code, Diagnostic, Findings, Sources};
use crate::store::StoreError;

/// In which way a verb ended without its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// The input is wrong.
    Wrong,
    /// The lock, or the base that it names, is not what was found.
    Stale,
    /// Everything could be done, and a rule of the project does not allow it.
    Denied,
}

/// Why a verb ended without its answer: findings, and the texts that they point into.
#[derive(Clone, Debug)]
pub struct Stop {
    /// In which way.
    pub kind: StopKind,
    /// All that was found.
    pub findings: Vec<Diagnostic>,
    /// Where the findings point to.
    pub sources: Sources,
}

impl Stop {
    /// Wrong input.
    pub fn wrong(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { kind: StopKind::Wrong, findings, sources: sources.clone() }
    }

    /// Findings among which errors are, by what they weigh: rules that are broken, or wrong input.
    pub fn findings(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        let denied = findings.iter().filter(|one| one.is_error()).all(|one| one.code.is_adjustable());
        let kind = if denied { StopKind::Denied } else { StopKind::Wrong };
        Self { kind, findings, sources: sources.clone() }
    }

    /// The world is not as it was locked.
    pub fn stale(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { kind: StopKind::Stale, findings, sources: sources.clone() }
    }
}

impl From<Findings> for Stop {
    fn from(findings: Findings) -> Self {
        Self::findings(findings.diagnostics, &findings.sources)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::wrong(vec![Diagnostic::new(Code::StoreFailed, error.to_string())], &Sources::default())
    }
}
