//! Implements `bench`: compares editing methods on a published dataset, and trains the methods that need it.

mod compare;
pub(crate) mod output;
mod set;
mod train;
mod trained;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::report::Outcome;

/// Compare editing methods on a published dataset
///
/// Each record is edited alone, with the model and the settings of the project, and the edit is then undone. With
/// `--batch`, sets of several records are edited at once too; with `--sequence`, all records in batches, one batch after
/// the other. The metrics are those of the published tables. * marks the best value of a column, and ! marks a clear
/// failure, which is red in the tables of the ROME paper.
///
/// The editors ke, mend and their variants need a training first: `corrigenda bench train`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct BenchCommand {
    #[command(flatten)]
    compare: Option<compare::Arguments>,
    #[command(subcommand)]
    verb: Option<BenchVerb>,
}

#[derive(Debug, Subcommand)]
enum BenchVerb {
    Train(train::Arguments),
    /// Show the trained editors in the store
    #[command(subcommand)]
    Trained(TrainedVerb),
}

#[derive(Debug, Subcommand)]
enum TrainedVerb {
    /// List the trained editors: training data, steps, validation loss, base model and size
    Ls,
}

impl BenchCommand {
    /// Returns whether the command stores results as it computes them, so that the next run continues.
    pub(super) fn stores_results(&self) -> bool {
        matches!(self.verb, Some(BenchVerb::Train(_)))
    }
}

pub(super) fn run(context: &Context, command: &BenchCommand) -> Outcome {
    match (&command.verb, &command.compare) {
        (Some(BenchVerb::Train(arguments)), _) => train::run(context, arguments),
        (Some(BenchVerb::Trained(TrainedVerb::Ls)), _) => trained::ls(context),
        (None, Some(arguments)) => compare::run(context, arguments),
        (None, None) => unreachable!("clap requires the arguments of the comparison without a subcommand"),
    }
}
