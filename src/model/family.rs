//! What distinguishes one architecture from another, as data: names, wiring, and how tensors are stored.

use crate::patch::Layout;

/// How query, key and value are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// One matrix: all queries, then all keys, then all values.
    Fused(&'static str),
    /// One matrix: query, key and value of the first head, then of the second, …
    ByHead(&'static str),
    /// Three matrices.
    Apart([&'static str; 3]),
}

/// What stands before attention and the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, gain and bias.
    Layer,
    /// The root of the mean square, a gain alone.
    Root,
}

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
    pub position_embedding: Option<&'static str>,
    /// A block's names start with this, the layer in place of `{}`.
    pub block: &'static str,
    /// Norm before attention, in the block.
    pub attention_norm: &'static str,
    /// Query, key and value.
    pub attention_in: Attention,
    /// Norms of every head's query and key.
    pub head_norms: Option<[&'static str; 2]>,
    /// The matrix behind attention.
    pub attention_out: &'static str,
    /// Norm before the MLP; none where it takes what attention takes.
    pub mlp_norm: Option<&'static str>,
    /// The matrix behind which the activation's other factor comes, where the MLP is gated.
    pub mlp_gate: Option<&'static str>,
    /// First MLP matrix.
    pub mlp_in: &'static str,
    /// Second MLP matrix: the one that is edited.
    pub mlp_out: &'static str,
    /// Norm behind the last block.
    pub final_norm: &'static str,
    /// Output matrix `[vocabulary, width]`, named without the prefix; the token embedding where it is tied.
    pub head: &'static str,
    /// Which norms.
    pub norm: NormKind,
    /// Orientation of the projections.
    pub layout: Layout,
}

/// GPT-2 of any size.
pub static GPT2: Family = Family {
    model_type: "gpt2",
    gguf: Some("gpt2"),
    prefix: "transformer.",
    token_embedding: "wte",
    position_embedding: Some("wpe"),
    block: "h.{}.",
    attention_norm: "ln_1",
    attention_in: Attention::Fused("attn.c_attn"),
    head_norms: None,
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

/// GPT-J: attention and MLP beside one another behind one norm.
pub static GPTJ: Family = Family {
    model_type: "gptj",
    gguf: Some("gptj"),
    position_embedding: None,
    attention_in: Attention::Apart(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    attention_out: "attn.out_proj",
    mlp_norm: None,
    mlp_in: "mlp.fc_in",
    mlp_out: "mlp.fc_out",
    layout: Layout::Linear,
    ..GPT2
};

/// GPT-Neo: every other layer sees only what is near.
pub static GPT_NEO: Family = Family {
    model_type: "gpt_neo",
    gguf: None,
    attention_in: Attention::Apart(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    attention_out: "attn.attention.out_proj",
    layout: Layout::Linear,
    ..GPT2
};

/// GPT-NeoX and Pythia.
pub static GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    gguf: Some("gptneox"),
    prefix: "gpt_neox.",
    token_embedding: "embed_in",
    position_embedding: None,
    block: "layers.{}.",
    attention_norm: "input_layernorm",
    attention_in: Attention::ByHead("attention.query_key_value"),
    head_norms: None,
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

/// Llama 2 and 3.
pub static LLAMA: Family = Family {
    model_type: "llama",
    gguf: Some("llama"),
    prefix: "model.",
    token_embedding: "embed_tokens",
    position_embedding: None,
    block: "layers.{}.",
    attention_norm: "input_layernorm",
    attention_in: Attention::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    head_norms: None,
    attention_out: "self_attn.o_proj",
    mlp_norm: Some("post_attention_layernorm"),
    mlp_gate: Some("mlp.gate_proj"),
    mlp_in: "mlp.up_proj",
    mlp_out: "mlp.down_proj",
    final_norm: "norm",
    head: "lm_head",
    norm: NormKind::Root,
    layout: Layout::Linear,
};

/// Mistral.
pub static MISTRAL: Family = Family { model_type: "mistral", ..LLAMA };

/// Qwen 2 and 2.5.
pub static QWEN2: Family = Family { model_type: "qwen2", gguf: Some("qwen2"), ..LLAMA };

/// Qwen 3.
pub static QWEN3: Family = Family {
    model_type: "qwen3",
    gguf: Some("qwen3"),
    head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    ..LLAMA
};

/// Ministral: a Mistral some of whose layers may see all the way.
pub static MINISTRAL: Family = Family { model_type: "ministral", gguf: None, ..LLAMA };

/// Seed-OSS: query, key and value have biases.
pub static SEED_OSS: Family = Family { model_type: "seed_oss", gguf: Some("seed_oss"), ..LLAMA };

/// Every family that can be read.
pub static FAMILIES: [&Family; 10] =
    [&GPT2, &GPTJ, &GPT_NEO, &GPT_NEOX, &LLAMA, &MISTRAL, &MINISTRAL, &QWEN2, &QWEN3, &SEED_OSS];

impl Family {
    /// The module that an edit of `layer` changes, as transformers names it.
    pub fn module(&self, layer: usize) -> String {
        format!("{}{}{}", self.prefix, self.block.replace("{}", &layer.to_string()), self.mlp_out)
    }

    /// The layer whose edited weight a file calls `parameter`, with the family's prefix or without.
    pub fn layer_of(&self, parameter: &str) -> Option<usize> {
        let name = parameter.strip_prefix(self.prefix).unwrap_or(parameter);
        let (before, behind) = self.block.split_once("{}")?;
        let (layer, rest) = name.strip_prefix(before)?.split_once('.')?;
        let rest = rest.strip_prefix(&behind[1..])?;
        let number: usize = layer.parse().ok()?;
        // One spelling of a number: `h.01.` is another name.
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
