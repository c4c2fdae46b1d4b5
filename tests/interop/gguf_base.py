"""Writes a checkpoint of GPT-2 or Llama as GGUF in F32, without a vocabulary: llama.cpp can run it on token ids."""

import gguf
import numpy as np

GPT2 = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
LLAMA = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight, heads):
    """Reorders the rows of a query or key matrix: llama.cpp rotates adjacent rows, transformers the two halves of a head."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gpt2(writer, config, tensors):
    width = config["n_embd"]
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * width)
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    head = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    for name, tensor in tensors.items():
        name, kind = name.removeprefix("transformer.").rsplit(".", 1)
        # Conv1D stores [inputs, outputs]; GGUF needs [outputs, inputs].
        if tensor.ndim == 2 and name not in head:
            tensor = tensor.T
        if name.startswith("h."):
            _, layer, part = name.split(".", 2)
            yield f"blk.{layer}.{GPT2[part]}.{kind}", tensor
        else:
            yield f"{head[name]}.{kind}", tensor
    yield "output.weight", tensors["transformer.wte.weight"]


def llama(writer, config, tensors):
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    head = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, tensor in tensors.items():
        name = name.removesuffix(".weight")
        if name in head:
            yield f"{head[name]}.weight", tensor
            continue
        layer, part = name.removeprefix("model.layers.").split(".", 1)
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            tensor = interleaved(tensor, heads if part == "self_attn.q_proj" else groups)
        yield f"blk.{layer}.{LLAMA[part]}.weight", tensor


ARCHITECTURES = {"gpt2": gpt2, "llama": llama}


def write(path, config, tensors):
    """Writes the GGUF file; `tensors` has the checkpoint's tensors by their Hub names."""
    architecture = config["model_type"]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, tensor in ARCHITECTURES[architecture](writer, config, tensors):
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
