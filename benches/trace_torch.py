"""Computes causal traces in PyTorch as published: a full forward pass per cell, with hooks on modules.

    python benches/trace_torch.py MODEL FACTS.json [--limit N] [--window W] [--samples S] [--noise X]

`cargo bench --bench trace` compares it with `corrigenda trace`; `tests/reference/trace.py` writes golden values with it.
It implements the algorithm of the paper, https://arxiv.org/abs/2202.05262, section 2, and uses two threads.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
KINDS = ("state", "mlp", "attention", "mlp-severed", "attention-severed")


def modules(model):
    """Returns the token embedding, and the block, MLP and attention of every layer."""
    if hasattr(model, "transformer"):
        inner = model.transformer
        return inner.wte, [(block, block.mlp, block.attn) for block in inner.h]
    inner = model.model
    return inner.embed_tokens, [(block, block.mlp, block.self_attn) for block in inner.layers]


def first(output):
    return output[0] if isinstance(output, tuple) else output


class Hooks:
    """Hooks that call a function with the output of a module; the function may change it in place."""

    def __init__(self, pairs):
        def hook(function):
            return lambda module, args, output: (function(first(output)), None)[1]

        self.handles = [module.register_forward_hook(hook(function)) for module, function in pairs]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


class Tracer:
    """The runs of one fact: row 0 is clean, the other rows have noise on the subject's token embeddings."""

    def __init__(self, model, ids, subject, scale, samples, seed=1):
        self.model, self.subject = model, subject
        self.embedding, self.layers = modules(model)
        self.rows = torch.tensor([ids] * (samples + 1))
        width = self.embedding.weight.shape[1]
        stream = np.random.RandomState(seed)
        drawn = [stream.randn(samples, subject[1] - subject[0], width) for _ in range(2)]
        self.noise, self.next_noise = (torch.from_numpy(one * scale) for one in drawn)

    def corrupt(self, output):
        b, e = self.subject
        output[1:, b:e] += self.noise

    @torch.no_grad()
    def run(self, pairs, corrupted=True):
        noise = [(self.embedding, self.corrupt)] if corrupted else []
        with Hooks(noise + pairs):
            logits = self.model(self.rows, use_cache=False).logits[:, -1]
        return torch.softmax(logits, dim=-1)

    def probability(self, pairs):
        return self.run(pairs)[1:, self.answer].mean().item()

    def restore(self, token):
        def put(output):
            output[1:, token] = output[0, token]

        return put

    def base(self):
        clean = self.run([], corrupted=False)[0]
        self.answer = int(clean.argmax())
        return self.answer, clean[self.answer].item(), self.probability([])

    def cell(self, kind, token, layer, window, severed_next=False):
        if kind == "state":
            return self.probability([(self.layers[layer][0], self.restore(token))])
        part = 1 if kind.startswith("mlp") else 2
        if not kind.endswith("severed"):
            low, high = max(0, layer - window // 2), min(len(self.layers), layer - (-window // 2))
            return self.probability([(self.layers[at][part], self.restore(token)) for at in range(low, high)])
        frozen = {}

        def keep(at):
            return lambda output: frozen.__setitem__(at, output[1:, token].clone())

        def freeze(at):
            return lambda output: output[1:, token].copy_(frozen[at])

        self.run([(block[part], keep(at)) for at, block in enumerate(self.layers)])
        pairs = [(block[part], freeze(at)) for at, block in enumerate(self.layers)]
        pairs.append((self.layers[layer][0], self.restore(token)))
        if not severed_next:
            return self.probability(pairs)
        # As published: the random stream continues, so the restored run uses the noise drawn after that of the frozen outputs.
        first, self.noise = self.noise, self.next_noise
        found = self.probability(pairs)
        self.noise = first
        return found

    def table(self, kind, window, severed_next=False):
        tokens = [self.subject[1] - 1] if kind.endswith("severed") else range(self.rows.shape[1])
        return [[self.cell(kind, token, layer, window, severed_next) for layer in range(len(self.layers))] for token in tokens]


def subject_tokens(encoding, text, subject):
    start = text.index(subject)
    end = start + len(subject)
    covering = [i for i, (a, b) in enumerate(encoding.offsets) if b > start and a < end and a != b]
    return covering[0], covering[-1] + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--limit", type=int, default=1)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.1)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="eager")
    model = model.eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    start = time.perf_counter()
    for fact in json.loads(arguments.facts.read_text())[: arguments.limit]:
        encoding = tokenizer.encode(fact["prompt"])
        subject = subject_tokens(encoding, fact["prompt"], fact["subject"])
        tracer = Tracer(model, encoding.ids, subject, arguments.noise, arguments.samples)
        answer, clean, corrupted = tracer.base()
        tables = {kind: tracer.table(kind, arguments.window) for kind in KINDS[:3]}
        row = {"answer": answer, "clean": clean, "corrupted": corrupted, "tables": tables}
        print(json.dumps(row))
    print(f"seconds {time.perf_counter() - start}", file=sys.stderr)


if __name__ == "__main__":
    main()
