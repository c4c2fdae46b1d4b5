//! Defines the outcome of a command, which determines the exit code.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

/// The result of a command, which determines the exit code. The variants are ordered from best to worst. A command that
/// runs for several models has the worst of their outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The command finished without findings. Exit code 0.
    #[default]
    Ok,
    /// The command finished with findings, such as a failed expectation. Exit code 1.
    Findings,
    /// `corrigenda.lock` is out of date or names a different base. Exit code 3.
    Stale,
    /// The command could not finish, for example because the input is invalid. Exit code 2.
    Error,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::SUCCESS,
            Outcome::Findings => Self::from(1),
            Outcome::Error => Self::from(2),
            Outcome::Stale => Self::from(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_by_severity() {
        let order = [Outcome::Ok, Outcome::Findings, Outcome::Stale, Outcome::Error];
        assert!(order.is_sorted());
    }
}
