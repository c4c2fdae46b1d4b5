//! What distinguishes one architecture from another, as data.

use std::path::Path;

use serde_json::{Map, Value};

use super::ModelError;
use crate::patch::Layout;

/// The names that a family gives to its tensors, and how it stores them.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// The architecture that llama.cpp calls it, if it has one.
    pub gguf: Option<&'static str>,
    /// What stands before every name; exports of the bare transformer leave it out.
    pub prefix: &'static str,
    /// Token embedding, `[vocabulary, width]`.
    pub token_embedding: &'static str,
    /// Learned positions, `[positions, width]`.
    pub position_embedding: &'static str,
    /// A block's names start with this, the layer in place of `{}`.
    pub block: &'static str,
    /// Norm before attention, in the block.
    pub attention_norm: &'static str,
    /// Query, key and value in one matrix.
    pub attention_in: &'static str,
    /// The matrix behind attention.
    pub attention_out: &'static str,
    /// Norm before the MLP.
    pub mlp_norm: &'static str,
    /// First MLP matrix.
    pub mlp_in: &'static str,
    /// Second MLP matrix: the one that is edited.
    pub mlp_out: &'static str,
    /// Norm behind the last block.
    pub final_norm: &'static str,
    /// Output matrix `[vocabulary, width]`, named without the prefix; the token embedding where it is tied.
    pub head: &'static str,
    /// Orientation of the projections.
    pub layout: Layout,
}

/// GPT-2 of any size.
pub static GPT2: Family = Family {
    model_type: "gpt2",
    gguf: Some("gpt2"),
    prefix: "transformer.",
    token_embedding: "wte",
    position_embedding: "wpe",
    block: "h.{}.",
    attention_norm: "ln_1",
    attention_in: "attn.c_attn",
    attention_out: "attn.c_proj",
    mlp_norm: "ln_2",
    mlp_in: "mlp.c_fc",
    mlp_out: "mlp.c_proj",
    final_norm: "ln_f",
    head: "lm_head",
    layout: Layout::Conv1d,
};

static FAMILIES: [&Family; 1] = [&GPT2];

/// The shape of one model: a family and the numbers of its config.json.
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
    /// Context length.
    pub positions: usize,
    /// Vocabulary size.
    pub vocabulary: usize,
    /// ε of the norms.
    pub epsilon: f32,
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// Whether attention scores are divided by √(head width).
    scaled: bool,
    /// Whether they are also divided by the layer's number (from 1).
    scaled_by_layer: bool,
}

impl Spec {
    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// What attention scores of `layer` are multiplied by.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let by_width = if self.scaled { 1.0 / (self.head_width() as f32).sqrt() } else { 1.0 };
        if self.scaled_by_layer { by_width / (layer + 1) as f32 } else { by_width }
    }

    /// The module that an edit of `layer` changes, as transformers names it.
    pub fn module(&self, layer: usize) -> String {
        let Family { prefix, block, mlp_out, .. } = self.family;
        format!("{prefix}{}{mlp_out}", block.replace("{}", &layer.to_string()))
    }

    /// The layer whose edited weight a file calls `parameter`.
    pub fn layer_of(&self, parameter: &str) -> Option<usize> {
        let prefix = self.family.prefix;
        let names = |layer: &usize| {
            parameter.strip_prefix(prefix).unwrap_or(parameter).strip_suffix(".weight")
                == self.module(*layer).strip_prefix(prefix)
        };
        (0..self.layers).find(names)
    }

    /// Refuses a layer that the model does not have.
    pub fn check_layer(&self, layer: usize) -> Result<(), ModelError> {
        if layer < self.layers { Ok(()) } else { Err(ModelError::NoLayer { layer, last: self.layers - 1 }) }
    }

    /// Reads a parsed config.json; `path` is for messages.
    pub fn parse(path: &Path, config: &Value) -> Result<Self, ModelError> {
        let empty = Map::new();
        let config = Reader { path, config: config.as_object().unwrap_or(&empty) };
        let model_type = config.config.get("model_type").and_then(Value::as_str).unwrap_or("none given");
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
            let supported = FAMILIES.map(|family| family.model_type).join(", ");
            return Err(ModelError::Architecture { path: path.to_owned(), found: model_type.to_owned(), supported });
        };
        config.only("activation_function", "gelu_new", &["gelu_new", "gelu_pytorch_tanh"])?;
        if config.flag("add_cross_attention", false)? {
            return Err(config.error("add_cross_attention", "must be false: this is no decoder-only model"));
        }
        let width = config.size("n_embd", 1 << 16)?;
        let heads = config.size("n_head", width)?;
        if width % heads != 0 {
            return Err(config.error("n_head", &format!("is {heads}, which does not divide n_embd = {width}")));
        }
        let inner = if config.absent("n_inner") { 4 * width } else { config.size("n_inner", 1 << 20)? };
        let positions = if config.absent("n_positions") { "n_ctx" } else { "n_positions" };
        Ok(Self {
            family,
            layers: config.size("n_layer", 1 << 12)?,
            width,
            inner,
            heads,
            positions: config.size(positions, 1 << 24)?,
            vocabulary: config.size("vocab_size", 1 << 24)?,
            epsilon: config.positive("layer_norm_epsilon", 1e-5)?,
            tied: config.flag("tie_word_embeddings", true)?,
            scaled: config.flag("scale_attn_weights", true)?,
            scaled_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
        })
    }
}

/// Typed access to config.json, every refusal naming the key.
struct Reader<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn error(&self, key: &'static str, problem: &str) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key, problem: problem.to_owned() }
    }

    fn absent(&self, key: &str) -> bool {
        self.config.get(key).is_none_or(Value::is_null)
    }

    fn size(&self, key: &'static str, limit: usize) -> Result<usize, ModelError> {
        let value = self.config.get(key).ok_or_else(|| self.error(key, "is missing"))?;
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        match size {
            Some(size) if (1..=limit).contains(&size) => Ok(size),
            _ => Err(self.error(key, &format!("is {value}; a whole number from 1 to {limit} was expected"))),
        }
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ModelError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(key, &format!("is {other}; true or false was expected"))),
        }
    }

    fn positive(&self, key: &'static str, default: f32) -> Result<f32, ModelError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number < 1.0 => Ok(number as f32),
                _ => Err(self.error(key, &format!("is {value}; a number between 0 and 1 was expected"))),
            },
        }
    }

    fn only(&self, key: &'static str, default: &str, allowed: &[&str]) -> Result<(), ModelError> {
        let found = self.config.get(key).map_or(Some(default), Value::as_str);
        if found.is_some_and(|found| allowed.contains(&found)) {
            return Ok(());
        }
        let value = self.config.get(key).map(Value::to_string).unwrap_or_default();
        Err(self.error(key, &format!("is {value}; supported: {}", allowed.join(", "))))
    }
}
