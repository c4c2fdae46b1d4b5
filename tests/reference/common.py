"""Functions that the reference scripts share: the generator, JSON, tokens. This file has no formula of ROME."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

MASK = (1 << 64) - 1


def splitmix(seed, count):
    """Returns `count` numbers in [0, 1), each a multiple of 2^-24, so they are exact in float32 and in float64."""
    with np.errstate(over="ignore"):
        i = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(seed & MASK) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def vector(seed, count, scale=1.0):
    """Returns `(u - 0.5) * scale` in float64; exact in float32 too if `scale` is a power of two."""
    return torch.from_numpy((splitmix(seed, count) - 0.5) * scale)


def f32(tensor):
    """Returns nested lists of the shortest decimals that parse to the float32 nearest to each entry."""
    array = np.asarray(torch.as_tensor(tensor).detach().to(torch.float64)).astype(np.float32)
    if array.ndim == 0:
        return float(str(array))
    if array.ndim > 1:
        return [f32(row) for row in array]
    return [float(str(x)) for x in array]


def write_json(path, value):
    """Writes JSON with indented objects and one line per list of numbers: compact, and readable in a diff."""

    def render(node, indent):
        pad = " " * (indent + 1)
        if isinstance(node, dict):
            body = [f"{pad}{json.dumps(k)}: {render(v, indent + 1)}" for k, v in node.items()]
            return "{\n" + ",\n".join(body) + "\n" + " " * indent + "}"
        if isinstance(node, list) and node and isinstance(node[0], (dict, list)):
            return "[\n" + ",\n".join(pad + render(v, indent + 1) for v in node) + "\n" + " " * indent + "]"
        return json.dumps(node, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(value, 0) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


def versions():
    import tokenizers
    import transformers

    return {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }


def load(folder, dtype=torch.float64):
    """Loads the model and its tokenizer. Attention is eager: every operation is in `dtype` and not fused."""
    model = GPT2LMHeadModel.from_pretrained(str(folder), dtype=dtype, attn_implementation="eager")
    model.eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return model, tokenizer


def read_lines(path):
    """Reads a corpus: one document per non-empty line. Only the line end is removed."""
    text = Path(path).read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line.strip()]


def token_at(encoding, character):
    """Returns the index of the last token that covers a character of the encoded text."""
    covering = [i for i, (a, b) in enumerate(encoding.offsets) if a <= character < b]
    if not covering:
        raise ValueError(f"no token covers character {character}")
    return covering[-1]


def first(output):
    return output[0] if isinstance(output, tuple) else output
