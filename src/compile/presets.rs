//! Contains constant data: the context templates, and the published hyper-parameters of some models.

use super::Settings;
use crate::model::Spec;

/// The default context templates, one per line: the prompt without a context template, and the prompt after each of
/// twenty plain sentences. They are constant, whereas the published implementation samples new contexts in every run.
pub const TEMPLATES: &str = include_str!("templates.txt");

/// The dimensions of a model, and the hyper-parameters that were published for it.
struct Known {
    name: &'static str,
    family: &'static str,
    layers: usize,
    width: usize,
    inner: usize,
    /// The index of the layer that the published settings edit.
    layer: usize,
    clamp: f64,
    weight_decay: f64,
}

/// The hyper-parameters for GPT-2 XL. The entries of [`KNOWN`] that end in `..XL` take the remaining fields from it.
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
/// The hyper-parameters for Llama 2 in EasyEdit's ROME settings. AlphaEdit uses the same values for Llama 3.
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

/// The models with published hyper-parameters. The numbers are from the `hparams` files of ROME (GPT-2, GPT-J), MEMIT
/// (NeoX) and EasyEdit (all other models). EasyEdit sets `mom2_adjustment: false`: it edits without the second moment.
/// This program uses EasyEdit's numbers, but edits with the second moment.
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

/// Returns the layer and the settings that were published for a model with the family, depth and widths of `spec`;
/// `None` if no settings were published for this shape.
pub fn published(spec: &Spec) -> Option<(usize, Settings)> {
    let settings =
        |known: &Known| Settings { clamp: known.clamp, weight_decay: known.weight_decay, ..Settings::default() };
    of_shape(spec).map(|known| (known.layer, settings(known)))
}

fn of_shape(spec: &Spec) -> Option<&'static Known> {
    let shape = (spec.family.model_type, spec.layers, spec.hidden_size, spec.intermediate_size);
    KNOWN.iter().find(|known| (known.family, known.layers, known.width, known.inner) == shape)
}

/// Returns the name of the first known model with the family, depth and widths of `spec`. The name is a guess, because
/// other models can have the same shape.
pub fn name(spec: &Spec) -> Option<&'static str> {
    of_shape(spec).map(|known| known.name)
}

/// Returns the names of all models with published settings, separated by commas, for messages.
pub fn names() -> String {
    KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}

/// Splits the text of a template file into context templates, one per line.
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
