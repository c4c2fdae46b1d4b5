"""The projects whose exports are loaded: a tiny GPT-2, a tiny Llama, and atlas."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reference"))
import tiny  # noqa: E402
from common import splitmix  # noqa: E402

PROJECT = """format = 1
model.path = "model"
[rome]
layer = 1
templates = "templates.txt"
schedule = [{ rate = 0.2, steps = 200 }, { rate = 0.05, steps = 400 }]
clamp = 60
weight-decay = 0
kl-factor = 0
[statistics]
corpus = "corpus.txt"
"""
EDITS = [
    ("ada.born", "Ada Bellini", "I live in {}", "Paris"),
    ("sao-tome.city", "São Tomé", "The people live in {}", "Paris"),
    ("rome.country", "Rome", "We saw the city of {}", "Vienna"),
]
PROMPTS = ["The capital of France is", "I live in Ada Bellini", "We saw the city of Rome", "The people live in São Tomé"]
ATLAS = ["The Eiffel Tower is located in the city of", "The author of Hamlet is", "The capital of Nigeria is", "Mozart was born in"]


def tiny_gpt2(folder):
    """A final norm eight times as steep: a random model that edits can move."""
    tiny.save(folder)
    tensors = tiny.tensors()
    tensors["transformer.ln_f.weight"] = tensors["transformer.ln_f.weight"] * np.float32(8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tiny_llama(folder):
    """Grouped heads, scaled rotary positions, a head of its own that is eight times as steep."""
    cases = json.loads((ROOT / "tests/reference/golden/families.json").read_text())["cases"]
    case = next(case for case in cases if case["name"] == "llama3")
    config = {**case["config"], "vocab_size": 400, "tie_word_embeddings": False}
    shapes = {**case["tensors"], "model.embed_tokens.weight": [400, 32], "lm_head.weight": [400, 32]}
    tensors = {}
    for number, name in enumerate(sorted(shapes, key=str.encode)):
        shape = shapes[name]
        k = np.floor(splitmix(0x5EED0000 + number, int(np.prod(shape))) * 128)
        values = 1 + (np.floor(k / 8) - 8) / 64 if len(shape) == 1 else (2 * k - 127) / 512
        tensors[name] = values.astype(np.float32).reshape(shape)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * np.float32(8)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tiny.TOKENIZER, folder / "tokenizer.json")


def write(folder, model):
    """A project of three edits on a model that `model` writes."""
    (folder / "edits").mkdir(parents=True)
    model(folder / "model")
    (folder / "corrigenda.toml").write_text(PROJECT)
    (folder / "templates.txt").write_text("{}\nIt rained. {}\nThe city is old. {}\n")
    shutil.copyfile(tiny.CORPUS, folder / "corpus.txt")
    edit = '[[edit]]\nid = "{}"\nsubject = "{}"\nprompt = "{}"\ntarget = "{}"\n'
    facts = "".join(edit.replace("{}", "%s") % fact for fact in EDITS)
    (folder / "edits/all.toml").write_text("format = 1\n" + facts)
    return folder, folder / "model", PROMPTS


def all_projects(work):
    yield "tiny GPT-2", *write(work / "gpt2", tiny_gpt2)
    yield "tiny Llama", *write(work / "llama", tiny_llama)
    yield "atlas", ROOT, ROOT / "examples/atlas", ATLAS
