//! Defines what follows the answer of an edit, so that the model ends its answer there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::project::edits::says::one_of;
use crate::project::read::toml_reader::{TomlReader, TomlTable};

/// What the edited model should give directly after the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndMark {
    /// Nothing in particular: the model may continue the text.
    #[default]
    #[serde(rename = "none")]
    None,
    /// A full stop.
    #[serde(rename = ".")]
    FullStop,
    /// The end token of the model, `eos_token_id` in its config.json.
    #[serde(rename = "eos")]
    Eos,
}

impl EndMark {
    const NAMES: [(&'static str, Self); 3] = [(".", Self::FullStop), ("eos", Self::Eos), ("none", Self::None)];

    /// Returns the value of `end` that stands for this mark: `none`, `.` or `eos`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullStop => ".",
            Self::Eos => "eos",
        }
    }

    /// Reads the optional `end` of a table.
    pub(crate) fn read(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> Option<Self> {
        one_of(reader, table, "end", &Self::NAMES).map(|(mark, _)| mark)
    }
}
