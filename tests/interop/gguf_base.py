"""A base model as llama.cpp reads it, in F32, by the `gguf` package. No vocabulary: token ids are fed as they are."""

import json

import gguf
import numpy as np
from safetensors.numpy import load_file


def gpt2(writer, config, get):
    heads, width = config["n_head"], config["n_embd"]
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * width)
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    yield "token_embd.weight", get("wte.weight")
    yield "position_embd.weight", get("wpe.weight")
    parts = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2"}
    parts |= {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
    for layer in range(config["n_layer"]):
        for theirs, ours in parts.items():
            # Conv1D keeps [inputs, outputs].
            yield f"blk.{layer}.{theirs}.weight", get(f"h.{layer}.{ours}.weight").T
            yield f"blk.{layer}.{theirs}.bias", get(f"h.{layer}.{ours}.bias")
    yield "output_norm.weight", get("ln_f.weight")
    yield "output_norm.bias", get("ln_f.bias")


def llama(writer, config, get):
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    yield "rope_freqs.weight", factors(config["rope_scaling"], config["rope_theta"], head)

    def pairs(weight, count):
        # llama.cpp turns neighbours, the Hub's Llama turns halves.
        return weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

    yield "token_embd.weight", get("embed_tokens.weight")
    names = {"attn_norm": "input_layernorm", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm"}
    names |= {"attn_v": "self_attn.v_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
    names |= {"ffn_down": "mlp.down_proj"}
    for layer in range(config["num_hidden_layers"]):
        at = f"layers.{layer}."
        yield f"blk.{layer}.attn_q.weight", pairs(get(f"{at}self_attn.q_proj.weight"), heads)
        yield f"blk.{layer}.attn_k.weight", pairs(get(f"{at}self_attn.k_proj.weight"), groups)
        for theirs, ours in names.items():
            yield f"blk.{layer}.{theirs}.weight", get(f"{at}{ours}.weight")
    yield "output_norm.weight", get("norm.weight")
    yield "output.weight", get("lm_head.weight")


def factors(scaling, base, head):
    """By what each frequency is divided: the scaling of Llama 3.1."""
    low, high, original = (scaling[key] for key in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"))
    out = []
    for frequency in 1 / base ** (np.arange(0, head, 2) / head):
        wave = 2 * np.pi / frequency
        share = np.clip((original / wave - low) / (high - low), 0, 1)
        out.append(1 / ((1 - share) / scaling["factor"] + share))
    return np.array(out, dtype=np.float32)


def write(folder, path):
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    architecture, prefix, make = {"gpt2": ("gpt2", "transformer.", gpt2), "llama": ("llama", "model.", llama)}[config["model_type"]]

    def get(name):
        return tensors[next(key for key in (prefix + name, name) if key in tensors)]

    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in make(writer, config, get):
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
