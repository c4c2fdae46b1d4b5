"""Generates a tiny GPT-2 from a formula, so that tests can generate it too and its weights are not committed.

    python tests/reference/tiny.py FOLDER            # config.json, model.safetensors, tokenizer.json
    python tests/reference/tiny.py --train-tokenizer # rewrites tiny_tokenizer.json from tiny_corpus.txt
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from common import HERE, splitmix
from safetensors.numpy import save_file

CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.0,
    "bos_token_id": 0,
    "embd_pdrop": 0.0,
    "eos_token_id": 0,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_embd": 32,
    "n_head": 4,
    "n_inner": None,
    "n_layer": 3,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": 400,
}
SEED = 0x5EED0000
CORPUS = HERE / "tiny_corpus.txt"
TOKENIZER = HERE / "tiny_tokenizer.json"


def shapes():
    """Returns the shapes of all tensors of a Hub GPT-2 checkpoint, without mask buffers and the tied head."""
    d, f = CONFIG["n_embd"], 4 * CONFIG["n_embd"]
    out = {
        "transformer.wte.weight": (CONFIG["vocab_size"], d),
        "transformer.wpe.weight": (CONFIG["n_positions"], d),
        "transformer.ln_f.weight": (d,),
        "transformer.ln_f.bias": (d,),
    }
    for layer in range(CONFIG["n_layer"]):
        at = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            out[f"{at}{norm}.weight"] = (d,)
            out[f"{at}{norm}.bias"] = (d,)
        # Conv1D stores [inputs, outputs].
        for name, shape in {
            "attn.c_attn": (d, 3 * d),
            "attn.c_proj": (d, d),
            "mlp.c_fc": (d, f),
            "mlp.c_proj": (f, d),
        }.items():
            out[f"{at}{name}.weight"] = shape
            out[f"{at}{name}.bias"] = (shape[1],)
    return out


def tensors():
    """Fills tensor number t, in byte order of the names, from the seed 0x5EED0000 + t, row by row."""
    out = {}
    for number, (name, shape) in enumerate(sorted(shapes().items(), key=lambda item: item[0].encode())):
        centred = splitmix(SEED + number, int(np.prod(shape))) - 0.5
        if name.endswith(".bias") or name == "transformer.wpe.weight":
            values = centred * 0.125
        elif len(shape) == 1:
            values = 1.0 + centred * 0.125
        else:
            values = centred * 0.5
        out[name] = values.astype(np.float32).reshape(shape)
    return out


def save(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    return folder


def train_tokenizer():
    """Trains a byte-level BPE: id 0 is `<|endoftext|>`, then 256 byte symbols and 143 merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = [line for line in CORPUS.read_text(encoding="utf-8").split("\n") if line.strip()]
    tokenizer.train_from_iterator(lines, trainer)
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    tokenizer.save(str(TOKENIZER))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--train-tokenizer", action="store_true")
    arguments = parser.parse_args()
    if arguments.train_tokenizer:
        train_tokenizer()
    if arguments.folder:
        save(arguments.folder)
