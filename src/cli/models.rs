//! Runs a command for every model of a project, for `plan`, `build` and `test`.

use super::{Context, Format, Outcome};
use crate::project::config::Config;
use crate::project::config::models::unchosen;

/// Runs a verb for every model of the project, each below a heading, or once if a model was selected. Returns the worst
/// outcome.
///
/// An answer in a format other than human can contain only one model, and so can the output that `alone` describes.
/// They are rejected if the project has several models and none is selected.
pub(super) fn each(context: &Context, alone: Option<&str>, verb: impl Fn() -> Outcome) -> Outcome {
    let names = match (context.chosen(), Config::load(&context.root)) {
        (None, Ok((config, ..))) => config.models.into_keys().collect(),
        // The verb itself reports the errors of the project file.
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
        context.choose(name);
        worst = worse(worst, verb());
    }
    worst
}

/// Returns the worse of two outcomes. An error is worst, then a stale lock, then findings.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    let weight = |outcome| match outcome {
        Outcome::Ok => 0,
        Outcome::No => 1,
        Outcome::Stale => 2,
        Outcome::Error => 3,
    };
    if weight(other) > weight(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let order = [Outcome::Ok, Outcome::No, Outcome::Stale, Outcome::Error];
        for (at, one) in order.into_iter().enumerate() {
            for (beside, other) in order.into_iter().enumerate() {
                assert_eq!(worse(one, other), order[at.max(beside)]);
            }
        }
    }
}
