"""Computes greedy continuations of a few stories with a trained Llama in transformers: `golden/stories.json`.

    python tests/reference/stories.py [--model ../shared/models/tinystories-656k]
"""

import argparse
from pathlib import Path

import common
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPTS = ["Once upon a time, there was a little girl named Lily.", "Tom had a red ball. He", "The dog was"]
LENGTH = 24


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=common.ROOT / "../shared/models/tinystories-656k")
    parser.add_argument("--out", default=common.HERE / "golden" / "stories.json")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(
        str(arguments.model), dtype=torch.float64, attn_implementation="eager"
    ).eval()
    tokenizer = Tokenizer.from_file(str(Path(arguments.model) / "tokenizer.json"))
    stories = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        row, first = list(ids), None
        with torch.no_grad():
            for _ in range(LENGTH):
                logits = model(torch.tensor([row]), use_cache=False).logits[0, -1]
                first = logits if first is None else first
                row.append(int(logits.argmax()))
        told = row[len(ids) :]
        text = tokenizer.decode(told)
        print(prompt, "|", text)
        stories.append({"prompt": prompt, "ids": ids, "logits": common.f32(first), "greedy": told, "text": text})
    common.write_json(arguments.out, {"versions": common.versions(), "model": "tinystories-656k", "stories": stories})


if __name__ == "__main__":
    main()
