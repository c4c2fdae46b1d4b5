"""Times the training of MEND and KE in PyTorch, on the data and with the random numbers of `benches/hypernetworks.rs`.

    python benches/hypernetworks_torch.py [--editor mend|ke] [--threads N] [--steps N] [--seed N]

The networks are those of `../shared/tools/hypernetworks`, an implementation for GPT-2; the model is `counterfact-gpt2`.
Both programs start with the same parameters and draw the same texts, so the losses that they print are comparable.
Three steps are run before the timed ones. `ms per edit` is the time to compute the changes of the edited matrices for
one fact, and to add them to copies of the matrices.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
TOOLS = SHARED / "tools" / "hypernetworks"
NEEDED = [TOOLS, SHARED / "models" / "counterfact-gpt2", SHARED / "data" / "counterfact" / "dev.json"]
NEEDED.append(SHARED / "data" / "wiki_8mb.txt")
TESTED, VALIDATION, UNRELATED, UNRELATED_TOKENS = 50, 30, 1000, 32
BATCH, WARM_UP, EDIT_WEIGHT, CLIP, RANK = 10, 10, 0.1, 100.0, 256
RATES = {"mend networks": 0.172 / (RANK * 1280**0.5), "mend rates": 1e-4, "ke": 1e-3}
CELLS, CONDITION, HIDDEN = 128, 192, 128
SITES = [(layer, kind) for layer in (1, 2, 3) for kind in ("proj", "fc")]
UNTIMED = 3

if all(path.exists() for path in NEEDED):
    sys.path.append(str(TOOLS))
    import data
    import ke as ke_tool
    import lm as lm_tool
    import mend as mend_tool


class Mend:
    """MEND: the networks and the rates have optimisers of their own."""

    def __init__(self, lm, numbers):
        self.module = mend_tool.Mend(lm, SITES, RANK)
        for kind in self.module.kinds:
            for V in self.module.net[kind].V:
                V.data.copy_(torch.from_numpy(numbers.randn(*V.shape)))
        networks = {"params": list(self.module.net.parameters()), "lr": RATES["mend networks"]}
        self.groups = [networks, {"params": [self.module.rates], "lr": RATES["mend rates"]}]

    def warm_up(self, caught):
        with torch.no_grad():
            self.module.factors(caught, True)

    def factors(self, caught, texts, learn):
        return self.module.factors(caught, learn)


class Ke:
    def __init__(self, lm, numbers):
        self.module = tool = ke_tool.Ke(lm, SITES, CELLS, CONDITION, HIDDEN)
        draw(numbers, 2 * CELLS, tool.lw, tool.lb)
        for direction in (tool.fw, tool.bw):
            draw(numbers, CELLS, direction.wi, direction.wh, direction.bi, direction.bh)
        for one, two in zip(tool.one, tool.two):
            for layer in (one, two):
                draw(numbers, layer.v.shape[1], layer.v, layer.b)
                layer.g.data.copy_(layer.v.data.norm(dim=1))
        self.groups = [{"params": list(tool.parameters()), "lr": RATES["ke"]}]

    def warm_up(self, caught):
        pass

    def factors(self, caught, texts, learn):
        rows = [ids for ids, _ in texts]
        longest = max(map(len, rows))
        mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows])
        return self.module.factors(caught, lm_tool.pad(rows), mask)


def draw(numbers, inputs, *parameters):
    """Draws parameters uniformly from [−1/√inputs, 1/√inputs]."""
    for parameter in parameters:
        uniform = 2.0 * numbers.random_sample(tuple(parameter.shape)) - 1.0
        parameter.data.copy_(torch.from_numpy(uniform / inputs**0.5))


def text_of(prompt, target):
    """Returns the ids of a text, and (the index of the first label, the labels), as the tools take them."""
    ids, start = data.joined(prompt, target)
    return ids, (start, ids[start:])


def fact_of(record):
    """Returns the text of a fact, and the texts of its paraphrases."""
    target = record["requested_rewrite"]["target_new"]["str"]
    paraphrases = [text_of(prompt, target) for prompt in record["paraphrase_prompts"]]
    return text_of(data.filled(record), target), paraphrases


def unrelated():
    """Returns the beginnings of the lines of a file that have at least 30 words, all in ASCII."""
    lines = (SHARED / "data" / "wiki_8mb.txt").read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line.isascii() and len(line.split(" ")) >= 30]
    texts = [data.enc(line[:1500]) for line in lines[: UNRELATED + 2 * VALIDATION]]
    return [ids[:UNRELATED_TOKENS] for ids in texts if len(ids) >= UNRELATED_TOKENS]


class Training:
    def __init__(self, lm, editor, seed):
        self.lm, self.editor = lm, editor
        facts = [fact_of(record) for record in data.dev()]
        self.tested, self.validation = facts[:TESTED], facts[TESTED : TESTED + VALIDATION]
        self.facts = facts[TESTED + VALIDATION :]
        texts = unrelated()
        self.texts, self.validation_texts = texts[:-VALIDATION], texts[-VALIDATION:]
        self.optimiser = torch.optim.Adam(editor.groups)
        self.numbers, self.order = np.random.RandomState([seed, 1]), []
        editor.warm_up(self.caught([stated for stated, _ in self.facts[:WARM_UP]]))

    def caught(self, texts):
        ids, spans = zip(*texts)
        return mend_tool.catch(self.lm, lm_tool.pad(ids), spans, SITES, lm_tool.picked)[0]

    def below(self, count):
        return int(self.numbers.random_sample() * count)

    def drawn(self):
        """Returns the next fact, one of its paraphrases and an unrelated text."""
        if not self.order:
            self.order = list(range(len(self.facts)))
            for index in range(len(self.order) - 1, 0, -1):
                other = self.below(index + 1)
                self.order[index], self.order[other] = self.order[other], self.order[index]
        stated, paraphrases = self.facts[self.order.pop()]
        return stated, paraphrases[self.below(len(paraphrases))], self.texts[self.below(len(self.texts))]

    def losses(self, stated, outer, locality, learn):
        changes = self.editor.factors(self.caught(stated), stated, learn)
        ids, spans = zip(*outer)
        hidden, _ = self.lm.run(lm_tool.pad(ids), changes)
        edit = sum(-p.mean() for p in lm_tool.picked(self.lm, hidden, spans)) / len(spans)
        ids = torch.tensor(locality)
        with torch.no_grad():
            base = self.lm.logits(self.lm.run(ids)[0]).log_softmax(-1)
        edited = self.lm.logits(self.lm.run(ids, changes)[0]).log_softmax(-1)
        return edit, (base.exp() * (base - edited)).sum(-1).mean()

    def step(self):
        edit, kl = self.losses(*zip(*[self.drawn() for _ in range(BATCH)]), learn=True)
        self.optimiser.zero_grad()
        (EDIT_WEIGHT * edit + kl).backward()
        torch.nn.utils.clip_grad_norm_(self.editor.module.parameters(), CLIP)
        self.optimiser.step()

    @torch.no_grad()
    def validate(self, step):
        stated = [stated for stated, _ in self.validation]
        edit, kl = self.losses(stated, stated, self.validation_texts, learn=False)
        print(f"step {step:4}  edit {edit:.4f}  KL {kl:.5f}  loss {EDIT_WEIGHT * edit + kl:.5f}", flush=True)

    def edited(self, stated):
        """Returns the edited matrices for one fact."""
        caught = self.caught([stated])
        with torch.no_grad():
            changes = self.editor.factors(caught, [stated], False)
            return [self.lm.w[f"h.{at}.mlp.c_{kind}.weight"] + a[0].T @ b[0] for (at, kind), (a, b) in changes.items()]


def milliseconds(run):
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--editor", choices=["mend", "ke"], default="mend")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="the number of timed steps, after three others")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    absent = [path for path in NEEDED if not path.exists()]
    if absent:
        print(f"skipped: {absent[0]} is absent")
        return
    torch.set_num_threads(arguments.threads)
    lm = lm_tool.LM(str(SHARED / "models" / "counterfact-gpt2"))
    editor = {"mend": Mend, "ke": Ke}[arguments.editor](lm, np.random.RandomState(arguments.seed))
    training = Training(lm, editor, arguments.seed)
    print(f"{len(training.facts)} facts, {len(training.texts)} unrelated texts, {torch.get_num_threads()} threads")
    training.validate(0)
    steps = [milliseconds(training.step) for _ in range(UNTIMED + arguments.steps)]
    training.validate(len(steps))
    edits = [milliseconds(lambda: training.edited(stated)) for stated, _ in training.tested]
    print(json.dumps({"steps": [round(ms, 1) for ms in steps]}), file=sys.stderr)
    print(f"{statistics.median(steps[UNTIMED:]):.1f} ms per step of {BATCH} facts")
    print(f"{statistics.median(edits[UNTIMED:]):.2f} ms per edit")


if __name__ == "__main__":
    main()
