//! What is data: the context templates, and the published numbers of known models.

use super::Settings;
use crate::model::Spec;

/// The context templates of every project that names no others: the bare prompt and twenty plain sentences before
/// it. They are fixed, never sampled: the published implementation generates its contexts anew in every run.
pub const TEMPLATES: &str = include_str!("templates.txt");

/// A model whose hyper-parameters were published.
struct Known {
    name: &'static str,
    family: &'static str,
    layers: usize,
    width: usize,
    inner: usize,
    /// The layer that is edited.
    layer: usize,
    clamp: f64,
    weight_decay: f64,
}

/// The numbers of GPT-2 XL, from which the others differ.
const XL: Known = Known {
    name: "gpt2-xl",
    family: "gpt2",
    layers: 48,
    width: 1600,
    inner: 6400,
    layer: 17,
    clamp: 4.0,
    weight_decay: 0.5,
};
/// Those of Llama 2 (EasyEdit's ROME settings; AlphaEdit has the same for Llama 3).
const LLAMA: Known = Known {
    name: "llama-2-7b",
    family: "llama",
    layers: 32,
    width: 4096,
    inner: 11_008,
    layer: 5,
    clamp: 4.0,
    weight_decay: 1e-3,
};

/// ROME's released `hparams` for GPT-2 and GPT-J, MEMIT's for NeoX, EasyEdit's for the rest (there without second
/// moments, which are taken here all the same).
static KNOWN: [Known; 12] = [
    Known { name: "gpt2-medium", layers: 24, width: 1024, inner: 4096, layer: 8, clamp: 3.0, ..XL },
    Known { name: "gpt2-large", layers: 36, width: 1280, inner: 5120, layer: 12, ..XL },
    XL,
    Known { name: "gpt-j-6b", family: "gptj", layers: 28, width: 4096, inner: 16_384, layer: 5, ..XL },
    Known { name: "gpt-neox-20b", family: "gpt_neox", layers: 44, width: 6144, inner: 24_576, layer: 15, ..XL },
    LLAMA,
    Known { name: "llama-3-8b", inner: 14_336, ..LLAMA },
    Known { name: "llama-3.2-1b", layers: 16, width: 2048, inner: 8192, ..LLAMA },
    Known { name: "llama-3.2-3b", layers: 28, width: 3072, inner: 8192, ..LLAMA },
    Known { name: "mistral-7b", family: "mistral", inner: 14_336, ..LLAMA },
    Known { name: "qwen2-7b", family: "qwen2", layers: 28, width: 3584, inner: 18_944, ..LLAMA },
    Known { name: "qwen2.5-7b", family: "qwen2", layers: 28, width: 3584, inner: 18_944, ..LLAMA },
];

/// The layer to edit and the settings that were published for a model of this shape, if any were.
pub fn published(spec: &Spec) -> Option<(usize, Settings)> {
    let settings =
        |known: &Known| Settings { clamp: known.clamp, weight_decay: known.weight_decay, ..Settings::default() };
    of_shape(spec).map(|known| (known.layer, settings(known)))
}

fn of_shape(spec: &Spec) -> Option<&'static Known> {
    let shape = (spec.family.model_type, spec.layers, spec.width, spec.inner);
    KNOWN.iter().find(|known| (known.family, known.layers, known.width, known.inner) == shape)
}

/// The name of the first known model of this shape.
pub fn name(spec: &Spec) -> Option<&'static str> {
    of_shape(spec).map(|known| known.name)
}

/// The names of the known models, for messages.
pub fn names() -> String {
    KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
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
