"""Runs the published ROME procedure in PyTorch, by default in float32: the baseline of corrigenda's benchmark.

    python benches/compare/rome.py EDITS.json [--limit N] [--threads 2] [--moment FILE] [--json OUT]

Every step computes all layers, all positions and all logits of one right-padded batch (the templates and the KL row) with
autograd; keys come from full forward passes. The statistics run the model up to the edited layer, a hundred documents at a
time, the longest first, in padded batches of at most three times the context (at most 1024) in tokens. Each edit is applied
alone and rolled back. The time of an edit includes rows, value, keys, direction and the update of the weight; it excludes
loading, the statistics, the inverse of C, and scoring. Two steps of the first value run before the timing starts.

Differences from the published code: the context templates are an input, and C is summed and inverted in float64, once, with the
statistics.

EDITS.json (paths are relative to the current directory):
    {"model": PATH, "layer": 0, "corpus": PATH, "max_tokens": N, "lines": N (optional), "templates": ["{}", ...],
     "dtype": "float32" (default) or "bfloat16",
     "settings": {"schedule": [{"rate": .5, "steps": 25}, ...], "weight-decay": .5, "clamp": 4, "kl-factor": .0625,
                  "stop-loss": .05, "converged-nll": .1, "keep": "best" (default) or "last",
                  "bare-weight": W (default: all templates alike),
                  "keys": "unified" (default: one key on both sides) or "released" (the bare prompt's on the right)},
     "edits": [{"id", "subject", "prompt" (with {}), "target", and to be scored: "was", "paraphrase": [...],
                "neighbours": [{"prompt", "answer"}]}]}
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import tokenizers
import torch
from transformers import AutoModelForCausalLM


def with_space(prompt, target):
    return target if prompt[-1:].isspace() or target[:1].isspace() else " " + target


def last_token(encoding, character):
    return max(i for i, (a, b) in enumerate(encoding.offsets) if a <= character < b)


class Stop(Exception):
    """Ends a forward pass at the edited layer; the layers above are not needed."""


class Editor:
    def __init__(self, job):
        dtype = getattr(torch, job.get("dtype", "float32"))
        self.model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).eval().requires_grad_(False)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(Path(job["model"]) / "tokenizer.json"))
        if hasattr(self.model, "transformer"):
            self.mlp = self.model.transformer.h[job["layer"]].mlp
            self.out = self.mlp.c_proj
            self.weight = self.out.weight  # Conv1D: [f, d]
        else:
            self.mlp = self.model.model.layers[job["layer"]].mlp
            self.out = self.mlp.down_proj
            self.weight = self.out.weight.T
        self.templates, self.settings = job["templates"], job["settings"]

    def answer(self, prompt, target):
        return self.tokenizer.encode(with_space(prompt, target), add_special_tokens=False).ids

    def batch(self, rows):
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask, "use_cache": False}

    def keys(self, batch, stop=False):
        """Returns the input of the second MLP matrix at every position; with `stop`, the forward pass ends there."""
        seen = []

        def look(_, inputs):
            seen.append(inputs[0])
            if stop:
                raise Stop

        hook = self.out.register_forward_pre_hook(look)
        with torch.no_grad():
            try:
                self.model(**batch)
            except Stop:
                pass
        hook.remove()
        return seen[0]

    def batches(self, rows):
        """Yields batches as published: a hundred documents, the longest first, split if the padded batch would be too large."""
        most = 3 * min(self.model.config.max_position_embeddings, 1024)
        for start in range(0, len(rows), 100):
            group = []
            for row in sorted(rows[start : start + 100], key=len, reverse=True):
                if group and len(group[0]) * (len(group) + 1) > most:
                    yield group
                    group = []
                group.append(row)
            yield group

    def statistics(self, lines, max_tokens):
        """Returns C, the mean of k kᵀ over all positions, and the number of positions."""
        width = self.weight.shape[0]
        total, count = torch.zeros(width, width, dtype=torch.float64), 0
        rows = [self.tokenizer.encode(line).ids[:max_tokens] for line in lines]
        for group in self.batches([row for row in rows if row]):
            batch = self.batch(group)
            keys = self.keys(batch, stop=True)[batch["attention_mask"].bool()].float()
            total += keys.T @ keys
            count += len(keys)
        return total / count, count

    def value(self, edit):
        """Returns v* and the record of its optimisation."""
        settings, subject, prompt = self.settings, edit["subject"], edit["prompt"]
        target = self.answer(prompt, edit["target"])
        rows, positions, starts = [], [], []
        for template in self.templates + [None]:
            text = template.replace("{}", prompt.replace("{}", subject, 1), 1) if template else f"{subject} is a"
            end = (template.index("{}") + prompt.index("{}") if template else 0) + len(subject)
            encoding = self.tokenizer.encode(text)
            rows.append(encoding.ids + (target[:-1] if template else []))
            positions.append(last_token(encoding, end - 1))
            starts.append(len(encoding.ids) - 1)
        batch, many = self.batch(rows), len(self.templates)
        each = torch.arange(len(rows))
        at = torch.tensor(positions)
        scored = torch.tensor(starts[:many])[:, None] + torch.arange(len(target))
        labels = torch.tensor(target).expand(many, -1)
        first = {}

        def loss(delta):
            def add(_, __, output):
                first.setdefault("value", output[0, positions[0]].detach().float().clone())
                output = output.clone()
                output[each, at] += delta.to(output.dtype)
                return output

            hook = self.mlp.register_forward_hook(add)
            log_probabilities = torch.log_softmax(self.model(**batch).logits.float(), dim=-1)
            hook.remove()
            nll = -log_probabilities[each[:many, None], scored, labels].mean()
            now = log_probabilities[-1, positions[-1]]
            original = first.setdefault("next", now.detach().clone())
            kl = settings["kl-factor"] * (now.exp() * (now - original)).sum()
            decay = settings["weight-decay"] * delta.norm() / first["value"].norm() ** 2
            return nll + kl + decay, nll

        best, evaluations = None, 0
        for number, stage in enumerate(settings["schedule"]):
            delta = torch.zeros(self.model.config.hidden_size, requires_grad=True)
            optimiser = torch.optim.Adam([delta], lr=stage["rate"])
            for step in range(stage["steps"]):
                optimiser.zero_grad()
                total, nll = loss(delta)
                evaluations += 1
                if best is None or total.item() < best["loss"] or settings.get("keep", "best") == "last":
                    best = {"loss": total.item(), "nll": nll.item(), "stage": number, "delta": delta.detach().clone()}
                if total.item() < settings["stop-loss"] or step + 1 == stage["steps"]:
                    break
                total.backward()
                optimiser.step()
                with torch.no_grad():
                    limit = settings["clamp"] * first["value"].norm()
                    if delta.norm() > limit:
                        delta.mul_(limit / delta.norm())
            if best["nll"] <= settings["converged-nll"]:
                break
        return first["value"] + best.pop("delta"), {**best, "evaluations": evaluations}

    def key(self, edit):
        """Returns the left and the right key: means over the templates; with "released" keys, the right is the bare prompt's."""
        rows, positions = [], []
        for template in self.templates:
            encoding = self.tokenizer.encode(
                template.replace("{}", edit["prompt"].replace("{}", edit["subject"], 1), 1)
            )
            end = template.index("{}") + edit["prompt"].index("{}") + len(edit["subject"])
            rows.append(encoding.ids)
            positions.append(last_token(encoding, end - 1))
        keys = self.keys(self.batch(rows))[torch.arange(len(rows)), positions].float()
        bare = self.settings.get("bare-weight")
        mean = keys.mean(dim=0) if bare is None else bare * keys[0] + (1 - bare) * keys[1:].mean(dim=0)
        if self.settings.get("keys") != "released":
            return mean, mean
        return mean, self.keys(self.batch(rows[:1]))[0, positions[0]].float()

    def apply(self, edit, inverse):
        """Edits the weight in place; returns the weight before and the record of the optimisation."""
        value, how = self.value(edit)
        left, right = self.key(edit)
        direction = inverse @ left
        before = self.weight.clone()
        bias = 0 if self.out.bias is None else self.out.bias
        residual = value - (right @ self.weight.float() + bias)
        self.weight += (torch.outer(direction, residual) / (direction @ right)).to(self.weight.dtype)
        return before, how

    def score(self, pairs):
        """Returns, per pair, the mean negative log-likelihood of the target tokens and whether each of them is the arg-max."""
        rows, spans = [], []
        for prompt, target in pairs:
            ids, answer = self.tokenizer.encode(prompt).ids, self.answer(prompt, target)
            rows.append(ids + answer[:-1])
            spans.append((len(ids) - 1, answer))
        with torch.no_grad():
            logits = self.model(**self.batch(rows)).logits
        out = []
        for row, (start, answer) in zip(logits, spans):
            scores = torch.log_softmax(row[start : start + len(answer)], dim=-1)
            target = torch.tensor(answer)
            nll = -scores[torch.arange(len(answer)), target].mean().item()
            out.append((nll, bool((scores.argmax(dim=-1) == target).all())))
        return out

    def measure(self, edit):
        """Returns efficacy, paraphrase and neighbours, by arg-max and by the likelihoods of the new and the old answer."""
        prompt = edit["prompt"].replace("{}", edit["subject"], 1)
        groups = {
            "efficacy": [(prompt, edit["target"], edit["was"])],
            "paraphrase": [(text, edit["target"], edit["was"]) for text in edit.get("paraphrase", [])],
            "neighbours": [(n["prompt"], n["answer"], edit["target"]) for n in edit.get("neighbours", [])],
        }
        out = {"argmax": {}, "likelihood": {}}
        for name, triples in groups.items():
            if triples:
                wanted = self.score([(text, good) for text, good, _ in triples])
                other = self.score([(text, bad) for text, _, bad in triples])
                out["argmax"][name] = statistics.fmean(hit for _, hit in wanted)
                out["likelihood"][name] = statistics.fmean(a < b for (a, _), (b, _) in zip(wanted, other))
        return out


def summary(measures):
    out = {}
    for kind in ("argmax", "likelihood"):
        out[kind] = {
            name: statistics.fmean(found)
            for name in ("efficacy", "paraphrase", "neighbours")
            if (found := [m[kind][name] for m in measures if name in m[kind]])
        }
        parts = list(out[kind].values())
        out[kind]["score"] = statistics.harmonic_mean(parts) if parts else 0.0
    return out


def second_moment(editor, job, cache):
    """Returns the inverse of C: from the cache file of an earlier run, or computed over the corpus and written to that file."""
    if cache and Path(cache).exists():
        return torch.load(cache)
    lines = [line for line in Path(job["corpus"]).read_text(encoding="utf-8").split("\n") if line.strip()]
    start, before = time.perf_counter(), time.process_time()
    moment, count = editor.statistics(lines[: job.get("lines")], job["max_tokens"])
    seconds, processors = time.perf_counter() - start, time.process_time() - before
    print(f"statistics: {count} positions in {seconds:.2f} s, {1e6 * seconds / count:.1f} us each")
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment)).float()
    out = {"inverse": inverse, "count": count, "seconds": seconds, "processors": processors}
    if cache:
        torch.save(out, cache)
    return out


def edited(editor, edit, inverse):
    """Applies one edit with timing, scores it if it has `was`, and rolls it back."""
    scored = "was" in edit
    before = editor.measure(edit) if scored else None
    start, busy = time.perf_counter(), time.process_time()
    weight, how = editor.apply(edit, inverse)
    times = {"seconds": time.perf_counter() - start, "processors": time.process_time() - busy}
    record = {"id": edit["id"], **times, **how}
    line = f"{edit['id']}: {record['seconds']:.2f} s, {how['evaluations']} evaluations, nll {how['nll']:.4f}"
    if scored:
        record |= {"before": before, "after": editor.measure(edit)}
        line += ", " + " ".join(f"{name} {value:.2f}" for name, value in record["after"]["likelihood"].items())
    editor.weight.copy_(weight)
    print(line, flush=True)
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--moment", help="where the inverse of C is kept between runs")
    parser.add_argument("--json", dest="out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    job = json.loads(Path(args.edits).read_text(encoding="utf-8"))
    editor = Editor(job)
    found = second_moment(editor, job, args.moment)
    result = {
        "torch": torch.__version__,
        "threads": args.threads,
        "positions": found["count"],
        "statistics_seconds": found["seconds"],
        "statistics_processors": found["processors"],
    }
    edits = job["edits"][: args.limit]
    if edits:
        inverse = found["inverse"]
        # Two steps without timing: the first pass of a process includes the initialisation of the libraries.
        schedule = editor.settings["schedule"]
        editor.settings["schedule"] = [{"rate": 0.5, "steps": 2}]
        editor.value(edits[0])
        editor.settings["schedule"] = schedule
        records = [edited(editor, edit, inverse) for edit in edits]
        times = [record["seconds"] for record in records]
        result |= {"count": len(records), "median_seconds": statistics.median(times), "total_seconds": sum(times)}
        result["total_processors"] = sum(record["processors"] for record in records)
        print(f"{len(records)} edits: median {result['median_seconds']:.3f} s, total {result['total_seconds']:.2f} s")
        for name in ("before", "after"):
            if found := [record[name] for record in records if name in record]:
                result[name] = summary(found)
                for kind, values in result[name].items():
                    print(f"{name:7}{kind:11}" + "  ".join(f"{k} {100 * v:.1f}" for k, v in values.items()))
        result["records"] = records
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
