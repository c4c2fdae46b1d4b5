//! Defines the error of a command: findings, and the kind that determines the exit code.

use super::{Diagnostic, Findings, Sources};

/// The kind of a failure; it determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The input cannot be used: a file of the project, the base, the store or an option.
    Invalid,
    /// The lock is missing or out of date, or the lock names another base.
    Stale,
    /// Every step succeeded, but a rule of the project's policy is broken.
    Denied,
}

/// The error of a command: findings with the files that they mark.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind, which determines the exit code.
    pub kind: FailureKind,
    /// The findings, of which at least one is an error.
    pub findings: Vec<Diagnostic>,
    /// The texts that the labels of the findings mark.
    pub sources: Sources,
}

impl Failure {
    /// Returns a [`FailureKind::Invalid`] failure for several findings. For one finding, use `Failure::from`.
    pub fn invalid(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { kind: FailureKind::Invalid, findings, sources: sources.clone() }
    }

    /// Returns a [`FailureKind::Stale`] failure for one finding, without sources.
    pub fn stale(finding: Diagnostic) -> Self {
        Self { kind: FailureKind::Stale, ..Self::from(finding) }
    }

    /// Returns a failure for findings of mixed severity: [`FailureKind::Denied`] if every error is a policy rule, or
    /// else [`FailureKind::Invalid`].
    pub fn from_findings(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        let denied = findings.iter().filter(|one| one.is_error()).all(|one| one.code.is_adjustable());
        let kind = if denied { FailureKind::Denied } else { FailureKind::Invalid };
        Self { kind, findings, sources: sources.clone() }
    }

    /// Sets the files that the labels point into; `From` leaves the list of files empty.
    #[must_use]
    pub fn with_sources(self, sources: &Sources) -> Self {
        Self { sources: sources.clone(), ..self }
    }
}

impl From<Diagnostic> for Failure {
    fn from(finding: Diagnostic) -> Self {
        Self { kind: FailureKind::Invalid, findings: vec![finding], sources: Sources::default() }
    }
}

impl From<Findings> for Failure {
    fn from(findings: Findings) -> Self {
        Self::from_findings(findings.diagnostics, &findings.sources)
    }
}
