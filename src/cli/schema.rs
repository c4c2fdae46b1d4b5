//! Implements `schema`: prints the JSON Schemas of a project's files, for text editors, and of JSON reports, for
//! programs.

use clap::ValueEnum;

use crate::cli::context::Context;
use crate::report::Outcome;
use crate::schema::{SchemaKind, render};

/// The schemas that can be printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Which {
    /// Schema of the files in edits/
    Edits,
    /// Schema of corrigenda.toml
    Project,
    /// Schema of probes.toml
    Probes,
    /// Schema of reports in `--format json`
    Report,
}

pub(super) fn run(context: &Context, which: Which) -> Outcome {
    let kind = match which {
        Which::Edits => SchemaKind::Edits,
        Which::Project => SchemaKind::Project,
        Which::Probes => SchemaKind::Probes,
        Which::Report => SchemaKind::Report,
    };
    context.ui.raw(render(kind).as_bytes());
    Outcome::Ok
}
