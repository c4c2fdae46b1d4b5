//! Reads the attention window of each layer from config.json: full attention, or a sliding window.

use serde_json::Value;

use super::config::ConfigReader;
use super::family::Family;
use super::spec::{MAX_LAYERS, MAX_TOKENS};
use crate::model::ModelError;

/// The default attention window of Mistral and Ministral, in positions, for a config without the key `sliding_window`.
const MISTRAL_WINDOW: usize = 4096;

/// Returns, for each layer of a GPT-Neo, whether the layer uses local attention. The config states repeated patterns:
/// `[[["global", "local"], 12]]` describes 24 layers that alternate between global and local attention.
pub(crate) fn local_layers(config: &ConfigReader<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    let wrong = |problem: &str| config.error("attention_types", problem);
    let default = serde_json::json!([[["global", "local"], layers / 2]]);
    let types = config.get("attention_types").unwrap_or(&default);
    let mut kinds = Vec::new();
    for group in types.as_array().ok_or_else(|| wrong("is not a list"))? {
        let (names, times) = (group[0].as_array(), group[1].as_u64().filter(|times| *times <= MAX_LAYERS as u64));
        let (Some(names), Some(times)) = (names, times) else {
            return Err(wrong("has an entry that is not [[kinds], times]"));
        };
        for name in (0..times).flat_map(|_| names) {
            match name.as_str() {
                Some("global") => kinds.push(false),
                Some("local") => kinds.push(true),
                _ => return Err(wrong(&format!("has the kind {name}; supported: global, local"))),
            }
            if kinds.len() > layers {
                break;
            }
        }
    }
    if kinds.len() == layers {
        Ok(kinds)
    } else {
        Err(wrong(&format!("does not give the kind of each of the {layers} layers")))
    }
}

/// Returns the attention window of each layer, in positions; `None` for full attention. Mistral and Ministral models
/// have windows by default. Qwen models have windows only if `use_sliding_window` is set. Llama and Seed-OSS models
/// have full attention in every layer.
///
/// If the key `layer_types` is present, it states which layers have a window. Otherwise, every layer of a Mistral or
/// Ministral model has a window. In a Qwen model, every layer with an index of at least `max_window_layers` has one.
pub(crate) fn windows(
    config: &ConfigReader<'_>,
    family: &Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    // A Mistral or Ministral model has windows, unless its config sets `sliding_window` to null.
    let always = matches!(family.model_type, "mistral" | "ministral");
    let first_windowed = match family.model_type {
        _ if always => 0,
        "qwen2" | "qwen3" if config.flag("use_sliding_window", false)? => {
            match config.get("max_window_layers").map(|value| (value.as_u64(), value)) {
                None => 28,
                Some((Some(first), _)) => first as usize,
                Some((None, other)) => {
                    return Err(
                        config.error("max_window_layers", &format!("is {other}; a number of layers was expected"))
                    );
                }
            }
        }
        _ => return Ok(vec![None; layers]),
    };
    let default = (always && !config.has("sliding_window")).then_some(MISTRAL_WINDOW);
    let window = config.size_or("sliding_window", MAX_TOKENS, default)?;
    let Some(types) = config.get("layer_types") else {
        return Ok((0..layers).map(|layer| window.filter(|_| layer >= first_windowed)).collect());
    };
    let wrong = || config.error("layer_types", "does not give full_attention or sliding_attention for every layer");
    let types = types.as_array().filter(|types| types.len() == layers).ok_or_else(wrong)?;
    let kind = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") => Ok(window),
        _ => Err(wrong()),
    };
    types.iter().map(kind).collect()
}
