//! Implements `schema`: prints the JSON Schema of a project file, which text editors use, or that of the JSON output of
//! a command.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::cli::answers;
use crate::cli::answers::schema::AnswerKind;
use crate::cli::context::Context;
use crate::report::Outcome;
use crate::schema::{self, SchemaKind};

#[derive(Clone, Copy, Debug)]
pub(super) enum SchemaName {
    /// The schema of a file of the project, or of the report of `check`, `test` and `diff`.
    File(SchemaKind),
    /// The schema of the JSON output of a command other than `check`, `test` and `diff`.
    Answer(AnswerKind),
}

impl ValueEnum for SchemaName {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<SchemaName>> = LazyLock::new(|| {
            let files = SchemaKind::ALL.into_iter().map(SchemaName::File);
            files.chain(AnswerKind::value_variants().iter().copied().map(SchemaName::Answer)).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::File(kind) => Some(PossibleValue::new(kind.name())),
            Self::Answer(kind) => kind.to_possible_value(),
        }
    }
}

pub(super) fn run(context: &Context, schema: SchemaName) -> Outcome {
    let text = match schema {
        SchemaName::File(kind) => schema::render(kind),
        SchemaName::Answer(kind) => answers::schema::render(kind),
    };
    context.ui.raw(text.as_bytes());
    Outcome::Ok
}
