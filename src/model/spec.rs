//! The shape of one model: a family and the numbers of its config.json.

use std::path::Path;

use serde_json::{Map, Value};

use super::ModelError;
use super::activation::Activation;
use super::config::Reader;
use super::family::{FAMILIES, Family};
use super::rotary::{Pairing, Rotary, Scaling};

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value.
    pub attention_in: bool,
    /// Behind attention.
    pub attention_out: bool,
    /// Both matrices of the MLP, and its gate.
    pub mlp: bool,
    /// The output matrix.
    pub head: bool,
}

/// The shape of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The family.
    pub family: &'static Family,
    /// Number of blocks.
    pub layers: usize,
    /// Hidden width d.
    pub width: usize,
    /// MLP inner width f.
    pub inner: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads that have a key and a value of their own: `heads` over this many queries share one.
    pub groups: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Context length.
    pub positions: usize,
    /// Vocabulary size.
    pub vocabulary: usize,
    /// ε of the norms.
    pub epsilon: f32,
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// What stands between the MLP's matrices.
    pub activation: Activation,
    /// Whether attention and MLP take the same hidden state, side by side.
    pub parallel: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Rotary positions.
    pub rotary: Option<Rotary>,
    /// Per layer, how far back a position sees, itself included; all the way where nothing is said.
    pub windows: Vec<Option<usize>>,
    /// Whether attention scores are divided by √(head width).
    scaled: bool,
    /// Whether they are also divided by the layer's number (from 1).
    scaled_by_layer: bool,
}

const MOST_WIDTH: usize = 1 << 16;
const MOST_INNER: usize = 1 << 20;
const MOST_LAYERS: usize = 1 << 12;
const MOST_TOKENS: usize = 1 << 24;
/// ε, bases and factors: what is beyond cannot be meant.
const MOST_BASE: f64 = 1e12;

impl Spec {
    /// What attention scores of `layer` are multiplied by.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let by_width = if self.scaled { 1.0 / (self.head_width as f32).sqrt() } else { 1.0 };
        if self.scaled_by_layer { by_width / (layer + 1) as f32 } else { by_width }
    }

    /// The module that an edit of `layer` changes, as transformers names it.
    pub fn module(&self, layer: usize) -> String {
        self.family.module(layer)
    }

    /// The layer whose edited weight a file calls `parameter`.
    pub fn layer_of(&self, parameter: &str) -> Option<usize> {
        self.family.layer_of(parameter).filter(|layer| *layer < self.layers)
    }

    /// Refuses a layer that the model does not have.
    pub fn check_layer(&self, layer: usize) -> Result<(), ModelError> {
        if layer < self.layers { Ok(()) } else { Err(ModelError::NoLayer { layer, last: self.layers - 1 }) }
    }

    /// Reads a parsed config.json; `path` is for messages.
    pub fn parse(path: &Path, config: &Value) -> Result<Self, ModelError> {
        let empty = Map::new();
        let config = Reader::new(path, config.as_object().unwrap_or(&empty));
        let model_type = config.word("model_type", "none given")?;
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
            let supported = FAMILIES.map(|family| family.model_type).join(", ");
            return Err(ModelError::Architecture { path: path.to_owned(), found: model_type.to_owned(), supported });
        };
        if let Some(quantised) = config.object("quantization_config")? {
            let method = quantised.word("quant_method", "an unnamed method")?.to_owned();
            return Err(ModelError::Quantised { path: path.to_owned(), method });
        }
        match family.model_type {
            "gpt2" => gpt2(family, &config),
            "gptj" => gptj(family, &config),
            "gpt_neo" => gpt_neo(family, &config),
            "gpt_neox" => gpt_neox(family, &config),
            _ => llama(family, &config),
        }
    }
}

fn activation(config: &Reader<'_>, key: &str, default: &'static str) -> Result<Activation, ModelError> {
    match config.word(key, default)? {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        other => {
            let known = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, silu, relu";
            Err(config.error(key, &format!("is {other:?}; supported: {known}")))
        }
    }
}

fn heads(config: &Reader<'_>, key: &str, width: usize, width_key: &str) -> Result<usize, ModelError> {
    let heads = config.size(key, width)?;
    match width % heads {
        0 => Ok(heads),
        _ => Err(config.error(key, &format!("is {heads}, which does not divide {width_key} = {width}"))),
    }
}

/// Rotary positions turn pairs of numbers.
fn turned(config: &Reader<'_>, key: &str, numbers: usize, head: usize) -> Result<usize, ModelError> {
    match numbers {
        _ if numbers.is_multiple_of(2) && (2..=head).contains(&numbers) => Ok(numbers),
        _ => Err(config.error(key, &format!("turns {numbers} of a head's {head} numbers; an even part was expected"))),
    }
}

fn epsilon(config: &Reader<'_>, key: &str, default: f64) -> Result<f32, ModelError> {
    Ok(config.positive(key, default, 1.0)? as f32)
}

/// What GPT-2 and the families that keep its names have in common.
fn gpt2(family: &'static Family, config: &Reader<'_>) -> Result<Spec, ModelError> {
    let activation = activation(config, "activation_function", "gelu_new")?;
    if config.flag("add_cross_attention", false)? {
        return Err(config.error("add_cross_attention", "must be false: this is no decoder-only model"));
    }
    let width = config.size("n_embd", MOST_WIDTH)?;
    let heads = heads(config, "n_head", width, "n_embd")?;
    let layers = config.size("n_layer", MOST_LAYERS)?;
    let positions = if config.get("n_positions").is_none() { "n_ctx" } else { "n_positions" };
    Ok(Spec {
        family,
        layers,
        width,
        inner: config.size_or("n_inner", MOST_INNER, None)?.unwrap_or(4 * width),
        heads,
        groups: heads,
        head_width: width / heads,
        positions: config.size(positions, MOST_TOKENS)?,
        vocabulary: config.size("vocab_size", MOST_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_epsilon", 1e-5)?,
        tied: config.flag("tie_word_embeddings", true)?,
        activation,
        parallel: false,
        biases: Biases { attention_in: true, attention_out: true, mlp: true, head: false },
        rotary: None,
        windows: vec![None; layers],
        scaled: config.flag("scale_attn_weights", true)?,
        scaled_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
    })
}

fn gptj(family: &'static Family, config: &Reader<'_>) -> Result<Spec, ModelError> {
    let like = gpt2(family, config)?;
    let numbers = config.size_or("rotary_dim", MOST_WIDTH, Some(64))?.unwrap_or(like.head_width);
    let numbers = turned(config, "rotary_dim", numbers, like.head_width)?;
    Ok(Spec {
        tied: config.flag("tie_word_embeddings", false)?,
        parallel: true,
        biases: Biases { attention_in: false, attention_out: false, mlp: true, head: true },
        rotary: Some(Rotary::new(Pairing::Neighbours, numbers, 10_000.0, Scaling::None)),
        scaled: true,
        scaled_by_layer: false,
        ..like
    })
}

fn gpt_neo(family: &'static Family, config: &Reader<'_>) -> Result<Spec, ModelError> {
    let width = config.size("hidden_size", MOST_WIDTH)?;
    let heads = heads(config, "num_heads", width, "hidden_size")?;
    let layers = config.size("num_layers", MOST_LAYERS)?;
    let window = config.size_or("window_size", MOST_TOKENS, Some(256))?;
    let kinds = neo_layers(config, layers)?;
    Ok(Spec {
        family,
        layers,
        width,
        inner: config.size_or("intermediate_size", MOST_INNER, None)?.unwrap_or(4 * width),
        heads,
        groups: heads,
        head_width: width / heads,
        positions: config.size("max_position_embeddings", MOST_TOKENS)?,
        vocabulary: config.size("vocab_size", MOST_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_epsilon", 1e-5)?,
        tied: config.flag("tie_word_embeddings", true)?,
        activation: activation(config, "activation_function", "gelu_new")?,
        parallel: false,
        biases: Biases { attention_in: false, attention_out: true, mlp: true, head: false },
        rotary: None,
        windows: kinds.iter().map(|local| window.filter(|_| *local)).collect(),
        scaled: false,
        scaled_by_layer: false,
    })
}

/// Which layers of a GPT-Neo see only what is near: `[[["global", "local"], 12]]` says it for twenty-four.
fn neo_layers(config: &Reader<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    let wrong = |problem: &str| config.error("attention_types", problem);
    let default = serde_json::json!([[["global", "local"], layers / 2]]);
    let types = config.get("attention_types").unwrap_or(&default);
    let mut kinds = Vec::new();
    for group in types.as_array().ok_or_else(|| wrong("is no list"))? {
        let (names, times) = (group[0].as_array(), group[1].as_u64().filter(|times| *times <= MOST_LAYERS as u64));
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
    match kinds.len() == layers {
        true => Ok(kinds),
        false => Err(wrong(&format!("does not say what each of the {layers} layers is"))),
    }
}

fn gpt_neox(family: &'static Family, config: &Reader<'_>) -> Result<Spec, ModelError> {
    let width = config.size("hidden_size", MOST_WIDTH)?;
    let heads = heads(config, "num_attention_heads", width, "hidden_size")?;
    let layers = config.size("num_hidden_layers", MOST_LAYERS)?;
    let head = width / heads;
    let bias = config.flag("attention_bias", true)?;
    Ok(Spec {
        family,
        layers,
        width,
        inner: config.size("intermediate_size", MOST_INNER)?,
        heads,
        groups: heads,
        head_width: head,
        positions: config.size("max_position_embeddings", MOST_TOKENS)?,
        vocabulary: config.size("vocab_size", MOST_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_eps", 1e-5)?,
        tied: config.flag("tie_word_embeddings", false)?,
        activation: activation(config, "hidden_act", "gelu")?,
        parallel: config.flag("use_parallel_residual", true)?,
        biases: Biases { attention_in: bias, attention_out: bias, mlp: true, head: false },
        rotary: Some(rotary(config, head, "rotary_emb_base", Some(("rotary_pct", 0.25)))?),
        windows: vec![None; layers],
        scaled: true,
        scaled_by_layer: false,
    })
}

/// Llama, Mistral and Qwen.
fn llama(family: &'static Family, config: &Reader<'_>) -> Result<Spec, ModelError> {
    let width = config.size("hidden_size", MOST_WIDTH)?;
    let heads = config.size("num_attention_heads", width)?;
    let layers = config.size("num_hidden_layers", MOST_LAYERS)?;
    let qwen = matches!(family.model_type, "qwen2" | "qwen3");
    let groups = match family.model_type {
        "mistral" => 8,
        _ if qwen => 32,
        _ => heads,
    };
    let groups = config.size_or("num_key_value_heads", heads, None)?.unwrap_or(groups.min(heads));
    if !heads.is_multiple_of(groups) {
        let problem = format!("is {groups}, which does not divide num_attention_heads = {heads}");
        return Err(config.error("num_key_value_heads", &problem));
    }
    let head = match config.size_or("head_dim", MOST_WIDTH, (family.model_type == "qwen3").then_some(128))? {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(config.error("num_attention_heads", "does not divide hidden_size, and no head_dim is given"));
        }
    };
    let bias = config.flag("attention_bias", false)?;
    let mlp = family.model_type == "llama" && config.flag("mlp_bias", false)?;
    Ok(Spec {
        family,
        layers,
        width,
        inner: config.size("intermediate_size", MOST_INNER)?,
        heads,
        groups,
        head_width: head,
        positions: config.size("max_position_embeddings", MOST_TOKENS)?,
        vocabulary: config.size("vocab_size", MOST_TOKENS)?,
        epsilon: epsilon(config, "rms_norm_eps", 1e-6)?,
        tied: config.flag("tie_word_embeddings", false)?,
        activation: activation(config, "hidden_act", "silu")?,
        parallel: false,
        biases: match family.model_type {
            // Qwen 2 has them on query, key and value, whatever its config says; Mistral has none.
            "qwen2" => Biases { attention_in: true, attention_out: false, mlp, head: false },
            "mistral" => Biases { attention_in: false, attention_out: false, mlp, head: false },
            _ => Biases { attention_in: bias, attention_out: bias, mlp, head: false },
        },
        rotary: Some(rotary(config, head, "rope_theta", None)?),
        windows: windows(config, family, layers)?,
        scaled: true,
        scaled_by_layer: false,
    })
}

/// How far back each layer sees: `layer_types` where it is given, else what the family's own keys say.
fn windows(config: &Reader<'_>, family: &Family, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    let from = match family.model_type {
        "mistral" => 0,
        "qwen2" | "qwen3" if config.flag("use_sliding_window", false)? => {
            match config.get("max_window_layers").map(|layers| (layers.as_u64(), layers)) {
                None => 28,
                Some((Some(layers), _)) => layers as usize,
                Some((None, other)) => {
                    return Err(
                        config.error("max_window_layers", &format!("is {other}; a number of layers was expected"))
                    );
                }
            }
        }
        _ => return Ok(vec![None; layers]),
    };
    let window = config.size_or("sliding_window", MOST_TOKENS, None)?;
    let Some(types) = config.get("layer_types") else {
        return Ok((0..layers).map(|layer| window.filter(|_| layer >= from)).collect());
    };
    let wrong = || config.error("layer_types", "does not say full_attention or sliding_attention for every layer");
    let types = types.as_array().filter(|types| types.len() == layers).ok_or_else(wrong)?;
    let kind = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") => Ok(window),
        _ => Err(wrong()),
    };
    types.iter().map(kind).collect()
}

/// Rotary positions as configs have said it over the years: a base and a scaling of their own, or `rope_parameters`
/// with all of it. `part`: the key and the default of the share of a head that is turned.
fn rotary(config: &Reader<'_>, head: usize, base: &str, part: Option<(&str, f64)>) -> Result<Rotary, ModelError> {
    let newer = config.object("rope_parameters")?;
    let place = newer.as_ref().unwrap_or(config);
    let base = if newer.is_some() || config.get(base).is_none() { "rope_theta" } else { base };
    let theta = place.positive(base, 10_000.0, MOST_BASE)?;
    let numbers = match part {
        None => head,
        Some((key, default)) => {
            let own = config.positive(key, default, 1.000_001)?;
            (place.positive("partial_rotary_factor", own, 1.000_001)? * head as f64) as usize
        }
    };
    let scaling = match newer {
        Some(newer) => Some(newer),
        None => config.object("rope_scaling")?,
    };
    let scaling = scaling.map_or(Ok(Scaling::None), |scaling| read_scaling(&scaling))?;
    let numbers = turned(config, part.map_or("head_dim", |(key, _)| key), numbers, head)?;
    Ok(Rotary::new(Pairing::Halves, numbers, theta, scaling))
}

fn read_scaling(scaling: &Reader<'_>) -> Result<Scaling, ModelError> {
    let key = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
    let number = |key: &str| {
        let number = scaling.positive(key, f64::NAN, MOST_BASE)?;
        if number.is_nan() { Err(scaling.error(key, "is missing")) } else { Ok(number) }
    };
    match scaling.word(key, "default")? {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
        "llama3" => {
            let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if low >= high {
                return Err(scaling.error("high_freq_factor", "must be above low_freq_factor"));
            }
            let original = number("original_max_position_embeddings")?;
            Ok(Scaling::Llama3 { factor: number("factor")?, low, high, original })
        }
        other => Err(scaling.error(key, &format!("is {other:?}; supported: default, linear, llama3"))),
    }
}
