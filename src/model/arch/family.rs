//! Describes each supported architecture as data: the names of its tensors, its optional parts, and how its tensors are
//! stored. The code that reads or runs a model takes all tensor names from a [`Family`].

use crate::safetensors::Layout;

/// How a checkpoint stores the query, key and value projections of attention: in one matrix or in three matrices. Each
/// variant contains the tensor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvLayout {
    /// One matrix, whose outputs are first all queries, then all keys, then all values.
    Fused(&'static str),
    /// One matrix, whose outputs are grouped by head: query, key and value of the first head, then of the second head,
    /// and so on.
    FusedByHead(&'static str),
    /// Three matrices: the query, the key and the value projection, in this order.
    Separate([&'static str; 3]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm, which normalises by mean and variance. It has a gain and a bias.
    Layer,
    /// RMSNorm, which normalises by the root mean square. It has a gain and no bias.
    Rms,
}

/// The tensor names of a model family, and how the family stores its tensors.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The `model_type` in config.json that selects this family.
    pub model_type: &'static str,
    /// The first part of the names of its classes in transformers, if it is not `model_type`.
    pub class: Option<&'static str>,
    /// The name of the architecture in llama.cpp; `None` if llama.cpp does not support the architecture.
    pub gguf: Option<&'static str>,
    /// Prefix of all tensor names except the name of the output matrix. A checkpoint that was saved without the output
    /// matrix omits the prefix.
    pub prefix: &'static str,
    /// Name of the token embedding, a tensor `[vocabulary, width]`.
    pub token_embedding: &'static str,
    /// Name of the learned position embedding, a tensor `[positions, width]`; `None` for families with RoPE.
    pub position_embedding: Option<&'static str>,
    /// Prefix of the names of a block's tensors. `{}` in the prefix is replaced by the number of the layer.
    pub block: &'static str,
    /// Name of the norm before attention. The prefix `block` is put before this name and before the names in the
    /// following fields, up to `mlp_out`.
    pub attention_norm: &'static str,
    pub attention_in: QkvLayout,
    /// Names of the two norms that are applied to the query and to the key of every head; `None` if the family does not
    /// normalise queries and keys.
    pub head_norms: Option<[&'static str; 2]>,
    /// Whether the norms of the heads are applied after RoPE; otherwise they are applied before it.
    pub head_norms_after_rope: bool,
    pub attention_out: &'static str,
    /// Name of the norm before the MLP; `None` if attention and MLP share one norm.
    pub mlp_norm: Option<&'static str>,
    /// Name of the gate projection of a gated MLP; `None` for other MLPs. The activated output of the gate is
    /// multiplied by the output of `mlp_in`. If it is the name of `mlp_in`, one matrix has the outputs of the gate,
    /// followed by those of the up-projection.
    pub mlp_gate: Option<&'static str>,
    /// Name of the first MLP matrix, the up-projection.
    pub mlp_in: &'static str,
    /// Name of the second MLP matrix, the down-projection, which edits change.
    pub mlp_out: &'static str,
    pub final_norm: &'static str,
    /// Name of the output matrix (LM head), a tensor `[vocabulary, width]`. `prefix` is never put before this name. A
    /// model with tied embeddings uses the token embedding as its output matrix.
    pub head: &'static str,
    pub norm: NormKind,
    /// Orientation of the projection weights in the file: `[out, in]` or `[in, out]`.
    pub layout: Layout,
}

pub static GPT2: Family = Family {
    model_type: "gpt2",
    class: None,
    gguf: Some("gpt2"),
    prefix: "transformer.",
    token_embedding: "wte",
    position_embedding: Some("wpe"),
    block: "h.{}.",
    attention_norm: "ln_1",
    attention_in: QkvLayout::Fused("attn.c_attn"),
    head_norms: None,
    head_norms_after_rope: false,
    attention_out: "attn.c_proj",
    mlp_norm: Some("ln_2"),
    mlp_gate: None,
    mlp_in: "mlp.c_fc",
    mlp_out: "mlp.c_proj",
    final_norm: "ln_f",
    head: "lm_head",
    norm: NormKind::Layer,
    layout: Layout::Conv1d,
};

/// GPT-J, in which attention and MLP run in parallel after one norm.
pub static GPTJ: Family = Family {
    model_type: "gptj",
    gguf: Some("gptj"),
    position_embedding: None,
    attention_in: QkvLayout::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    attention_out: "attn.out_proj",
    mlp_norm: None,
    mlp_in: "mlp.fc_in",
    mlp_out: "mlp.fc_out",
    layout: Layout::Linear,
    ..GPT2
};

/// GPT-Neo, in which every second layer uses local attention by default.
pub static GPT_NEO: Family = Family {
    model_type: "gpt_neo",
    gguf: None,
    attention_in: QkvLayout::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    attention_out: "attn.attention.out_proj",
    layout: Layout::Linear,
    ..GPT2
};

/// GPT-NeoX, including the Pythia models.
pub static GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    class: None,
    gguf: Some("gptneox"),
    prefix: "gpt_neox.",
    token_embedding: "embed_in",
    position_embedding: None,
    block: "layers.{}.",
    attention_norm: "input_layernorm",
    attention_in: QkvLayout::FusedByHead("attention.query_key_value"),
    head_norms: None,
    head_norms_after_rope: false,
    attention_out: "attention.dense",
    mlp_norm: Some("post_attention_layernorm"),
    mlp_gate: None,
    mlp_in: "mlp.dense_h_to_4h",
    mlp_out: "mlp.dense_4h_to_h",
    final_norm: "final_layer_norm",
    head: "embed_out",
    norm: NormKind::Layer,
    layout: Layout::Linear,
};

/// The architecture of Llama 2 and Llama 3.
pub static LLAMA: Family = Family {
    model_type: "llama",
    class: None,
    gguf: Some("llama"),
    prefix: "model.",
    token_embedding: "embed_tokens",
    position_embedding: None,
    block: "layers.{}.",
    attention_norm: "input_layernorm",
    attention_in: QkvLayout::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    head_norms: None,
    head_norms_after_rope: false,
    attention_out: "self_attn.o_proj",
    mlp_norm: Some("post_attention_layernorm"),
    mlp_gate: Some("mlp.gate_proj"),
    mlp_in: "mlp.up_proj",
    mlp_out: "mlp.down_proj",
    final_norm: "norm",
    head: "lm_head",
    norm: NormKind::Rms,
    layout: Layout::Linear,
};

/// Mistral, with the tensor names of Llama. Attention uses a sliding window by default.
pub static MISTRAL: Family = Family { model_type: "mistral", ..LLAMA };

/// Qwen 2 and Qwen 2.5, with the tensor names of Llama. The query, key and value projections have biases.
pub static QWEN2: Family = Family { model_type: "qwen2", gguf: Some("qwen2"), ..LLAMA };

/// Qwen 3, with the tensor names of Llama. A norm is applied to the query and the key of every head.
pub static QWEN3: Family = Family {
    model_type: "qwen3",
    gguf: Some("qwen3"),
    head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    ..LLAMA
};

/// Ministral, with the tensor names of Llama. Some layers use full attention, and the others use a sliding window.
pub static MINISTRAL: Family = Family { model_type: "ministral", gguf: None, ..LLAMA };

/// Seed-OSS, with the tensor names of Llama. The query, key and value projections have biases by default.
pub static SEED_OSS: Family = Family { model_type: "seed_oss", gguf: Some("seed_oss"), ..LLAMA };

/// Ministral 3, with the tensor names of Llama. RoPE is scaled by YaRN.
pub static MINISTRAL3: Family = Family { model_type: "ministral3", gguf: Some("mistral3"), ..LLAMA };

/// SmolLM3, with the tensor names of Llama. Every fourth layer has no RoPE by default.
pub static SMOLLM3: Family = Family { model_type: "smollm3", gguf: Some("smollm3"), ..LLAMA };

/// Code World Model, with the tensor names of Llama. Every fourth layer has full attention by default.
pub static CWM: Family = Family { model_type: "cwm", gguf: None, ..LLAMA };

/// Ernie 4.5 (dense), with the tensor names of Llama. RoPE rotates adjacent elements.
pub static ERNIE4_5: Family = Family { model_type: "ernie4_5", gguf: Some("ernie4_5"), ..LLAMA };

/// Helium, with the tensor names of Llama. RoPE rotates adjacent elements.
pub static HELIUM: Family = Family { model_type: "helium", gguf: None, ..LLAMA };

/// Hunyuan (dense), with the tensor names of Llama. A norm is applied to the query and the key of every head, after RoPE.
pub static HUNYUAN: Family = Family {
    model_type: "hunyuan_v1_dense",
    class: Some("HunYuanDenseV1"),
    gguf: Some("hunyuan-dense"),
    head_norms: Some(["self_attn.query_layernorm", "self_attn.key_layernorm"]),
    head_norms_after_rope: true,
    ..LLAMA
};

/// Phi-3, Phi-3.5 and Phi-4. Query, key and value are one matrix, and so are gate and up-projection.
pub static PHI3: Family = Family {
    model_type: "phi3",
    gguf: Some("phi3"),
    attention_in: QkvLayout::Fused("self_attn.qkv_proj"),
    mlp_gate: Some("mlp.gate_up_proj"),
    mlp_in: "mlp.gate_up_proj",
    ..LLAMA
};

/// EXAONE 3 and 3.5: the architecture of Llama with other tensor names.
pub static EXAONE: Family = Family {
    model_type: "exaone",
    gguf: Some("exaone"),
    prefix: "transformer.",
    token_embedding: "wte",
    block: "h.{}.",
    attention_norm: "ln_1",
    attention_in: QkvLayout::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    attention_out: "attn.attention.out_proj",
    mlp_norm: Some("ln_2"),
    mlp_gate: Some("mlp.c_fc_0"),
    mlp_in: "mlp.c_fc_1",
    mlp_out: "mlp.c_proj",
    final_norm: "ln_f",
    ..LLAMA
};

/// All supported families. Each family has a different `model_type`.
pub static FAMILIES: [&Family; 18] = [
    &GPT2,
    &GPTJ,
    &GPT_NEO,
    &GPT_NEOX,
    &LLAMA,
    &MISTRAL,
    &MINISTRAL,
    &MINISTRAL3,
    &QWEN2,
    &QWEN3,
    &SEED_OSS,
    &SMOLLM3,
    &CWM,
    &ERNIE4_5,
    &HELIUM,
    &HUNYUAN,
    &PHI3,
    &EXAONE,
];

impl Family {
    /// Returns the name of `layer`'s MLP down-projection as a module in transformers, for example
    /// `transformer.h.3.mlp.c_proj`. Edits change the weight of this module.
    pub fn module(&self, layer: usize) -> String {
        format!("{}{}{}", self.prefix, self.block.replace("{}", &layer.to_string()), self.mlp_out)
    }

    /// Parses `parameter`, a tensor name with or without the prefix of the family. Returns the layer if the tensor is
    /// the weight of an MLP down-projection, otherwise `None`.
    pub fn layer_of(&self, parameter: &str) -> Option<usize> {
        let name = parameter.strip_prefix(self.prefix).unwrap_or(parameter);
        let (before, after) = self.block.split_once("{}")?;
        let (layer, rest) = name.strip_prefix(before)?.split_once('.')?;
        let rest = rest.strip_prefix(&after[1..])?;
        let number: usize = layer.parse().ok()?;
        // Leading zeros are rejected, because `h.01.` and `h.1.` are different names.
        (rest.strip_suffix(".weight") == Some(self.mlp_out) && number.to_string() == layer).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_edited_weight_there_and_back() {
        for family in FAMILIES {
            let module = family.module(17);
            let parameter = format!("{module}.weight");
            assert_eq!(family.layer_of(&parameter), Some(17), "{parameter}");
            assert_eq!(family.layer_of(parameter.strip_prefix(family.prefix).expect("its prefix")), Some(17));
            assert_eq!(family.layer_of(&module), None);
            assert_eq!(family.layer_of(&parameter.replace("17", "017")), None);
            assert_eq!(family.layer_of(&parameter.replace("17", "x")), None);
        }
        assert_eq!(GPT_NEOX.module(3), "gpt_neox.layers.3.mlp.dense_4h_to_h");
        assert_eq!(GPT2.layer_of("transformer.h.3.attn.c_proj.weight"), None);
    }
}
