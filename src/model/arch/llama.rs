//! Reads the config of a model whose blocks are those of Llama: RMSNorm, RoPE, a gated MLP. The families differ in a few
//! options and in the defaults of absent keys, which [`LlamaKeys`] states as data. The defaults are those of
//! transformers.

use super::config::ConfigReader;
use super::family::Family;
use super::rope::RopePairing;
use super::rope_config::{RopeDialect, RopeKeys, read_rope};
use super::spec::{Biases, MAX_INTERMEDIATE, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Spec, activation, base, epsilon};
use super::windows::{rotated_layers, windows};
use crate::model::ModelError;

/// Whether some projections have biases.
#[derive(Clone, Copy, Debug)]
enum BiasKey {
    /// The family never has them, whatever the config states.
    Never,
    /// The family always has them.
    Always,
    /// A key states it; the second value is the default.
    Key(&'static str, bool),
}

/// The options and defaults of one family.
#[derive(Clone, Copy, Debug)]
struct LlamaKeys {
    /// The default number of key/value heads; `None` for the number of query heads.
    kv_heads: Option<usize>,
    /// The default number of elements of a head; `None` for the hidden size divided by the number of heads.
    head: Option<usize>,
    epsilon: f64,
    tied: bool,
    /// Biases of the query, key and value projections, of the output projection of attention, and of the MLP.
    biases: [BiasKey; 3],
    rope: RopeKeys,
    /// The older names of the keys of layers, activation and ε, if the family has them (EXAONE).
    older: bool,
}

const ATTENTION: BiasKey = BiasKey::Key("attention_bias", false);
const MLP: BiasKey = BiasKey::Key("mlp_bias", false);
const NEVER: [BiasKey; 3] = [BiasKey::Never; 3];

const LLAMA: LlamaKeys = LlamaKeys {
    kv_heads: None,
    head: None,
    epsilon: 1e-6,
    tied: false,
    biases: [ATTENTION, ATTENTION, MLP],
    rope: RopeKeys::LLAMA,
    older: false,
};
const ROPE: RopeKeys = RopeKeys::LLAMA;

/// Returns the options and defaults of a family.
fn keys(family: &Family) -> LlamaKeys {
    let neighbours = |theta| RopeKeys { pairing: RopePairing::Neighbours, theta, ..ROPE };
    let stated = |theta| RopeKeys { dialect: RopeDialect::MustBeStated, theta, ..ROPE };
    match family.model_type {
        "mistral" | "ministral" => LlamaKeys { kv_heads: Some(8), biases: NEVER, ..LLAMA },
        "ministral3" => {
            LlamaKeys { kv_heads: Some(8), head: Some(128), epsilon: 1e-5, biases: NEVER, rope: stated(1e6), ..LLAMA }
        }
        "qwen2" => LlamaKeys { kv_heads: Some(32), biases: [BiasKey::Always, BiasKey::Never, BiasKey::Never], ..LLAMA },
        "qwen3" => {
            LlamaKeys { kv_heads: Some(32), head: Some(128), biases: [ATTENTION, ATTENTION, BiasKey::Never], ..LLAMA }
        }
        "seed_oss" => LlamaKeys {
            kv_heads: Some(8),
            head: Some(128),
            biases: [BiasKey::Key("attention_bias", true), BiasKey::Key("attention_out_bias", false), MLP],
            ..LLAMA
        },
        "smollm3" => LlamaKeys { kv_heads: Some(4), tied: true, rope: RopeKeys { theta: 2e6, ..ROPE }, ..LLAMA },
        "cwm" => LlamaKeys {
            kv_heads: Some(8),
            head: Some(128),
            epsilon: 1e-5,
            biases: [BiasKey::Never, BiasKey::Never, MLP],
            rope: stated(1e6),
            ..LLAMA
        },
        "ernie4_5" => LlamaKeys {
            kv_heads: Some(2),
            head: Some(128),
            epsilon: 1e-5,
            tied: true,
            biases: [BiasKey::Key("use_bias", false); 3],
            rope: neighbours(5e5),
            ..LLAMA
        },
        "helium" => LlamaKeys {
            kv_heads: Some(20),
            head: Some(128),
            epsilon: 1e-8,
            biases: [ATTENTION, BiasKey::Never, MLP],
            rope: neighbours(1e5),
            ..LLAMA
        },
        "hunyuan_v1_dense" => LlamaKeys {
            epsilon: 1e-5,
            biases: [ATTENTION, ATTENTION, BiasKey::Never],
            rope: RopeKeys { dialect: RopeDialect::DynamicHasAlpha, ..ROPE },
            ..LLAMA
        },
        "phi3" => LlamaKeys {
            epsilon: 1e-5,
            biases: NEVER,
            rope: RopeKeys { part: Some(("partial_rotary_factor", 1.0)), dialect: RopeDialect::YarnIsLongRope, ..ROPE },
            ..LLAMA
        },
        "exaone" => {
            LlamaKeys { kv_heads: Some(8), epsilon: 1e-5, rope: RopeKeys { theta: 5e5, ..ROPE }, older: true, ..LLAMA }
        }
        _ => LLAMA,
    }
}

impl BiasKey {
    fn read(self, config: &ConfigReader<'_>) -> Result<bool, ModelError> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::Key(key, default) => config.flag(key, default),
        }
    }
}

/// Reads the config of a model with the blocks of Llama.
///
/// # Errors
/// If a value is missing, invalid or not supported.
pub(super) fn llama(family: &'static Family, config: &ConfigReader<'_>) -> Result<Spec, ModelError> {
    let keys = keys(family);
    let named = |key: &'static str, older: &'static str| {
        if keys.older && config.get(key).is_none() && config.get(older).is_some() { older } else { key }
    };
    let width = config.size("hidden_size", MAX_WIDTH)?;
    let heads = config.size("num_attention_heads", width)?;
    let layers = config.size(named("num_hidden_layers", "num_layers"), MAX_LAYERS)?;
    let default_kv_heads = keys.kv_heads.map_or(heads, |default| default.min(heads));
    let kv_heads = config.size_or("num_key_value_heads", heads, None)?.unwrap_or(default_kv_heads);
    if !heads.is_multiple_of(kv_heads) {
        let problem = format!("is {kv_heads}, which does not divide num_attention_heads = {heads}");
        return Err(config.error("num_key_value_heads", &problem));
    }
    let head = match config.size_or("head_dim", MAX_WIDTH, keys.head)? {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(config.error("num_attention_heads", "does not divide hidden_size, and no head_dim is given"));
        }
    };
    let rope = read_rope(config, head, keys.rope)?;
    let positions = config.size("max_position_embeddings", MAX_TOKENS)?;
    let [attention_in, attention_out, mlp] = keys.biases;
    let rotated = rotated_layers(config, family, layers)?;
    Ok(Spec {
        intermediate_size: config.size("intermediate_size", MAX_INTERMEDIATE)?,
        kv_heads,
        head_width: head,
        max_positions: rope.limit().map_or(positions, |limit| limit.min(positions)),
        vocabulary: config.size("vocab_size", MAX_TOKENS)?,
        epsilon: epsilon(config, named("rms_norm_eps", "layer_norm_epsilon"), keys.epsilon)?,
        tied: config.flag("tie_word_embeddings", keys.tied)?,
        activation: activation(config, named("hidden_act", "activation_function"), "silu")?,
        biases: Biases {
            attention_in: attention_in.read(config)?,
            attention_out: attention_out.read(config)?,
            mlp: mlp.read(config)?,
            head: false,
        },
        rope: Some(rope),
        windows: windows(config, family, &rotated)?,
        rotated,
        ..base(family, width, heads, layers)
    })
}
