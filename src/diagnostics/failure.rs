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

/// The error of a command: its findings and the file texts that their labels refer to.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// The findings of the command. Among them is at least one error.
    pub findings: Vec<Diagnostic>,
    /// The file texts that the labels of the findings refer to.
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

    /// Sets the file texts that the labels refer to. A failure that is created with `From` has none.
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
