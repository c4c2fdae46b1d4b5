"""Computes causal traces of three tiny models with a full forward pass per cell: `golden/trace.json`.

    python tests/reference/trace.py

Models: the tiny GPT-2 of `tiny.py` with the weights of its last norm times eight, and a Llama with grouped-query attention and
a GPT-J of `families.py` with the weights of their heads times eight. Everything is float64, the noise too; the numbers agree
with float32 to about 1e-6.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import common
import families
import numpy as np
import tiny
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(common.ROOT / "benches"))
import trace_torch  # noqa: E402

FACTS = [("The people live in Ada Bellini", "Ada Bellini"), ("We saw the city of Rome and", "Rome"), ("São Tomé is in", "São Tomé")]
SAMPLES, SCALE, WINDOW, STEEP = 4, 0.1, 2, 8.0


# The vocabulary size of the tokenizer.
families.VOCABULARY = VOCABULARY = 400


def gpt2(folder):
    tiny.save(folder)
    weights = tiny.tensors()
    weights["transformer.ln_f.weight"] *= np.float32(STEEP)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def family(name):
    def save(folder):
        config = families.CASES[name] | {"vocab_size": VOCABULARY, "tie_word_embeddings": False}
        families.save(config, folder)
        weights = families.tensors(config)
        weights["lm_head.weight"] *= np.float32(STEEP)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return save


MODELS = {"gpt2": gpt2, "llama3": family("llama3"), "gptj": family("gptj")}


def traced(model, tokenizer, prompt, subject):
    encoding = tokenizer.encode(prompt)
    place = trace_torch.subject_tokens(encoding, prompt, subject)
    tracer = trace_torch.Tracer(model, encoding.ids, place, SCALE, SAMPLES)
    answer, clean, corrupted = tracer.base()
    print(f"  {prompt}: {clean:.3f} -> {corrupted:.3f}")
    tables = {kind: [common.f32(row) for row in tracer.table(kind, WINDOW)] for kind in trace_torch.KINDS}
    severed = [kind for kind in trace_torch.KINDS if kind.endswith("severed")]
    following = {kind: [common.f32(row) for row in tracer.table(kind, WINDOW, True)] for kind in severed}
    place = list(place)
    return {
        "prompt": prompt,
        "subject": subject,
        "place": place,
        "answer": answer,
        "clean": clean,
        "corrupted": corrupted,
        "tables": tables,
        "severed_next": following,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "trace.json")
    arguments = parser.parse_args()
    tokenizer, out = Tokenizer.from_file(str(tiny.TOKENIZER)), []
    for name, save in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        print(name)
        model = model.eval().requires_grad_(False)
        out.append({"model": name, "facts": [traced(model, tokenizer, *fact) for fact in FACTS]})
    settings = {"samples": SAMPLES, "scale": SCALE, "window": WINDOW}
    common.write_json(arguments.out, {"versions": common.versions(), "settings": settings, "models": out})


if __name__ == "__main__":
    main()
