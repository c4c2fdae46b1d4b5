"""The baseline for time and quality: ROME in PyTorch, float32, as it is usually written.

    python benches/rome_torch.py EDITS.json [--limit N] [--threads 2] [--json OUT]

Every step runs all layers, all positions and all logits of one right-padded batch (the templates and the KL row),
by autograd. Keys are unified (the mean key of the templates on both sides), each edit stands alone and is rolled back.
What is timed per edit: rows, value, key, direction and the update of the weight; not statistics, not scoring.
The first edit is made once before the clock starts.

EDITS.json (paths are relative to the current directory):
    {"model": PATH, "layer": 0, "corpus": PATH, "max_tokens": N, "lines": N (optional), "templates": ["{}", ...],
     "settings": {"schedule": [{"rate": .5, "steps": 25}, ...], "weight-decay": .5, "clamp": 4, "kl-factor": .0625,
                  "stop-loss": .05, "converged-nll": .1, "keep": "best" (default) or "last"},
     "edits": [{"id", "subject", "prompt" (with {}), "target", "was", "paraphrase": [...],
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


class Editor:
    def __init__(self, job):
        self.model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval().requires_grad_(False)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(Path(job["model"]) / "tokenizer.json"))
        self.mlp = self.model.transformer.h[job["layer"]].mlp
        self.templates, self.settings = job["templates"], job["settings"]

    def answer(self, prompt, target):
        return self.tokenizer.encode(with_space(prompt, target), add_special_tokens=False).ids

    def batch(self, rows):
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask, "use_cache": False}

    def keys(self, batch):
        seen = []
        hook = self.mlp.c_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            self.model.transformer(**batch)
        hook.remove()
        return seen[0]

    def statistics(self, lines, max_tokens):
        """The Cholesky factor of C, the mean of k kᵀ over every position."""
        width = self.mlp.c_proj.weight.shape[0]
        total, count = torch.zeros(width, width, dtype=torch.float64), 0
        rows = [self.tokenizer.encode(line).ids[:max_tokens] for line in lines]
        rows = [row for row in rows if row]
        for start in range(0, len(rows), 32):
            batch = self.batch(rows[start : start + 32])
            keys = self.keys(batch)[batch["attention_mask"].bool()]
            total += (keys.T @ keys).double()
            count += len(keys)
        return torch.linalg.cholesky(total / count), count

    def value(self, edit):
        """v*, and how it came about."""
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
                first.setdefault("value", output[0, positions[0]].detach().clone())
                output = output.clone()
                output[each, at] += delta
                return output

            hook = self.mlp.register_forward_hook(add)
            log_probabilities = torch.log_softmax(self.model(**batch).logits, dim=-1)
            hook.remove()
            nll = -log_probabilities[each[:many, None], scored, labels].mean()
            now = log_probabilities[-1, positions[-1]]
            original = first.setdefault("next", now.detach().clone())
            kl = settings["kl-factor"] * (now.exp() * (now - original)).sum()
            decay = settings["weight-decay"] * delta.norm() / first["value"].norm() ** 2
            return nll + kl + decay, nll

        best, evaluations = None, 0
        for number, stage in enumerate(settings["schedule"]):
            delta = torch.zeros(self.model.config.n_embd, requires_grad=True)
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
        rows, positions = [], []
        for template in self.templates:
            encoding = self.tokenizer.encode(
                template.replace("{}", edit["prompt"].replace("{}", edit["subject"], 1), 1)
            )
            end = template.index("{}") + edit["prompt"].index("{}") + len(edit["subject"])
            rows.append(encoding.ids)
            positions.append(last_token(encoding, end - 1))
        return self.keys(self.batch(rows))[torch.arange(len(rows)), positions].mean(dim=0)

    def apply(self, edit, factor):
        """Edits the weight in place; returns what it was and how the value came about."""
        value, how = self.value(edit)
        key = self.key(edit)
        direction = torch.cholesky_solve(key.double()[:, None], factor)[:, 0].float()
        weight = self.mlp.c_proj.weight  # Conv1D: [inner, out]
        before = weight.clone()
        residual = value - (key @ weight + self.mlp.c_proj.bias)
        weight += torch.outer(direction, residual) / (direction @ key)
        return before, how

    def score(self, pairs):
        """Mean negative log-likelihood per target token, and whether every one of them is the arg-max."""
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
        """Efficacy, paraphrase and neighbours: by arg-max, and by likelihood of the new against the old answer."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", dest="out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    job = json.loads(Path(args.edits).read_text(encoding="utf-8"))
    editor = Editor(job)
    lines = [line for line in Path(job["corpus"]).read_text(encoding="utf-8").split("\n") if line.strip()]
    start = time.perf_counter()
    factor, count = editor.statistics(lines[: job.get("lines")], job["max_tokens"])
    prepared = time.perf_counter() - start
    print(f"statistics: {count} positions in {prepared:.2f} s")

    # Once without a clock: the first pass of a process pays for the libraries' own preparations.
    weight, _ = editor.apply(job["edits"][0], factor)
    editor.mlp.c_proj.weight.copy_(weight)

    records = []
    for edit in job["edits"][: args.limit]:
        before = editor.measure(edit)
        start = time.perf_counter()
        weight, how = editor.apply(edit, factor)
        seconds = time.perf_counter() - start
        after = editor.measure(edit)
        editor.mlp.c_proj.weight.copy_(weight)
        records.append({"id": edit["id"], "seconds": seconds, **how, "before": before, "after": after})
        marks = " ".join(f"{name} {value:.2f}" for name, value in after["likelihood"].items())
        print(f"{edit['id']}: {seconds:.2f} s, {how['evaluations']} evaluations, nll {how['nll']:.4f}, {marks}")

    times = [record["seconds"] for record in records]
    result = {
        "torch": torch.__version__,
        "threads": args.threads,
        "count": len(records),
        "statistics_seconds": prepared,
        "median_seconds": statistics.median(times),
        "total_seconds": sum(times),
        "before": summary([record["before"] for record in records]),
        "after": summary([record["after"] for record in records]),
    }
    for name in ("before", "after"):
        for kind, values in result[name].items():
            print(f"{name:7}{kind:11}" + "  ".join(f"{k} {100 * v:.1f}" for k, v in values.items()))
    print(f"{len(records)} edits: median {result['median_seconds']:.3f} s, total {result['total_seconds']:.2f} s")
    if args.out:
        Path(args.out).write_text(json.dumps({**result, "records": records}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
