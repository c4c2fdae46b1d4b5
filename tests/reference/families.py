"""Computes the outputs of tiny checkpoints of every family with transformers: `golden/families.json`.

    python tests/reference/families.py [--out FILE]
    python tests/reference/families.py --save CASE FOLDER   # config.json and model.safetensors of one case
"""

import argparse
import json
import tempfile
from pathlib import Path

import common
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

SEED = 0x5EED0000
IDS = 0x1D500000  # + number of the case
DELTA = 0xDE17B000  # + number of the case
WIDTH, BLOCKS, HEADS, INNER, VOCABULARY, CONTEXT = 32, 3, 4, 48, 64, 64
LAYER, TOKENS, MIDDLE = 1, 12, 5
GREEDY = 32  # The number of tokens that are decoded greedily after the ids.
SCORED = [9, 10, 11]
# The position of delta; default: 4. With a window of 4 in the last block, position 4 does not affect the scored ones.
DELTA_AT = {"mistral": 8, "qwen2-window": 8, "ministral": 8, "phi3": 8, "cwm": 8}


def gpt2(**more):
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "embd_pdrop": 0.0,
        "eos_token_id": 0,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": CONTEXT,
        "n_embd": WIDTH,
        "n_head": HEADS,
        "n_layer": BLOCKS,
        "n_positions": CONTEXT,
        "resid_pdrop": 0.0,
        "vocab_size": VOCABULARY,
    } | more


def gptj(**more):
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPTJForCausalLM"],
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "embd_pdrop": 0.0,
        "eos_token_id": 0,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gptj",
        "n_embd": WIDTH,
        "n_head": HEADS,
        "n_inner": None,
        "n_layer": BLOCKS,
        "n_positions": CONTEXT,
        "resid_pdrop": 0.0,
        "rotary": True,
        "rotary_dim": 4,
        "scale_attn_weights": True,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
    } | more


def gpt_neo(**more):
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPTNeoForCausalLM"],
        "attention_dropout": 0,
        "attention_layers": ["global", "local", "global"],
        "attention_types": [[["global", "local"], 1], [["global"], 1]],
        "bos_token_id": 0,
        "embed_dropout": 0,
        "eos_token_id": 0,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": CONTEXT,
        "model_type": "gpt_neo",
        "num_heads": HEADS,
        "num_layers": BLOCKS,
        "resid_dropout": 0,
        "vocab_size": VOCABULARY,
        "window_size": 4,
    } | more


def gpt_neox(**more):
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": CONTEXT,
        "model_type": "gpt_neox",
        "num_attention_heads": HEADS,
        "num_hidden_layers": BLOCKS,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_parallel_residual": True,
        "vocab_size": VOCABULARY,
    } | more


def gated(model_type, architecture, **more):
    """Returns the config keys that Llama, Mistral and Qwen share."""
    return {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "max_position_embeddings": CONTEXT,
        "model_type": model_type,
        "num_attention_heads": HEADS,
        "num_hidden_layers": BLOCKS,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": VOCABULARY,
    } | more


def llama(**more):
    return gated("llama", "LlamaForCausalLM", **more)


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


# With a base of 100, the pairs 1 to 4 of YARN are interpolated.
YARN = {"beta_fast": 0.5, "beta_slow": 0.05, "factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"}
LONG = {"long_factor": [1.0, 2.0, 3.0, 4.0], "short_factor": [1.0, 1.25, 1.5, 2.5], "type": "longrope"}
LLAMA3 = {
    # The wavelengths of the four pairs are 6.3, 20, 63 and 199: unchanged, interpolated, divided, divided.
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}

CASES = {
    "gpt2": gpt2(),
    "gpt2-options": gpt2(
        activation_function="gelu_pytorch_tanh",
        n_inner=INNER,
        scale_attn_by_inverse_layer_idx=True,
        scale_attn_weights=True,
        tie_word_embeddings=False,
    ),
    "gptj": gptj(),
    "gpt_neo": gpt_neo(),
    "gpt_neox": gpt_neox(),
    "gpt_neox-sequential": gpt_neox(
        attention_bias=True, hidden_act="gelu_fast", rotary_pct=0.5, use_parallel_residual=False
    ),
    "llama": llama(num_key_value_heads=HEADS, pretraining_tp=1, rope_scaling=None),
    "llama3": llama(
        attention_bias=False,
        mlp_bias=False,
        num_key_value_heads=2,
        rope_scaling=LLAMA3,
        rope_theta=100.0,
        tie_word_embeddings=True,
    ),
    "llama-linear": llama(
        attention_bias=True, head_dim=12, mlp_bias=True, rope_scaling={"factor": 2.0, "type": "linear"}, rope_theta=10000.0
    ),
    "llama-v5": without(
        llama(
            attention_bias=False,
            dtype="float32",
            head_dim=WIDTH // HEADS,
            initializer_range=0.02,
            mlp_bias=False,
            num_key_value_heads=2,
            pad_token_id=None,
            pretraining_tp=1,
            rope_parameters=LLAMA3 | {"rope_theta": 100.0},
            transformers_version="5.0.0",
            use_cache=True,
        ),
        "torch_dtype",
    ),
    "mistral": gated(
        "mistral", "MistralForCausalLM", head_dim=16, num_key_value_heads=2, rope_theta=10000.0, sliding_window=4
    ),
    "qwen2": gated(
        "qwen2",
        "Qwen2ForCausalLM",
        max_window_layers=1,
        num_key_value_heads=2,
        rms_norm_eps=1e-06,
        rope_theta=1000000.0,
        sliding_window=4,
        tie_word_embeddings=True,
        use_sliding_window=False,
    ),
    "qwen2-window": gated(
        "qwen2",
        "Qwen2ForCausalLM",
        max_window_layers=1,
        num_key_value_heads=2,
        rms_norm_eps=1e-06,
        rope_theta=1000000.0,
        sliding_window=4,
        use_sliding_window=True,
    ),
    "qwen3": gated(
        "qwen3",
        "Qwen3ForCausalLM",
        attention_bias=False,
        head_dim=16,
        max_window_layers=BLOCKS,
        num_key_value_heads=2,
        rms_norm_eps=1e-06,
        rope_scaling=None,
        rope_theta=1000000.0,
        sliding_window=None,
        tie_word_embeddings=True,
        use_sliding_window=False,
    ),
    "ministral": gated(
        "ministral",
        "MinistralForCausalLM",
        head_dim=16,
        layer_types=["full_attention", "full_attention", "sliding_attention"],
        num_key_value_heads=2,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        sliding_window=4,
    ),
    "seed_oss": gated(
        "seed_oss",
        "SeedOssForCausalLM",
        attention_bias=True,
        attention_out_bias=False,
        head_dim=12,
        mlp_bias=False,
        num_key_value_heads=2,
        rope_parameters={"factor": 4.0, "rope_theta": 10000.0, "rope_type": "dynamic"},
    ),
    "llama-yarn": llama(num_key_value_heads=2, rope_scaling=YARN, rope_theta=100.0),
    "qwen2-yarn": gated(
        "qwen2",
        "Qwen2ForCausalLM",
        num_key_value_heads=2,
        rope_parameters=without(YARN, "type") | {"attention_factor": 1.25, "rope_theta": 1000000.0, "rope_type": "yarn"},
    ),
    "phi3": gated(
        "phi3",
        "Phi3ForCausalLM",
        num_key_value_heads=2,
        original_max_position_embeddings=CONTEXT,
        pad_token_id=0,
        partial_rotary_factor=0.5,
        rope_scaling=None,
        rope_theta=10000.0,
        sliding_window=4,
    ),
    "phi3-longrope": gated(
        "phi3",
        "Phi3ForCausalLM",
        original_max_position_embeddings=48,
        pad_token_id=0,
        rope_scaling=LONG,
        rope_theta=10000.0,
        sliding_window=None,
    ),
    "smollm3": gated(
        "smollm3",
        "SmolLM3ForCausalLM",
        no_rope_layer_interval=2,
        no_rope_layers=[1, 0, 1],
        num_key_value_heads=2,
        pad_token_id=0,
        rope_theta=2000000.0,
        tie_word_embeddings=True,
    ),
    "cwm": gated(
        "cwm",
        "CwmForCausalLM",
        head_dim=16,
        num_key_value_heads=2,
        rope_parameters=LLAMA3 | {"rope_theta": 100.0},
        sliding_window=4,
    ),
    "ernie4_5": gated("ernie4_5", "Ernie4_5ForCausalLM", head_dim=12, num_key_value_heads=2, rope_theta=500000.0, use_bias=True),
    "helium": gated(
        "helium", "HeliumForCausalLM", attention_bias=True, head_dim=8, mlp_bias=True, num_key_value_heads=2, rope_theta=100000.0
    ),
    "hunyuan": gated(
        "hunyuan_v1_dense",
        "HunYuanDenseV1ForCausalLM",
        attention_bias=True,
        head_dim=12,
        num_key_value_heads=2,
        rope_scaling={"alpha": 1000.0, "factor": 1.0, "type": "dynamic"},
        rope_theta=10000.0,
        tie_word_embeddings=True,
    ),
    "ministral3": gated(
        "ministral3",
        "Ministral3ForCausalLM",
        head_dim=16,
        num_key_value_heads=2,
        rope_parameters={
            "beta_fast": 8.0,
            "beta_slow": 1.0,
            "factor": 16.0,
            "llama_4_scaling_beta": 0.1,
            "mscale": 2.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 48,
            "rope_theta": 1000000.0,
            "rope_type": "yarn",
        },
        sliding_window=None,
    ),
    "exaone": without(
        gated(
            "exaone",
            "ExaoneForCausalLM",
            activation_function="silu",
            layer_norm_epsilon=1e-05,
            num_key_value_heads=2,
            num_layers=BLOCKS,
            rope_theta=500000.0,
        ),
        "hidden_act",
        "num_hidden_layers",
        "rms_norm_eps",
    ),
}

# Another value of each of these keys must change the logits; otherwise a reader that ignores the key would pass.
MATTERS = {
    "gpt2": {"activation_function": "gelu", "layer_norm_epsilon": 1e-3},
    "gpt2-options": {"activation_function": "gelu", "scale_attn_by_inverse_layer_idx": False},
    "gptj": {"rotary_dim": 8, "activation_function": "gelu"},
    "gpt_neo": {"window_size": 5, "attention_types": [[["global"], 3]]},
    "gpt_neox": {"rotary_pct": 0.5, "use_parallel_residual": False, "hidden_act": "gelu_new"},
    "gpt_neox-sequential": {"rotary_pct": 0.25, "use_parallel_residual": True, "rotary_emb_base": 100},
    "llama": {"rope_theta": 100.0, "rms_norm_eps": 1e-2},
    "llama3": {"rope_theta": 10000.0, "rope_scaling": None}
    | {f"rope_scaling {k}": LLAMA3 | {k: v} for k, v in [("factor", 4.0), ("high_freq_factor", 8.0), ("low_freq_factor", 1.5)]},
    "llama-linear": {"rope_scaling": None, "rope_theta": 100.0},
    "llama-v5": {"rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}},
    "mistral": {"sliding_window": None, "rope_theta": 100.0},
    "qwen2": {"use_sliding_window": True, "rope_theta": 100.0, "max_window_layers": 0, "sliding_window": 5},
    "qwen2-window": {"use_sliding_window": False, "max_window_layers": 2, "sliding_window": 5},
    "qwen3": {"rope_theta": 100.0, "rms_norm_eps": 1e-2},
    "ministral": {"sliding_window": 5, "layer_types": ["full_attention"] * 3},
    "seed_oss": {"rms_norm_eps": 1e-2},
    "llama-yarn": {"rope_theta": 10000.0, "rope_scaling": None}
    | {f"rope_scaling {k}": YARN | {k: v} for k, v in [("factor", 8.0), ("original_max_position_embeddings", 32)]}
    | {f"rope_scaling {k}": YARN | {k: v} for k, v in [("beta_fast", 4.0), ("beta_slow", 0.5), ("truncate", False)]}
    | {"rope_scaling attention_factor": YARN | {"attention_factor": 2.0}},
    "qwen2-yarn": {"rms_norm_eps": 1e-2},
    "phi3": {"partial_rotary_factor": 1.0, "sliding_window": None, "rope_theta": 100.0},
    "phi3-longrope": {"rope_scaling": None, "max_position_embeddings": 48, "rope_scaling short": LONG | {"short_factor": [1.0] * 4}},
    "smollm3": {"no_rope_layers": [1, 1, 1], "rope_theta": 100.0},
    "cwm": {"sliding_window": 5, "layer_types": ["full_attention"] * 3},
    "ernie4_5": {"rope_theta": 100.0, "rms_norm_eps": 1e-2},
    "helium": {"rope_theta": 100.0, "rms_norm_eps": 1e-2},
    "hunyuan": {"rope_scaling": None, "rope_theta": 100.0, "rms_norm_eps": 1e-2},
    "ministral3": {"sliding_window": 4, "rms_norm_eps": 1e-2},
    "exaone": {"rope_theta": 100.0, "layer_norm_epsilon": 1e-2, "activation_function": "gelu"},
}
# These keys must have no effect: the window is off, so the keys that describe it are not read.
IDLE = {("qwen2", "max_window_layers"), ("qwen2", "sliding_window")}


def shapes(config):
    """Returns the shapes of all tensors that a Hub checkpoint of this config has, without buffers and a tied head."""
    return SHAPES[config["model_type"]](config)


def norm(out, name, width=WIDTH):
    out[f"{name}.weight"] = out[f"{name}.bias"] = (width,)


def gpt2_shapes(config):
    inner = config.get("n_inner") or 4 * WIDTH
    out = {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.wpe.weight": (CONTEXT, WIDTH)}
    norm(out, "transformer.ln_f")
    for layer in range(BLOCKS):
        at = f"transformer.h.{layer}."
        norm(out, f"{at}ln_1")
        norm(out, f"{at}ln_2")
        # Conv1D stores [inputs, outputs].
        for name, shape in {
            "attn.c_attn": (WIDTH, 3 * WIDTH),
            "attn.c_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (WIDTH, inner),
            "mlp.c_proj": (inner, WIDTH),
        }.items():
            out[f"{at}{name}.weight"], out[f"{at}{name}.bias"] = shape, (shape[1],)
    if not config.get("tie_word_embeddings", True):
        out["lm_head.weight"] = (VOCABULARY, WIDTH)
    return out


def linear(out, name, shape, bias):
    """Adds a Linear layer, which stores [outputs, inputs]."""
    out[f"{name}.weight"] = shape
    if bias:
        out[f"{name}.bias"] = (shape[0],)


def gptj_shapes(config):
    inner = 4 * WIDTH
    out = {"transformer.wte.weight": (VOCABULARY, WIDTH)}
    norm(out, "transformer.ln_f")
    linear(out, "lm_head", (VOCABULARY, WIDTH), True)
    for layer in range(BLOCKS):
        at = f"transformer.h.{layer}."
        norm(out, f"{at}ln_1")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(out, f"{at}attn.{name}", (WIDTH, WIDTH), False)
        linear(out, f"{at}mlp.fc_in", (inner, WIDTH), True)
        linear(out, f"{at}mlp.fc_out", (WIDTH, inner), True)
    return out


def gpt_neo_shapes(config):
    out = {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.wpe.weight": (CONTEXT, WIDTH)}
    norm(out, "transformer.ln_f")
    for layer in range(BLOCKS):
        at = f"transformer.h.{layer}."
        norm(out, f"{at}ln_1")
        norm(out, f"{at}ln_2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(out, f"{at}attn.attention.{name}", (WIDTH, WIDTH), name == "out_proj")
        linear(out, f"{at}mlp.c_fc", (INNER, WIDTH), True)
        linear(out, f"{at}mlp.c_proj", (WIDTH, INNER), True)
    return out


def gpt_neox_shapes(config):
    out = {"gpt_neox.embed_in.weight": (VOCABULARY, WIDTH), "embed_out.weight": (VOCABULARY, WIDTH)}
    norm(out, "gpt_neox.final_layer_norm")
    for layer in range(BLOCKS):
        at = f"gpt_neox.layers.{layer}."
        norm(out, f"{at}input_layernorm")
        norm(out, f"{at}post_attention_layernorm")
        bias = config.get("attention_bias", True)
        linear(out, f"{at}attention.query_key_value", (3 * WIDTH, WIDTH), bias)
        linear(out, f"{at}attention.dense", (WIDTH, WIDTH), bias)
        linear(out, f"{at}mlp.dense_h_to_4h", (INNER, WIDTH), True)
        linear(out, f"{at}mlp.dense_4h_to_h", (WIDTH, INNER), True)
    return out


def exaone_shapes(config):
    llama_like = {new: config[old] for old, new in {"num_layers": "num_hidden_layers"}.items()} | config
    return {hub_name(config, name): shape for name, shape in gated_shapes(llama_like).items()}


def hub_name(config, name):
    """Returns the name in a Hub checkpoint of a parameter that transformers names as those of Llama."""
    for old, new in RENAMED.get(config["model_type"], {}).items():
        name = name.replace(old, new)
    return name


def gated_shapes(config):
    family, heads = config["model_type"], config["num_attention_heads"]
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim") or width // heads
    groups = config.get("num_key_value_heads", heads)
    out = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        out[f"{at}input_layernorm.weight"] = out[f"{at}post_attention_layernorm.weight"] = (width,)
        bias = config.get("attention_bias", config.get("use_bias", False))
        if family == "phi3":
            linear(out, f"{at}self_attn.qkv_proj", ((heads + 2 * groups) * head, width), False)
        else:
            for name, outputs in {"q_proj": heads, "k_proj": groups, "v_proj": groups}.items():
                linear(out, f"{at}self_attn.{name}", (outputs * head, width), bias or family == "qwen2")
        linear(out, f"{at}self_attn.o_proj", (width, heads * head), config.get("attention_out_bias", bias and family != "helium"))
        for name in HEAD_NORMS.get(family, []):
            out[f"{at}self_attn.{name}.weight"] = (head,)
        bias = config.get("mlp_bias", config.get("use_bias", False))
        if family == "phi3":
            linear(out, f"{at}mlp.gate_up_proj", (2 * inner, width), False)
        else:
            linear(out, f"{at}mlp.gate_proj", (inner, width), bias)
            linear(out, f"{at}mlp.up_proj", (inner, width), bias)
        linear(out, f"{at}mlp.down_proj", (width, inner), bias)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (vocabulary, width)
    return out


HEAD_NORMS = {"qwen3": ["q_norm", "k_norm"], "hunyuan_v1_dense": ["query_layernorm", "key_layernorm"]}
RENAMED = {
    "exaone": {
        "model.embed_tokens.": "transformer.wte.",
        "model.layers.": "transformer.h.",
        "model.norm.": "transformer.ln_f.",
        ".self_attn.o_proj.": ".attn.attention.out_proj.",
        ".self_attn.": ".attn.attention.",
        ".input_layernorm.": ".ln_1.",
        ".post_attention_layernorm.": ".ln_2.",
        ".mlp.gate_proj.": ".mlp.c_fc_0.",
        ".mlp.up_proj.": ".mlp.c_fc_1.",
        ".mlp.down_proj.": ".mlp.c_proj.",
    }
}
SHAPES = {
    "gpt2": gpt2_shapes,
    "gptj": gptj_shapes,
    "gpt_neo": gpt_neo_shapes,
    "gpt_neox": gpt_neox_shapes,
    "llama": gated_shapes,
    "mistral": gated_shapes,
    "qwen2": gated_shapes,
    "qwen3": gated_shapes,
    "ministral": gated_shapes,
    "seed_oss": gated_shapes,
    "phi3": gated_shapes,
    "smollm3": gated_shapes,
    "cwm": gated_shapes,
    "ernie4_5": gated_shapes,
    "helium": gated_shapes,
    "hunyuan_v1_dense": gated_shapes,
    "ministral3": gated_shapes,
    "exaone": exaone_shapes,
}
# The module path of the blocks; below, the name of the edited matrix in a block's `mlp`.
BLOCK = {"gpt2": "transformer.h", "gptj": "transformer.h", "gpt_neo": "transformer.h", "gpt_neox": "gpt_neox.layers"}
PARAMETER = {"embed_out.weight": "lm_head.weight"}
EDITED = {"gpt2": "c_proj", "gptj": "fc_out", "gpt_neo": "c_proj", "gpt_neox": "dense_4h_to_h"}


def ordered(config):
    return sorted(shapes(config).items(), key=lambda item: item[0].encode())


def tensors(config):
    """Fills tensor number t, in byte order of the names, from the seed 0x5EED0000 + t. Values are exact in F16 and BF16 too."""
    out = {}
    for number, (name, shape) in enumerate(ordered(config)):
        k = np.floor(common.splitmix(SEED + number, int(np.prod(shape))) * 128)
        if len(shape) > 1:
            values = (2 * k - 127) / 256 * 0.5
        elif name.endswith("weight"):
            values = 1 + (np.floor(k / 8) - 8) / 64
        else:
            values = (2 * k - 127) / 256 * 0.25
        out[name] = values.astype(np.float32).reshape(shape)
        for narrow in (torch.float16, torch.bfloat16):
            assert torch.equal(torch.from_numpy(out[name]).to(narrow).double(), torch.from_numpy(values).reshape(shape)), name
    return out


def save(config, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors(config), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(folder, config, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    missing = set(info["missing_keys"])
    if config.get("tie_word_embeddings", True):
        missing -= {"lm_head.weight", "embed_out.weight"}
        assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    # Recent transformers use one name for the head of every family; Pythia's files use embed_out.
    parameters = {hub_name(config, PARAMETER.get(name, name)): tensor for name, tensor in model.named_parameters()}
    expected = {PARAMETER.get(name, name): array for name, array in tensors(config).items()}
    assert expected.keys() == parameters.keys(), expected.keys() ^ parameters.keys()
    for name, array in expected.items():
        assert torch.equal(parameters[name], torch.from_numpy(array).to(dtype)), name
    return model.eval().requires_grad_(False)


def observe(model, config, ids, positions):
    """Returns the logits, all residual states and all keys, at the given positions of one unpadded row."""
    family = config["model_type"]
    states, keys, hooks = [], [], []
    blocks = model.get_submodule(BLOCK.get(family, "model.layers"))
    hooks.append(blocks[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][0])))
    for block in blocks:
        edited = block.mlp.get_submodule(EDITED.get(family, "down_proj"))
        hooks.append(block.register_forward_hook(lambda _, __, output: states.append(common.first(output)[0])))
        hooks.append(edited.register_forward_pre_hook(lambda _, inputs: keys.append(inputs[0][0])))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    assert len(states) == BLOCKS + 1 and len(keys) == BLOCKS
    return logits[positions], torch.stack(states)[:, positions], torch.stack(keys)[:, positions]


def gradient(model, config, ids, position, labels, delta):
    """Returns the labels' mean negative log-likelihood with delta added to one MLP's output at one position, and its gradient."""
    delta = delta.clone().requires_grad_(True)

    def add(_, __, output):
        return output + torch.zeros_like(output).index_put((torch.tensor([0]), torch.tensor([position])), delta[None])

    mlp = model.get_submodule(BLOCK.get(config["model_type"], "model.layers"))[LAYER].mlp
    hook = mlp.register_forward_hook(add)
    logits = model(torch.tensor([ids]), use_cache=False).logits[0, SCORED]
    hook.remove()
    loss = -torch.log_softmax(logits, dim=-1)[range(len(labels)), labels].mean()
    (slope,) = torch.autograd.grad(loss, delta)
    return loss.detach(), slope


def token_ids(number, count):
    """Returns ids from a fixed seed; two adjacent ids always differ."""
    out = []
    for u in common.splitmix(IDS + number, count):
        token = int(u * VOCABULARY)
        out.append((token + 1) % VOCABULARY if out and out[-1] == token else token)
    return out


def greedy(model, ids):
    """Returns the tokens that greedy decoding adds to the ids, and the least gap between the two largest logits."""
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=GREEDY,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    told = out.sequences[0, len(ids) :].tolist()
    assert len(told) == GREEDY
    best = torch.stack([logits[0] for logits in out.logits]).topk(2).values
    return told, (best[:, 0] - best[:, 1]).min().item()


class wide_inside:
    """Replaces float32 by float64 where the models cast to float32 whatever their dtype is."""

    def __enter__(self):
        self.kept = torch.float32, torch.float, torch.Tensor.float
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double

    def __exit__(self, *_):
        torch.float32, torch.float, torch.Tensor.float = self.kept


def check_keys(name, config, ids, logits):
    """Asserts that another value of each key in MATTERS changes the logits, except for those in IDLE."""
    for key, value in MATTERS[name].items():
        other = config | {key.split()[0]: value}
        if key == "attention_types":
            other = without(other, "attention_layers")
        with tempfile.TemporaryDirectory() as folder:
            model = load(save(other, folder), other, torch.float64)
        with torch.no_grad():
            moved = (model(torch.tensor([ids]), use_cache=False).logits[0, -1] - logits).abs().max().item()
        idle = (name, key) in IDLE
        assert (moved == 0) if idle else (moved > 1e-4), f"{name}: {key} moves the logits by {moved:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "families.json")
    parser.add_argument("--save", nargs=2, metavar=("CASE", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.save:
        save(CASES[arguments.save[0]], arguments.save[1])
        return
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    cases = []
    print(f"{'float32 against float64':24}{'logits':>9}{'hidden':>9}{'keys':>9}{'loss':>9}{'gradient':>10}{'inside':>9}")
    for number, (name, config) in enumerate(CASES.items()):
        drawn = token_ids(number, TOKENS + len(SCORED))
        ids, labels = drawn[:TOKENS], drawn[TOKENS:]
        position, delta = DELTA_AT.get(name, 4), common.vector(DELTA + number, WIDTH)
        at = [MIDDLE, TOKENS - 1]
        with tempfile.TemporaryDirectory() as folder:
            save(config, folder)
            wide = load(folder, config, torch.float64)
            narrow = load(folder, config, torch.float32)
        seen = observe(wide, config, ids, at)
        seen += gradient(wide, config, ids, position, labels, delta)
        assert all(tensor.dtype == torch.float64 and tensor.isfinite().all() for tensor in seen)
        assert seen[-1].abs().max() > 1e-3, f"{name}: no gradient"
        check_keys(name, config, ids, seen[0][1])

        told, gap = greedy(wide, ids)
        assert gap > 1e-5, f"{name}: two tokens are equally likely within {gap:.1e}"

        again = observe(narrow, config, ids, at) + gradient(narrow, config, ids, position, labels, delta.float())
        worst = [(a - b.double()).abs().max().item() for a, b in zip(seen, again)]
        with wide_inside():
            inside = observe(wide, config, ids, at)
        worst.append(max((a - b).abs().max().item() for a, b in zip(seen, inside)))
        print(f"{name:24}" + "".join(f"{much:9.0e}" for much in worst))

        logits, states, keys, loss, slope = seen
        cases.append(
            {
                "name": name,
                "config": config,
                "tensors": {tensor: list(shape) for tensor, shape in ordered(config)},
                "layer": LAYER,
                "ids": ids,
                "greedy": told,
                "logits_last": common.f32(logits[1]),
                "logits_middle": common.f32(logits[0]),
                "hidden_last": common.f32(states[:, 1]),
                "hidden_middle": common.f32(states[:, 0]),
                "keys_last": common.f32(keys[:, 1]),
                "keys_middle": common.f32(keys[:, 0]),
                "gradient": {
                    "position": position,
                    "labels": labels,
                    "delta": common.f32(delta),
                    "loss": loss.item(),
                    "gradient": common.f32(slope),
                },
            }
        )
    common.write_json(arguments.out, {"versions": common.versions(), "cases": cases})


if __name__ == "__main__":
    main()
