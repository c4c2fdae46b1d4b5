//! `schema`: the JSON Schemas of what people write, for editors, and of what is answered, for programs.

use clap::ValueEnum;

use super::{Context, Outcome};
use crate::project::schema::{SchemaKind, render};

/// Which schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Which {
    /// Of the files in edits/
    Edits,
    /// Of corrigenda.toml
    Project,
    /// Of probes.toml
    Probes,
    /// Of what `--format json` answers
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
