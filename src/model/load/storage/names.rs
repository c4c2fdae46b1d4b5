//! Explains why a tensor is missing, and lists tensors that the decoder does not read. Uses only the names of the
//! tensors.

use std::collections::BTreeSet;

use crate::model::ModelError;
use crate::model::arch::spec::Spec;
use crate::model::load::files::WeightFiles;

/// Suffixes of tensor names that occur only in quantised weights.
const QUANTISED: [&str; 8] =
    [".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".scales", ".absmax", ".SCB"];
/// Prefixes of the names of output layers in models that are not language models, such as classifiers.
const CLASSIFIERS: [&str; 5] = ["score.weight", "classifier.weight", "v_head.", "value_head.", "qa_outputs.weight"];
/// Suffixes of the names of buffers, such as attention masks, that old programs stored with the weights. The decoder
/// computes these buffers.
const COMPUTED: [&str; 9] = [
    ".rotary_emb.inv_freq",
    ".rotary_emb.cos_cached",
    ".rotary_emb.sin_cached",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    ".attn.embed_positions",
    ".position_ids",
];

/// Returns the error for the missing tensor `wanted`, a name with or without the family's prefix. The error states the
/// likely cause, which is derived from the names of the existing tensors.
pub(in crate::model) fn missing(weights: &WeightFiles, spec: &Spec, wanted: &str) -> ModelError {
    let path = &weights.path;
    let names = || weights.names();
    if let Some(name) = names().find(|name| QUANTISED.iter().any(|end| name.ends_with(end))) {
        return ModelError::Quantised { path: path.clone(), method: format!("it has `{name}`") };
    }
    let family = spec.family;
    let bare = wanted.strip_prefix(family.prefix).unwrap_or(wanted);
    if names().any(|name| name.contains(".lora_A.") || name.contains(".base_layer.")) {
        let found = format!("the weights contain an adapter in addition to the model, and no tensor `{wanted}`");
        return ModelError::stored(
            path,
            found,
            "merge it with `model.merge_and_unload().save_pretrained(NEW)` of peft",
        );
    }
    let prefix = names().find_map(|name| name.strip_suffix(bare).filter(|before| before.ends_with('.')));
    // Whether `start` consists of another prefix that ends in `.`, followed by the prefix of the family. An example is
    // `module.transformer.` for the family's prefix `transformer.`.
    let outer = |start: &str| start.strip_suffix(family.prefix).is_some_and(|outer| outer.ends_with('.'));
    if let Some(prefix) = prefix {
        let prefix = if outer(prefix) { &prefix[..prefix.len() - family.prefix.len()] } else { prefix };
        let found = format!("the names of the tensors begin with `{prefix}`: there is no `{wanted}`");
        return ModelError::stored(path, found, unwrap(prefix));
    }
    let classifier = names().find(|name| CLASSIFIERS.iter().any(|known| name.starts_with(known)));
    let head = format!("{}.weight", family.head);
    match classifier.filter(|_| wanted == head) {
        Some(name) => ModelError::stored(
            path,
            format!("it has `{name}` and no `{wanted}`: it is a classifier, not a language model"),
            "name the language model that it was made from",
        ),
        None if wanted == head => ModelError::stored(
            path,
            format!("it has no tensor `{wanted}`"),
            "config.json says that the output matrix is not the embedding (`tie_word_embeddings`): set it to true if \
             the model was trained that way, or fetch the model again",
        ),
        None => ModelError::NoTensor { path: path.clone(), tensor: wanted.to_owned() },
    }
}

/// Returns advice on how to save only the language model. `prefix` is an unexpected text at the start of the tensor
/// names. The tensor names have this prefix if the weights were saved from an object that contains the language model,
/// such as a PEFT adapter or a multimodal model.
fn unwrap(prefix: &str) -> String {
    let saved = |what: &str| format!("save the inner model: `{what}.save_pretrained(NEW)`");
    if prefix.starts_with("base_model.") {
        return "merge the adapter into its model with `model.merge_and_unload().save_pretrained(NEW)` of peft"
            .to_owned();
    }
    if prefix.contains("_orig_mod.") {
        return saved("model._orig_mod");
    }
    if prefix.contains("language_model.") || prefix.contains("text_model.") {
        return saved("model.language_model");
    }
    if prefix.starts_with("module.") {
        saved("model.module")
    } else {
        format!("save only the model, under names without `{prefix}`")
    }
}

/// Returns the names of tensors that were not read, although their names start like those of the decoder's tensors.
/// `read` contains the names of the tensors that were read. Leaves out buffers that the decoder computes, and the
/// output matrix of a model with tied embeddings.
pub(in crate::model) fn unread<'w>(weights: &'w WeightFiles, spec: &Spec, read: &BTreeSet<&str>) -> Vec<&'w str> {
    let family = spec.family;
    let (blocks, _) = family.block.split_once("{}").unwrap_or((family.block, ""));
    let head = format!("{}.", family.head);
    let ends = [family.token_embedding, family.final_norm].map(|name| format!("{name}."));
    let of_decoder = |name: &&str| {
        let bare = name.strip_prefix(family.prefix).unwrap_or(name);
        bare.starts_with(blocks) || name.starts_with(&head) || ends.iter().any(|end| bare.starts_with(end))
    };
    // The output matrix that a model with tied embeddings may store is not reported, because it was already compared
    // with the token embedding.
    let tied = format!("{head}weight");
    let kept = |name: &&str| {
        !(read.contains(name) || COMPUTED.iter().any(|end| name.ends_with(end)) || spec.tied && *name == tied)
    };
    weights.names().filter(of_decoder).filter(kept).collect()
}
