"""Builds the projects, writes every export and loads it in its client. `run` starts it in its environment."""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import projects
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

# Limits of logit differences. ROUNDING is relative to the largest logit, for sums in another order.
ROUNDING = 1e-6
ADAPTER = 1e-4
LLAMA = 1e-3


class Corrigenda:
    """The binary on one project, with a separate cache."""

    def __init__(self, binary, folder, cache):
        self.command = [binary, "-C", folder, "--cache-dir", cache, "--no-progress", "--threads", "2", "--format", "json"]

    def __call__(self, *arguments):
        run = subprocess.run([*self.command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            what = " ".join(map(str, arguments))
            raise SystemExit(f"interop: `corrigenda {what}` ended with {run.returncode}:\n{run.stdout}{run.stderr}")
        return json.loads(run.stdout)


class Listener(logging.Handler):
    def __init__(self, into):
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record):
        self.into.append(record.getMessage())


@contextlib.contextmanager
def silence():
    """Collects the warnings and log messages of libraries in the list that it yields."""
    heard = []
    listener = Listener(heard)
    loggers = [logging.getLogger(name) for name in (None, "transformers", "peft")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for logger in loggers:
            logger.addHandler(listener)
        try:
            yield heard
        finally:
            for logger in loggers:
                logger.removeHandler(listener)
            heard.extend(str(warning.message) for warning in caught)


class Table:
    HEAD = ["model", "client", "compared", "largest difference", "limit", "the edits move it by", "verdict"]

    def __init__(self):
        self.rows = []

    def add(self, model, client, what, difference, limit, moved, passed):
        self.rows.append([model, client, what, difference, limit, moved, "pass" if passed else "**FAIL**"])
        print("interop: " + ", ".join(self.rows[-1]), file=sys.stderr, flush=True)

    def near(self, model, client, what, ours, theirs, limit, base):
        """Adds a row that compares the logits of all positions of all prompts. NaN fails, and so do edits with little effect."""
        difference, moved = apart(ours, theirs), apart(ours, base)
        passed = difference <= limit and moved > 100 * limit
        self.add(model, client, what, f"{difference:.1e}", f"{limit:.0e}", f"{moved:.1f}", passed)

    def heard(self, model, client, what, lines):
        self.add(model, client, what, "; ".join(lines).replace("|", "\\|").replace("\n", " ") or "none", "none", "", not lines)

    def skip(self, model, client, what, reason):
        self.rows.append([model, client, what, reason.replace("|", "\\|"), "", "", "skipped"])

    def text(self):
        lines = [self.HEAD, ["---"] * len(self.HEAD), *self.rows]
        return "".join("| " + " | ".join(row) + " |\n" for row in lines)

    def failed(self):
        return any(row[-1] == "**FAIL**" for row in self.rows)


def apart(ours, theirs):
    """Returns the largest difference of two lists of arrays; infinity if one of them is not finite."""
    assert len(ours) == len(theirs)
    largest = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(ours, theirs))
    return largest if np.isfinite(largest) else float("inf")


def largest(rows):
    return max(float(np.abs(row).max()) for row in rows)


def transformers(folder):
    """Loads a checkpoint folder as users do, in F32; a missing or unexpected key ends the run."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    # A tied head has no separate tensor.
    missing = set(info["missing_keys"]) - ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def logits(model, rows):
    with torch.no_grad():
        return [model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in rows]


def patched(base, patch):
    """Applies a patch to the tensors of the base: products in F64, added one after another, and rounded once at the end."""
    with safe_open(patch, "pt") as file:
        manifest = json.loads(file.metadata()["corrigenda"])
        for name, target in manifest["targets"].items():
            u, v = file.get_tensor(f"{name}.u").double(), file.get_tensor(f"{name}.v").double()
            weight = base[name].double()
            for edit in range(len(target["edits"])):
                product = torch.outer(u[:, edit], v[edit])
                weight = weight + (product.T if target["layout"] == "conv1d" else product)
            base = base | {name: weight.to(base[name].dtype)}
    return base, set(manifest["targets"])


def same_bytes(a, b):
    assert a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and a[name].shape == b[name].shape for name in a)
    return sum(int((a[name].view(torch.uint8) != b[name].view(torch.uint8)).sum()) for name in a)


def compare(table, name, corrigenda, model, work, llama):
    say = {client: f"{client} {importlib.metadata.version(client)}" for client in ("transformers", "peft", "safetensors")}
    built = corrigenda("build")
    assert built["outcome"] == "ok", built
    checkpoint, adapter, lora = work / "checkpoint", work / "peft", work / "lora.gguf"
    made = corrigenda("export", "checkpoint", checkpoint)["manifest"]
    corrigenda("export", "peft", adapter)
    told = corrigenda("export", "gguf", lora)
    for export in (checkpoint, adapter, lora):
        corrigenda("verify", export)

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    asked = projects.prompts(made["facts"])
    rows = [tokenizer.encode(text).ids for text in asked]
    before = logits(transformers(model), rows)
    with silence() as heard:
        loaded = transformers(checkpoint)
    after = logits(loaded, rows)
    table.heard(name, say["transformers"], "warnings while it loads the checkpoint", heard)

    # The weights, computed a second time from the patch.
    digest = told["patch"].removeprefix("sha256:")
    patch = work / "cache" / "v1" / "patches" / digest[:2] / f"{digest[2:]}.safetensors"
    assert hashlib.sha256(patch.read_bytes()).hexdigest() == digest, patch
    base, exported = load_file(model / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    ours, targets = patched(base, patch)
    differ = same_bytes(ours, exported)
    changed = {tensor for tensor in base if not torch.equal(base[tensor], exported[tensor])}
    what = f"bytes of the checkpoint's {len(base)} tensors: base + Σ u·v in F64, rounded once"
    table.add(name, say["safetensors"], what, f"{differ} bytes", "0 bytes", f"{len(changed)} tensor", differ == 0 and changed == targets)

    again = transformers(model)
    missing = again.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    limit = ROUNDING * largest(after)
    table.near(name, say["transformers"], "checkpoint: base + Σ u·v", logits(again, rows), after, limit, before)

    own = own_warnings(model, sorted(targets), work / "own")
    with silence() as heard:
        beside = PeftModel.from_pretrained(transformers(model), adapter).eval()
    table.heard(name, say["peft"], "warnings while it loads the adapter", [line for line in heard if line not in own])
    table.near(name, say["peft"], "adapter beside the base: checkpoint", logits(beside, rows), after, ADAPTER, before)
    with beside.disable_adapter():
        off = apart(logits(beside, rows), before)
    table.add(name, say["peft"], "adapter switched off: base", f"{off:.1e}", "0", "", off == 0)
    with silence() as heard:
        merged = beside.merge_and_unload()
    table.near(name, say["peft"], "adapter merged: checkpoint", logits(merged, rows), after, ADAPTER, before)
    if heard:
        table.heard(name, say["peft"], "warnings while it merges the adapter", heard)

    llama_cpp(table, name, projects.config(model), base, exported, work, lora, rows, before, after, llama)


def own_warnings(model, targets, folder):
    """Returns the warnings of PEFT for an adapter that it wrote itself on the same modules; they do not count as ours."""
    modules = [target.removesuffix(".weight") for target in targets]
    transposed = projects.config(model)["model_type"] == "gpt2"
    with silence() as heard:
        get_peft_model(
            transformers(model), LoraConfig(target_modules=modules, fan_in_fan_out=transposed, task_type="CAUSAL_LM")
        ).save_pretrained(folder)
        PeftModel.from_pretrained(transformers(model), folder)
    return set(heard)


def llama_cpp(table, name, config, base, exported, work, lora, rows, before, after, absent):
    if absent:
        table.skip(name, "llama.cpp", "GGUF adapter: checkpoint", absent)
        return
    import gguf_base
    import llama

    client = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    files = {"base": base, "patched": exported}
    for which, tensors in files.items():
        files[which] = work / f"{which}.gguf"
        gguf_base.write(files[which], config, {tensor: array.float().numpy() for tensor, array in tensors.items()})
    ask = lambda file, adapter=None: llama.logits(file, rows, config["vocab_size"], adapter)  # noqa: E731
    try:
        plain, whole, beside = ask(files["base"]), ask(files["patched"]), ask(files["base"], lora)
    except llama.Refused as problem:
        table.add(name, client, "GGUF adapter: checkpoint", str(problem).replace("|", "\\|"), "", "", False)
        return
    table.near(name, client, "GGUF adapter beside the base: checkpoint, both in llama.cpp", beside, whole, LLAMA, plain)
    # The arithmetic of llama.cpp differs on the base too, so the limit includes four times that difference.
    own = apart(plain, before)
    what = f"GGUF adapter beside the base: checkpoint in transformers (of the base alone the two differ by {own:.0e})"
    table.near(name, client, what, beside, after, LLAMA + 4 * own, before)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corrigenda", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--no-llama", default="", metavar="REASON")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # llama_cpp does not close /dev/null.
    warnings.simplefilter("ignore", ResourceWarning)
    transformers_logging.disable_progress_bar()
    table = Table()
    for name, make in projects.PROJECTS.items():
        work = arguments.work / name.replace(" ", "-").lower()
        model = make(work / "project")
        corrigenda = Corrigenda(arguments.corrigenda, work / "project", work / "cache")
        compare(table, name, corrigenda, model, work, arguments.no_llama)
    text = table.text()
    print(text, end="")
    if arguments.table:
        arguments.table.write_text(text, encoding="utf-8")
    sys.exit(1 if table.failed() else 0)


if __name__ == "__main__":
    main()
