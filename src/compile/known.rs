//! What is data: the context templates, and the published numbers of known models.

use super::Settings;
use crate::model::Spec;

/// The context templates of every project that names no others: the bare prompt and twenty plain sentences before
/// it. They are fixed, never sampled: the published implementation generates its contexts anew in every run.
pub const TEMPLATES: &str = include_str!("templates.txt");

/// A model whose hyper-parameters were published (ROME, released `hparams`).
struct Known {
    name: &'static str,
    family: &'static str,
    layers: usize,
    width: usize,
    /// The layer that is edited.
    layer: usize,
    clamp: f64,
}

const KNOWN: [Known; 3] = [
    Known { name: "gpt2-medium", family: "gpt2", layers: 24, width: 1024, layer: 8, clamp: 3.0 },
    Known { name: "gpt2-large", family: "gpt2", layers: 36, width: 1280, layer: 12, clamp: 4.0 },
    Known { name: "gpt2-xl", family: "gpt2", layers: 48, width: 1600, layer: 17, clamp: 4.0 },
];

/// The layer to edit and the settings that were published for a model of this shape, if any were.
pub fn published(spec: &Spec) -> Option<(usize, Settings)> {
    let same =
        |known: &&Known| (known.family, known.layers, known.width) == (spec.family.model_type, spec.layers, spec.width);
    KNOWN.iter().find(same).map(|known| (known.layer, Settings { clamp: known.clamp, ..Settings::default() }))
}

/// The names of the known models, for messages.
pub fn names() -> String {
    KNOWN.map(|known| known.name).join(", ")
}

/// The templates of a text: its lines.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_one_place_and_the_bare_prompt_first() {
        let templates = lines(TEMPLATES);
        assert_eq!((templates.len(), templates[0].as_str()), (21, "{}"));
        assert!(templates.iter().all(|template| template.matches("{}").count() == 1 && template.ends_with("{}")));
    }
}
