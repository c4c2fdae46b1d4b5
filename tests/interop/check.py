"""See run. Exits with 1 where a client says something else than the patched model, or warns."""

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import peft
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import gguf_base
import projects

try:
    import llama_cpp_logits
except Exception as error:  # Not installed, or its library does not load.
    llama_cpp_logits = None
    print(f"llama.cpp is left out: {error}", file=sys.stderr)


# What is said where llama.cpp differs from transformers on the base already.
OWN = "llama.cpp's own"


class Heard(logging.Handler):
    """Everything that a client logs as a warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def listening(work):
    """What `work` returns, and every warning on the way."""
    heard = Heard()
    loggers = [logging.getLogger(name) for name in ("transformers", "peft", "py.warnings")]
    for logger in loggers:
        logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    for logger in loggers:
        logger.removeHandler(heard)
    keys = [str(one.message) for one in caught if any(word in str(one.message).lower() for word in ("missing", "unexpected", "adapter", "lora"))]
    return result, heard.said + keys


def load(folder):
    def work():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)

    (model, info), said = listening(work)
    said += [f"{kind}: {sorted(info[kind])}" for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]]
    return model.eval(), said


def logits(model, rows):
    with torch.no_grad():
        return np.stack([model(torch.tensor([row]), use_cache=False).logits[0, -1].numpy() for row in rows])


def patched_weights(base, patch):
    """The weights that the patch makes, by its own definition: f64, one edit after the other, one rounding."""
    raw = patch.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    targets = json.loads(header["__metadata__"]["corrigenda"])["targets"]
    factors, weights = load_file(patch), load_file(base / "model.safetensors")
    out = {}
    for name, target in targets.items():
        total = weights[name].astype(np.float64)
        for column, row in zip(factors[f"{name}.u"].T.astype(np.float64), factors[f"{name}.v"].astype(np.float64)):
            change = np.outer(column, row)
            total += change.T if target["layout"] == "conv1d" else change
        out[name] = total.astype(weights[name].dtype)
    return out


class Run:
    def __init__(self, program, name, folder, base, prompts, work):
        self.program, self.name, self.folder, self.base, self.work = program, name, folder, base, work
        self.cache = work / "cache"
        tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self.rows = [tokenizer.encode(prompt).ids for prompt in prompts]
        self.table = []

    def corrigenda(self, *arguments):
        command = [self.program, "-C", self.folder, "--cache-dir", self.cache, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout

    def note(self, client, what, difference, limit, said=(), excuse=None):
        good = difference <= limit and not said
        verdict = "ok" if good else excuse or "FAIL" + "".join(f"; {one}" for one in said)
        self.table.append((client, self.name, what, f"{difference:.1e}", f"{limit:.0e}", verdict))

    def all(self):
        self.corrigenda("build", "--locked" if self.folder == projects.ROOT else "--quiet")
        for form, place in (("checkpoint", "checkpoint"), ("peft", "peft"), ("gguf", "lora.gguf")):
            self.corrigenda("export", form, self.work / place)
            self.corrigenda("verify", self.work / place)
        patch = self.patch()
        want = self.checkpoint(patched_weights(self.base, patch))
        self.adapter(want)
        if llama_cpp_logits is not None:
            self.llama(want)
        return self.table

    def patch(self):
        """The file of the store whose digest the lock names as the patch."""
        lock = (self.folder / "corrigenda.lock").read_text()
        wanted = lock.rsplit('id = "sha256:', 1)[1].split('"')[0]
        files = (path for path in self.cache.rglob("*") if path.is_file())
        path = next(path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == wanted)
        copy = self.work / "patch.safetensors"
        copy.write_bytes(path.read_bytes())
        return copy

    def checkpoint(self, weights):
        exported = load_file(self.work / "checkpoint" / "model.safetensors")
        apart = sum(exported[name].tobytes() != weight.tobytes() for name, weight in weights.items())
        self.note("numpy", "weights of `export checkpoint`, bytes", float(apart), 0)
        model, said = load(self.work / "checkpoint")
        got = logits(model, self.rows)
        base, _ = load(self.base)
        before = logits(base, self.rows)
        parameters = dict(base.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                key = next(key for key in (name, f"{base.base_model_prefix}.{name}") if key in parameters)
                parameters[key].copy_(torch.from_numpy(weight))
        want = logits(base, self.rows)
        assert np.abs(want - before).max() > 0.1, "the patch changes nothing here: there is nothing to compare"
        self.note(f"transformers {version('transformers')}", "`export checkpoint`", np.abs(got - want).max(), 1e-5, said)
        return want

    def adapter(self, want):
        base, _ = load(self.base)
        client = f"peft {version('peft')}"
        model, said = listening(lambda: peft.PeftModel.from_pretrained(base, self.work / "peft").eval())
        self.note(client, "`export peft`", np.abs(logits(model, self.rows) - want).max(), 1e-4, said)
        merged, said = listening(lambda: model.merge_and_unload().eval())
        self.note(client, "`export peft`, merged", np.abs(logits(merged, self.rows) - want).max(), 1e-4, said)

    def llama(self, want):
        """Against the merged weights in llama.cpp itself, which decides, and against transformers, where GPT-2 shows
        llama.cpp's own rounding: its tanh GELU is a table in F16, with or without an adapter."""
        client = f"llama.cpp ({version('llama_cpp_python')})"
        base, merged = self.work / "base.gguf", self.work / "merged.gguf"
        gguf_base.write(self.base, base)
        gguf_base.write(self.work / "checkpoint", merged)
        model, _ = load(self.base)
        vocabulary = want.shape[1]
        plain = llama_cpp_logits.logits(base, None, self.rows, vocabulary)
        own = np.abs(plain - logits(model, self.rows)).max()
        excuse = OWN if own > 1e-3 else None
        self.note(client, "the base against transformers, without an adapter", own, 1e-3, excuse=excuse)
        got = llama_cpp_logits.logits(base, self.work / "lora.gguf", self.rows, vocabulary)
        self.note(client, "`export gguf` against transformers", np.abs(got - want).max(), 1e-3, excuse=excuse)
        whole = llama_cpp_logits.logits(merged, None, self.rows, vocabulary)
        self.note(client, "`export gguf` against the merged weights", np.abs(got - whole).max(), 1e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corrigenda", required=True)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for index, (name, folder, base, prompts) in enumerate(projects.all_projects(Path(work) / "projects")):
            place = Path(work) / str(index)
            place.mkdir()
            rows += Run(arguments.corrigenda, name, folder, base, prompts, place).all()
    head = ("client", "model", "what", "largest difference", "limit", "verdict")
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.table:
        arguments.table.write_text(text)
    return any(row[-1] not in ("ok", OWN) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
