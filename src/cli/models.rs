//! Runs a command for every model of a project. The commands `plan`, `build` and `test` do this by default.

use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::project::config::Config;
use crate::project::config::models::unchosen;
use crate::report::Outcome;

/// Runs a command for every model of the project, with a heading for each model, and returns the worst outcome. If a
/// model was selected, the command runs only once.
///
/// `alone` names a requested output that can describe only one model, such as a provenance statement. If the project
/// has several models and none is selected, such an output is rejected, and so is every format except human.
pub(super) fn each(context: &Context, alone: Option<&str>, verb: impl Fn() -> Outcome) -> Outcome {
    let names = match (context.selected_model(), Config::load(&context.root)) {
        (None, Ok((config, ..))) => config.models.into_keys().collect(),
        // With an empty list, `verb` runs once. It uses the selected model, or it reports the errors of an invalid
        // project file.
        _ => Vec::new(),
    };
    if names.len() < 2 {
        return verb();
    }
    let why = match (context.format, alone) {
        (Format::Human, None) => None,
        (Format::Human, Some(alone)) => Some(format!("{alone} covers one model only")),
        (format, _) => Some(format!("an answer in the format {} covers one model only", format.name())),
    };
    if let Some(why) = why {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut finding = unchosen(&names);
        finding.message = format!("the project has {} models, but {why}", names.len());
        return context.fail(finding);
    }
    let mut worst = Outcome::Ok;
    for (at, name) in names.into_iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        context.ui.raw(format!("{gap}model {name}\n\n").as_bytes());
        context.select_model(name);
        worst = worst.max(verb());
    }
    worst
}
