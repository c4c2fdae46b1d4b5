//! Defines the error of a command: its findings, and the kind of failure, which determines the exit code.

use super::{Diagnostic, Findings, Sources};

/// The kind of a failure, which determines the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Any failure other than `Stale` and `Denied`, such as an invalid project file or option, or a base model or store
    /// entry that cannot be read.
    Invalid,
    /// The project's `corrigenda.lock` is missing or out of date, or names another base model.
    Stale,
    /// Every step succeeded, but a rule of the project's policy is broken.
    Denied,
}

/// The error of a command: its findings, and the texts of the files to which the labels of the findings refer.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// The findings of the command. At least one of them is an error.
    pub findings: Vec<Diagnostic>,
    /// The texts of the files to which the labels of the findings refer.
    pub sources: Sources,
}

impl Failure {
    /// Returns a [`FailureKind::Invalid`] failure for several findings. For one finding, use `Failure::from`.
    pub fn invalid(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        Self { kind: FailureKind::Invalid, findings, sources: sources.clone() }
    }

    /// Returns a [`FailureKind::Stale`] failure for one finding. The failure has no file texts; if the finding has
    /// labels, add the texts with [`with_sources`](Self::with_sources).
    pub fn stale(finding: Diagnostic) -> Self {
        Self { kind: FailureKind::Stale, ..Self::from(finding) }
    }

    /// Returns a failure for a list of errors and warnings. Its kind is [`FailureKind::Denied`] if the project's policy
    /// can change the severity of every error ([`Code::is_adjustable`](super::Code::is_adjustable)), and otherwise
    /// [`FailureKind::Invalid`].
    pub fn from_findings(findings: Vec<Diagnostic>, sources: &Sources) -> Self {
        let denied = findings.iter().filter(|one| one.is_error()).all(|one| one.code.is_adjustable());
        let kind = if denied { FailureKind::Denied } else { FailureKind::Invalid };
        Self { kind, findings, sources: sources.clone() }
    }

    /// Sets the texts of the files to which the labels of the findings refer. A failure that was created from one
    /// [`Diagnostic`] has no texts.
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
