"""Creates three projects: a tiny GPT-2, a tiny Llama, and the bundled model with the edits of this repository."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "tests" / "reference"
sys.path.insert(0, str(REFERENCE))
import families  # noqa: E402
import tiny  # noqa: E402

# A random model changes its answer only for values of large norm: the clamp is large, and weight decay and the KL term are off.
PROJECT = """\
format = 1

[model]
path = "model"

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
EDITS = """\
format = 1

[[edit]]
id = "ada.born"
subject = "Ada Bellini"
prompt = "I live in {}"
target = "Paris"

[[edit]]
id = "sao-tome.city"
subject = "São Tomé"
prompt = "The people live in {}"
target = "Paris"

[[edit]]
id = "rome.country"
subject = "Rome"
prompt = "We saw the city of {}"
target = "Vienna"
"""
# Prompts for every model, in addition to those of its edits.
PROMPTS = [
    "The capital of France is",
    "Ada Bellini was born in Rome. She lives in",
    "Élodie Garnier, née à São Tomé",
    "The river Seine runs through the city of",
    "In the winter the days are short.",
]
# Factor on the logits of the random models: with a nearly uniform distribution, no edit would change an answer.
STEEP = 8.0
LLAMA = families.llama(
    hidden_size=64,
    intermediate_size=96,
    num_attention_heads=8,
    num_key_value_heads=4,
    rope_theta=10000.0,
    vocab_size=600,
)


def project(folder):
    """Writes a project without its model, and returns the model's folder."""
    (folder / "edits").mkdir(parents=True)
    (folder / "corrigenda.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "edits" / "people.toml").write_text(EDITS, encoding="utf-8")
    (folder / "templates.txt").write_text("{}\nIt rained. {}\nThe city is old. {}\n", encoding="utf-8")
    shutil.copyfile(tiny.CORPUS, folder / "corpus.txt")
    return folder / "model"


def gpt2(folder):
    model = project(folder)
    tiny.save(model)
    weights = tiny.tensors()
    weights["transformer.ln_f.weight"] *= np.float32(STEEP)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


def llama(folder):
    model = project(folder)
    families.save(LLAMA, model)
    weights = families.tensors(LLAMA)
    weights["lm_head.weight"] *= np.float32(STEEP)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(REFERENCE / "llama_tokenizer.json", model / "tokenizer.json")
    return model


def atlas(folder):
    for name in ("corrigenda.toml", "corrigenda.lock", "edits", "examples/atlas"):
        source, to = ROOT / name, folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, to)
    return folder / "examples" / "atlas"


PROJECTS = {"tiny GPT-2": gpt2, "tiny Llama": llama, "atlas": atlas}


def prompts(facts):
    """Returns the filled prompts of up to four facts, and the prompts for every model."""
    asked = [fact["prompt"].replace("{}", fact["subject"], 1) for fact in facts]
    step = max(1, len(asked) // 4)
    return asked[::step][:4] + PROMPTS


def config(model):
    return json.loads((model / "config.json").read_text(encoding="utf-8"))
