//! Reads the attention window of each layer from config.json: full attention, or a sliding window. Also reads which
//! layers apply RoPE.

use serde_json::Value;

use super::config::ConfigReader;
use super::family::Family;
use super::spec::{MAX_LAYERS, MAX_TOKENS};
use crate::model::ModelError;

/// The default attention window of Mistral and Ministral, in positions, for a config without the key `sliding_window`.
const MISTRAL_WINDOW: usize = 4096;
/// The default attention window of CWM, in positions.
const CWM_WINDOW: usize = 8192;

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

/// Which layers have a window if `layer_types` in config.json does not state it.
type Windowed<'a> = Box<dyn Fn(usize) -> bool + 'a>;

/// Returns the attention window of each layer, in positions; `None` for full attention. `rotated` states which layers
/// apply RoPE.
///
/// Mistral, Ministral and CWM models have windows by default, Ministral 3 and Phi-3 models only if `sliding_window` is
/// set, and Qwen and SmolLM3 models only if `use_sliding_window` is set. All other models have full attention. The key
/// `layer_types` states which layers have a window. Without it, these are all layers, except for Qwen (the layers from
/// `max_window_layers` on), CWM (three of four) and SmolLM3 (the layers without RoPE). Ministral 3 and Phi-3 do not have
/// this key.
pub(crate) fn windows(
    config: &ConfigReader<'_>,
    family: &Family,
    rotated: &[bool],
) -> Result<Vec<Option<usize>>, ModelError> {
    let layers = rotated.len();
    let (default, windowed): (_, Windowed<'_>) = match family.model_type {
        "mistral" | "ministral" => (Some(MISTRAL_WINDOW), Box::new(|_| true)),
        "cwm" => (Some(CWM_WINDOW), Box::new(|layer| layer % 4 != 0)),
        "ministral3" | "phi3" => (None, Box::new(|_| true)),
        "smollm3" if config.flag("use_sliding_window", false)? => (None, Box::new(|layer| !rotated[layer])),
        "qwen2" | "qwen3" if config.flag("use_sliding_window", false)? => {
            let first = first_windowed(config)?;
            (None, Box::new(move |layer| layer >= first))
        }
        _ => return Ok(vec![None; layers]),
    };
    // A config that sets the window to null has full attention.
    let window = config.size_or("sliding_window", MAX_TOKENS, default.filter(|_| !config.has("sliding_window")))?;
    let types = config.get("layer_types").filter(|_| !matches!(family.model_type, "ministral3" | "phi3"));
    let Some(types) = types else {
        return Ok((0..layers).map(|layer| window.filter(|_| windowed(layer))).collect());
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

/// Returns the index of the first layer of a Qwen model that has a window.
fn first_windowed(config: &ConfigReader<'_>) -> Result<usize, ModelError> {
    match config.get("max_window_layers") {
        None => Ok(28),
        Some(value) => value
            .as_u64()
            .map(|first| first as usize)
            .ok_or_else(|| config.error("max_window_layers", &format!("is {value}; a number of layers was expected"))),
    }
}

/// Returns whether each layer applies RoPE. SmolLM3 states it under `no_rope_layers`, where 1 means that the layer applies
/// RoPE; by default, every fourth layer does not.
pub(crate) fn rotated_layers(
    config: &ConfigReader<'_>,
    family: &Family,
    layers: usize,
) -> Result<Vec<bool>, ModelError> {
    if family.model_type != "smollm3" {
        return Ok(vec![true; layers]);
    }
    let key = "no_rope_layers";
    let Some(list) = config.get(key) else {
        let interval = config.size_or("no_rope_layer_interval", MAX_LAYERS, Some(4))?.unwrap_or(4);
        return Ok((1..=layers).map(|number| !number.is_multiple_of(interval)).collect());
    };
    let wrong = || config.error(key, &format!("is not a list of 0 or 1 for each of the {layers} layers"));
    let list = list.as_array().filter(|list| list.len() >= layers).ok_or_else(wrong)?;
    let rotates = |value: &Value| match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(wrong()),
    };
    list[..layers].iter().map(rotates).collect()
}
