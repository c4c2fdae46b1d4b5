//! Reads the family of a model from config.json, and rejects quantised weights.

use std::path::Path;

use crate::model::ModelError;
use crate::model::arch::config::ConfigReader;
use crate::model::arch::family::{FAMILIES, Family};

/// Returns the family that `model_type` in config.json names.
///
/// # Errors
/// If the family is not supported, or the config has no `model_type`. The error suggests a `model_type` if
/// `architectures` names a class of a supported family.
pub(in crate::model) fn family(config: &ConfigReader<'_>) -> Result<&'static Family, ModelError> {
    let unnamed = "";
    let model_type = config.word("model_type", unnamed)?;
    if let Some(family) = named(model_type) {
        return Ok(family);
    }
    if model_type == unnamed {
        return Err(without_type(config));
    }
    let part = match config.object("text_config")? {
        Some(text) => named(text.word("model_type", unnamed)?).map(|family| family.model_type),
        None => None,
    };
    let supported = FAMILIES.map(|family| family.model_type).join(", ");
    Err(ModelError::Architecture { path: config.path().to_owned(), found: model_type.to_owned(), supported, part })
}

fn named(model_type: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.model_type == model_type)
}

/// Returns the first class that `architectures` in config.json lists; `None` if there is none.
fn architecture<'a>(config: &ConfigReader<'a>) -> Option<&'a str> {
    config.get("architectures")?.as_array()?.first()?.as_str()
}

fn without_type(config: &ConfigReader<'_>) -> ModelError {
    let class = architecture(config);
    let family = class.and_then(|class| FAMILIES.into_iter().find(|family| is_of(class, family)));
    let help = match (class, family) {
        (Some(class), Some(family)) => {
            let name = family.model_type;
            format!("`architectures` names {class}: add `\"model_type\": \"{name}\"` to config.json")
        }
        _ => "add the `model_type` of the model that this one was made from".to_owned(),
    };
    ModelError::stored(config.path(), "`model_type` is missing", help)
}

/// Whether `class`, the name of a model class of transformers, belongs to `family`. For example, `LlamaForCausalLM`
/// belongs to the family `llama`.
fn is_of(class: &str, family: &Family) -> bool {
    let ends = ["For", "LMHeadModel", "DoubleHeadsModel", "Model"].map(|end| class.find(end));
    let stem = &class[..ends.into_iter().flatten().min().unwrap_or(class.len())];
    let own = family.class.unwrap_or(family.model_type);
    stem.replace('_', "").eq_ignore_ascii_case(&own.replace('_', ""))
}

/// Returns the first class that `architectures` in config.json lists, if this class does not belong to `family`;
/// otherwise `None`.
pub(in crate::model) fn other_class(path: &Path, config: &serde_json::Value, family: &Family) -> Option<String> {
    let config = ConfigReader::new(path, config.as_object()?);
    architecture(&config).filter(|class| !is_of(class, family)).map(str::to_owned)
}

/// Rejects a config that describes quantised weights.
///
/// # Errors
/// If the config has quantisation settings. The error names the method.
pub(in crate::model) fn refuse_quantised(config: &ConfigReader<'_>) -> Result<(), ModelError> {
    let quantised = |method: &str| ModelError::Quantised { path: config.path().to_owned(), method: method.to_owned() };
    // MLX states its settings under `quantization`, and again under `quantization_config`, where it does not name the
    // method (`quant_method`).
    if config.object("quantization")?.is_some_and(|said| said.get("bits").is_some()) {
        return Err(quantised("MLX"));
    }
    if let Some(said) = config.object("quantization_config")?.filter(|said| said.entries().next().is_some()) {
        let unnamed = if said.get("group_size").is_some() { "MLX" } else { "an unnamed method" };
        let method = said.word("quant_method", unnamed)?;
        if method != "none" {
            return Err(quantised(method));
        }
    }
    if config.object("compression_config")?.is_some_and(|said| said.entries().next().is_some()) {
        Err(quantised("compressed-tensors"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::arch::family;

    fn said<T>(config: &Value, of: impl Fn(&ConfigReader<'_>) -> Result<T, ModelError>) -> String {
        let config = ConfigReader::new(Path::new("config.json"), config.as_object().expect("an object"));
        of(&config).map_or_else(|error| format!("{error}\n{}", error.hint().unwrap_or_default()), |_| "read".to_owned())
    }

    #[test]
    fn quantised_weights_are_known_by_every_key() {
        for (config, want) in [
            (json!({ "quantization_config": { "quant_method": "gptq", "bits": 4 } }), "(gptq)"),
            (json!({ "quantization_config": { "quant_method": "fp8" } }), "dequantize=True"),
            (json!({ "quantization": { "group_size": 64, "bits": 4 } }), "(MLX)"),
            (json!({ "quantization_config": { "group_size": 64, "bits": 4 } }), "(MLX)"),
            (json!({ "quantization_config": { "x": 4 } }), "an unnamed method"),
            (json!({ "compression_config": { "format": "pack-quantized" } }), "(compressed-tensors)"),
            (json!({ "quantization_config": {} }), "read"),
            (json!({ "quantization_config": null, "compression_config": {} }), "read"),
            (json!({ "quantization_config": { "quant_method": "none" } }), "read"),
        ] {
            let found = said(&config, refuse_quantised);
            assert!(found.contains(want), "{config}: {found}");
        }
    }

    #[test]
    fn families_are_named_or_the_help_says_what_to_do() {
        for (config, want) in [
            (json!({ "model_type": "llama" }), "read"),
            (json!({}), "`model_type` is missing"),
            (json!({ "architectures": ["GPTNeoXForCausalLM"] }), "add `\"model_type\": \"gpt_neox\"`"),
            (json!({ "architectures": ["MambaForCausalLM"] }), "add the `model_type`"),
            (json!({ "model_type": "mamba" }), "architecture `mamba` is not supported"),
            (
                json!({ "model_type": "mistral3", "text_config": { "model_type": "mistral" } }),
                "its language part is `mistral`, which is supported",
            ),
            (
                json!({ "model_type": "gemma3", "text_config": { "model_type": "gemma3_text" } }),
                "own code is never run",
            ),
        ] {
            let found = said(&config, family);
            assert!(found.contains(want), "{config}: {found}");
        }
    }

    #[test]
    fn a_class_gives_a_relabelled_config_away() {
        let class = |name: &str, family| other_class(Path::new("c"), &json!({ "architectures": [name] }), family);
        for (name, family) in [
            ("LlamaForCausalLM", &family::LLAMA),
            ("LLaMAForCausalLM", &family::LLAMA),
            ("LlamaModel", &family::LLAMA),
            ("GPT2LMHeadModel", &family::GPT2),
            ("GPT2DoubleHeadsModel", &family::GPT2),
            ("GPTJForCausalLM", &family::GPTJ),
            ("GPTNeoForCausalLM", &family::GPT_NEO),
            ("GPTNeoXForCausalLM", &family::GPT_NEOX),
            ("SeedOssForCausalLM", &family::SEED_OSS),
            ("Qwen2ForRewardModel", &family::QWEN2),
            ("Ernie4_5ForCausalLM", &family::ERNIE4_5),
            ("HunYuanDenseV1ForCausalLM", &family::HUNYUAN),
            ("Ministral3ForCausalLM", &family::MINISTRAL3),
        ] {
            assert_eq!(class(name, family), None, "{name}");
        }
        for (name, family) in [
            ("GemmaForCausalLM", &family::LLAMA),
            ("Qwen2MoeForCausalLM", &family::QWEN2),
            ("GPTNeoXForCausalLM", &family::GPT_NEO),
            ("MistralForCausalLM", &family::LLAMA),
        ] {
            assert_eq!(class(name, family).as_deref(), Some(name));
        }
        assert_eq!(other_class(Path::new("c"), &json!({}), &family::LLAMA), None);
        assert_eq!(other_class(Path::new("c"), &json!({ "architectures": [] }), &family::LLAMA), None);
    }
}
