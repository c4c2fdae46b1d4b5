//! Reads the dimensions and options of a model from its config.json. A missing optional key gets the default of
//! transformers. Values that are not supported are rejected.

use std::path::Path;

use serde_json::{Map, Value};

use super::activation::Activation;
use super::config::ConfigReader;
use super::family::Family;
use super::llama::llama;
use super::rope::{Rope, RopePairing, RopeScaling};
use super::rope_config::{RopeKeys, check_rotated, read_rope};
use super::windows::local_layers;
use crate::model::ModelError;
use crate::model::load::storage::config as stored;

/// Flags that state which projections of a model have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// Whether the query, key and value projections have biases.
    pub attention_in: bool,
    /// Whether the output projection of attention has a bias.
    pub attention_out: bool,
    /// Whether the matrices of the MLP (up-projection, down-projection, gate) have biases.
    pub mlp: bool,
    /// Whether the output matrix (LM head) has a bias.
    pub head: bool,
}

/// The dimensions and options of one model, read from its config.json.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The architecture: the names of the tensors, and how they are stored.
    pub family: &'static Family,
    pub layers: usize,
    /// The hidden size. Shapes in comments call it `d`.
    pub hidden_size: usize,
    /// The intermediate size of the MLP. Shapes in comments call it `f`.
    pub intermediate_size: usize,
    /// Number of query heads in each layer.
    pub heads: usize,
    /// Number of key/value heads. Each of them serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head_width: usize,
    /// Context length, in tokens.
    pub max_positions: usize,
    /// Number of token ids. The token embedding has one row per token id.
    pub vocabulary: usize,
    /// The ε of every norm, which is added to the variance (in RMSNorm, to the mean square).
    pub epsilon: f32,
    /// Whether the output matrix is the token embedding (`tie_word_embeddings`).
    pub tied: bool,
    pub activation: Activation,
    /// Whether the attention and the MLP of a block run in parallel, both on the input of the block.
    pub parallel: bool,
    pub biases: Biases,
    /// Rotary position embedding; `None` for models with learned position embeddings.
    pub rope: Option<Rope>,
    /// Whether each layer applies RoPE, if the model has it.
    pub rotated: Vec<bool>,
    /// Attention window of each layer: the number of positions to which a query attends, with the query's position
    /// included. `None` for full attention.
    pub windows: Vec<Option<usize>>,
    /// Whether attention scores are divided by √(head width).
    pub(super) scaled: bool,
    /// Whether attention scores are also divided by the number of the layer, where the first layer has the number 1.
    pub(super) scaled_by_layer: bool,
}

pub(super) const MAX_WIDTH: usize = 1 << 16;
pub(super) const MAX_INTERMEDIATE: usize = 1 << 20;
pub(crate) const MAX_LAYERS: usize = 1 << 12;
pub(crate) const MAX_TOKENS: usize = 1 << 24;

impl Spec {
    /// Returns the factor by which the attention scores of `layer` are multiplied before the softmax.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let by_width = if self.scaled { 1.0 / (self.head_width as f32).sqrt() } else { 1.0 };
        if self.scaled_by_layer { by_width / (layer + 1) as f32 } else { by_width }
    }

    /// Returns the name of `layer`'s MLP down-projection as a module in transformers, for example
    /// `transformer.h.3.mlp.c_proj`. Edits change the weight of this module.
    pub fn module(&self, layer: usize) -> String {
        self.family.module(layer)
    }

    /// Parses `parameter`, a tensor name with or without the prefix of the family. Returns the layer if the tensor is
    /// the weight of an MLP down-projection of this model, otherwise `None`.
    pub fn layer_of(&self, parameter: &str) -> Option<usize> {
        self.family.layer_of(parameter).filter(|layer| *layer < self.layers)
    }

    /// Checks that the model has a layer with the index `layer`, counted from 0.
    ///
    /// # Errors
    /// If `layer` is not below the number of layers.
    pub fn check_layer(&self, layer: usize) -> Result<(), ModelError> {
        if layer < self.layers { Ok(()) } else { Err(ModelError::NoLayer { layer, last: self.layers - 1 }) }
    }

    /// Reads the dimensions and options from the parsed config.json, `config`. Only error messages use `path`.
    ///
    /// # Errors
    /// If the architecture is not supported, the weights are quantised, or a value is missing, invalid or not
    /// supported.
    pub fn parse(path: &Path, config: &Value) -> Result<Self, ModelError> {
        let empty = Map::new();
        let config = ConfigReader::new(path, config.as_object().unwrap_or(&empty));
        let family = stored::family(&config)?;
        stored::refuse_quantised(&config)?;
        match family.model_type {
            "gpt2" => gpt2(family, &config),
            "gptj" => gptj(family, &config),
            "gpt_neo" => gpt_neo(family, &config),
            "gpt_neox" => gpt_neox(family, &config),
            _ => llama(family, &config),
        }
    }
}

pub(super) fn activation(
    config: &ConfigReader<'_>,
    key: &str,
    default: &'static str,
) -> Result<Activation, ModelError> {
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

fn heads(config: &ConfigReader<'_>, key: &str, width: usize, width_key: &str) -> Result<usize, ModelError> {
    let heads = config.size(key, width)?;
    if width.is_multiple_of(heads) {
        Ok(heads)
    } else {
        Err(config.error(key, &format!("is {heads}, which does not divide {width_key} = {width}")))
    }
}

pub(super) fn epsilon(config: &ConfigReader<'_>, key: &str, default: f64) -> Result<f32, ModelError> {
    Ok(config.positive(key, default, 1.0)? as f32)
}

/// Returns a [`Spec`] with the values that most families share: full attention, as many key/value heads as query heads,
/// MLP after attention (not in parallel), no biases, no RoPE. Fields without a common value, such as `vocabulary`, are
/// 0 and must be set by the caller.
pub(super) fn base(family: &'static Family, hidden_size: usize, heads: usize, layers: usize) -> Spec {
    Spec {
        family,
        layers,
        hidden_size,
        intermediate_size: 0,
        heads,
        kv_heads: heads,
        head_width: hidden_size / heads,
        max_positions: 0,
        vocabulary: 0,
        epsilon: 0.0,
        tied: false,
        activation: Activation::GeluTanh,
        parallel: false,
        biases: Biases { attention_in: false, attention_out: false, mlp: false, head: false },
        rope: None,
        rotated: vec![true; layers],
        windows: vec![None; layers],
        scaled: true,
        scaled_by_layer: false,
    }
}

/// Reads the config of a GPT-2 model. `gptj` also calls this function, because the keys of GPT-J are the same, and then
/// replaces some of the values.
fn gpt2(family: &'static Family, config: &ConfigReader<'_>) -> Result<Spec, ModelError> {
    let activation = activation(config, "activation_function", "gelu_new")?;
    if config.flag("add_cross_attention", false)? {
        return Err(config.error("add_cross_attention", "must be false: only decoder-only models are supported"));
    }
    let width = config.size("n_embd", MAX_WIDTH)?;
    let heads = heads(config, "n_head", width, "n_embd")?;
    let layers = config.size("n_layer", MAX_LAYERS)?;
    let positions = if config.get("n_positions").is_none() { "n_ctx" } else { "n_positions" };
    Ok(Spec {
        intermediate_size: config.size_or("n_inner", MAX_INTERMEDIATE, None)?.unwrap_or(4 * width),
        max_positions: config.size(positions, MAX_TOKENS)?,
        vocabulary: config.size("vocab_size", MAX_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_epsilon", 1e-5)?,
        tied: config.flag("tie_word_embeddings", true)?,
        activation,
        biases: Biases { attention_in: true, attention_out: true, mlp: true, head: false },
        scaled: config.flag("scale_attn_weights", true)?,
        scaled_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
        ..base(family, width, heads, layers)
    })
}

fn gptj(family: &'static Family, config: &ConfigReader<'_>) -> Result<Spec, ModelError> {
    let gpt2 = gpt2(family, config)?;
    let numbers = config.size_or("rotary_dim", MAX_WIDTH, Some(64))?.unwrap_or(gpt2.head_width);
    let numbers = check_rotated(config, "rotary_dim", numbers, gpt2.head_width)?;
    Ok(Spec {
        tied: config.flag("tie_word_embeddings", false)?,
        parallel: true,
        biases: Biases { attention_in: false, attention_out: false, mlp: true, head: true },
        rope: Some(Rope::new(RopePairing::Neighbours, numbers, 10_000.0, &RopeScaling::None)),
        scaled: true,
        scaled_by_layer: false,
        ..gpt2
    })
}

fn gpt_neo(family: &'static Family, config: &ConfigReader<'_>) -> Result<Spec, ModelError> {
    let width = config.size("hidden_size", MAX_WIDTH)?;
    let heads = heads(config, "num_heads", width, "hidden_size")?;
    let layers = config.size("num_layers", MAX_LAYERS)?;
    let window = config.size_or("window_size", MAX_TOKENS, Some(256))?;
    let kinds = local_layers(config, layers)?;
    Ok(Spec {
        intermediate_size: config.size_or("intermediate_size", MAX_INTERMEDIATE, None)?.unwrap_or(4 * width),
        max_positions: config.size("max_position_embeddings", MAX_TOKENS)?,
        vocabulary: config.size("vocab_size", MAX_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_epsilon", 1e-5)?,
        tied: config.flag("tie_word_embeddings", true)?,
        activation: activation(config, "activation_function", "gelu_new")?,
        biases: Biases { attention_in: false, attention_out: true, mlp: true, head: false },
        windows: kinds.iter().map(|local| window.filter(|_| *local)).collect(),
        scaled: false,
        ..base(family, width, heads, layers)
    })
}

fn gpt_neox(family: &'static Family, config: &ConfigReader<'_>) -> Result<Spec, ModelError> {
    let width = config.size("hidden_size", MAX_WIDTH)?;
    let heads = heads(config, "num_attention_heads", width, "hidden_size")?;
    let layers = config.size("num_hidden_layers", MAX_LAYERS)?;
    let head = width / heads;
    let bias = config.flag("attention_bias", true)?;
    let keys = RopeKeys { base: "rotary_emb_base", part: Some(("rotary_pct", 0.25)), ..RopeKeys::LLAMA };
    let rope = read_rope(config, head, keys)?;
    let positions = config.size("max_position_embeddings", MAX_TOKENS)?;
    Ok(Spec {
        intermediate_size: config.size("intermediate_size", MAX_INTERMEDIATE)?,
        max_positions: rope.limit().map_or(positions, |limit| limit.min(positions)),
        vocabulary: config.size("vocab_size", MAX_TOKENS)?,
        epsilon: epsilon(config, "layer_norm_eps", 1e-5)?,
        tied: config.flag("tie_word_embeddings", false)?,
        activation: activation(config, "hidden_act", "gelu")?,
        parallel: config.flag("use_parallel_residual", true)?,
        biases: Biases { attention_in: bias, attention_out: bias, mlp: true, head: false },
        rope: Some(rope),
        ..base(family, width, heads, layers)
    })
}
