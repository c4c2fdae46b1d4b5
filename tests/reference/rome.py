"""Computes the golden values of `golden/rome*.json`: ROME with unified keys, written directly from the formulas.

    python tests/reference/rome.py
    python tests/reference/rome.py --model ../shared/models/counterfact-gpt2 \
        --out tests/reference/golden/rome-counterfact.json
    python tests/reference/rome.py [--model ...] --dtype float32 --compare FILE   # the error of float32

Every step computes all positions, all layers and all logits in float64, with autograd.
"""

import argparse
import json
import tempfile
from pathlib import Path

import common
import tiny
import torch

SETTINGS = {"weight_decay": 0.5, "clamp": 4.0, "kl_factor": 0.0625, "stop_loss": 0.05, "converged_nll": 0.1}
PUBLISHED = [{"rate": 0.5, "steps": 20}]
SCHEDULE = [{"rate": 0.5, "steps": 25}, {"rate": 0.1, "steps": 120}, {"rate": 0.5, "steps": 200}]
KL_PROMPT = "{} is a"
PROBE_DELTA = 0xDE17A000  # + number of the edit
PROBE_KEY = 0xA0000001  # The second probe uses the next seed.
PROBE_SECOND_MOMENT = 0xC0000001

TINY_TEMPLATES = [
    "{}",
    "The sea is near. {}",
    "In the winter the days are short. {}",
    "The train takes a long day. {}",
    "A ship brought coffee. {}",
]
TINY_EDITS = [
    {"id": "subject-first", "subject": "Ada Bellini", "prompt": "{} was born in", "target": "Vienna"},
    {"id": "several-tokens", "subject": "Rome", "prompt": "The city {} is", "target": "Portugal"},
    {"id": "subject-last", "subject": "São Tomé", "prompt": "The people live in {}", "target": "Vienna"},
]


def fill(template, text):
    return template.replace("{}", text, 1)


def with_space(prompt, target):
    """Puts one space before a target, unless the prompt ends or the target starts with white space."""
    return target if prompt[-1:].isspace() or target[:1].isspace() else " " + target


class Rows:
    """The token rows of one edit: one row per template with the target appended, then the KL row."""

    def __init__(self, tokenizer, edit, templates):
        subject, prompt = edit["subject"], edit["prompt"]
        self.target_text = with_space(prompt, edit["target"])
        self.target = tokenizer.encode(self.target_text, add_special_tokens=False).ids
        self.rows, self.key_rows = [], []
        for template in templates:
            text = fill(template, fill(prompt, subject))
            end = template.index("{}") + prompt.index("{}") + len(subject)
            encoding = tokenizer.encode(text)
            position = common.token_at(encoding, end - 1)
            start = len(encoding.ids) - 1
            self.key_rows.append({"text": text, "ids": encoding.ids, "position": position})
            self.rows.append(
                {
                    "ids": encoding.ids + self.target[:-1],
                    "position": position,
                    "scored": [start + j for j in range(len(self.target))],
                }
            )
        encoding = tokenizer.encode(fill(KL_PROMPT, subject))
        self.kl_row = {
            "text": fill(KL_PROMPT, subject),
            "ids": encoding.ids,
            "position": common.token_at(encoding, KL_PROMPT.index("{}") + len(subject) - 1),
        }


def pad(rows):
    """Pads rows on the right with id 0. Attention is causal, so padding does not affect earlier positions."""
    width = max(len(row["ids"]) for row in rows)
    return torch.tensor([row["ids"] + [0] * (width - len(row["ids"])) for row in rows])


class Rome:
    def __init__(self, model, tokenizer, layer, templates):
        self.model, self.tokenizer, self.layer, self.templates = model, tokenizer, layer, templates
        self.mlp = model.transformer.h[layer].mlp
        self.dtype = model.dtype
        self.context = model.config.n_positions

    def keys(self, ids):
        """Returns the input of the second MLP matrix at every position of every row."""
        seen = []
        hook = self.mlp.c_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            self.model(ids, use_cache=False)
        hook.remove()
        return seen[0]

    def logits(self, ids, positions, delta):
        """Returns the logits with delta added to the MLP output at one position per row, and row 0's output without delta."""
        before = []

        def add(_, __, output):
            row = torch.arange(len(positions))
            before.append(output[0, positions[0]].detach().clone())
            moved = torch.zeros_like(output).index_put((row, torch.tensor(positions)), delta.expand(len(positions), -1))
            return output + moved

        hook = self.mlp.register_forward_hook(add)
        logits = self.model(ids, use_cache=False).logits
        hook.remove()
        return logits, before[0]

    def second_moment(self, lines, max_tokens):
        """Returns C, the mean of k kᵀ over all positions of all lines in float64, and the number of positions."""
        width = self.mlp.c_proj.weight.shape[0]
        total, count = torch.zeros(width, width, dtype=torch.float64), 0
        for line in lines:
            ids = self.tokenizer.encode(line).ids[:max_tokens]
            if ids:
                keys = self.keys(torch.tensor([ids]))[0].double()
                total += keys.T @ keys
                count += len(ids)
        return total / count, count


class Value:
    """The loss of one edit as a function of delta, with its optimisation."""

    def __init__(self, rome, rows, settings):
        self.rome, self.rows, self.settings = rome, rows, settings
        everything = rows.rows + [rows.kl_row]
        self.ids = pad(everything)
        self.positions = [row["position"] for row in everything]
        assert self.ids.shape[1] <= rome.context
        zero = torch.zeros(rome.model.config.n_embd, dtype=rome.dtype)
        with torch.no_grad():
            logits, self.start = rome.logits(self.ids, self.positions, zero)
        self.original = self.log_next(logits)

    def log_next(self, logits):
        return torch.log_softmax(logits[-1, self.positions[-1]], dim=-1)

    def terms(self, delta):
        """Returns the three terms of the loss with their factors, and the target's negative log-likelihood per row."""
        logits, _ = self.rome.logits(self.ids, self.positions, delta)
        target = torch.tensor(self.rows.target)
        per_row = torch.stack(
            [
                -torch.log_softmax(logits[i, row["scored"]], dim=-1)[torch.arange(len(target)), target].mean()
                for i, row in enumerate(self.rows.rows)
            ]
        )
        current = self.log_next(logits)
        kl = self.settings["kl_factor"] * (current.exp() * (current - self.original)).sum()
        decay = self.settings["weight_decay"] * delta.norm() / self.start.norm() ** 2
        return per_row.mean(), kl, decay, per_row

    def gradient(self, delta):
        delta = delta.detach().clone().requires_grad_(True)
        nll, kl, decay, per_row = self.terms(delta)
        loss = nll + kl + decay
        (gradient,) = torch.autograd.grad(loss, delta)
        numbers = [nll.item(), kl.item(), decay.item(), loss.item()]
        return numbers, gradient, per_row.detach()

    def stage(self, rate, steps):
        """Runs Adam from delta = 0. Yields delta and the loss terms of each evaluation."""
        delta = torch.zeros_like(self.start)
        m, v = torch.zeros_like(delta), torch.zeros_like(delta)
        limit = self.settings["clamp"] * self.start.norm()
        for step in range(1, steps + 1):
            numbers, gradient, _ = self.gradient(delta)
            yield delta, numbers
            if numbers[3] < self.settings["stop_loss"] or step == steps:
                return
            m = 0.9 * m + 0.1 * gradient
            v = 0.999 * v + 0.001 * gradient**2
            m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
            delta = delta - rate * m_hat / (v_hat.sqrt() + 1e-8)
            if delta.norm() > limit:
                delta = delta * (limit / delta.norm())

    def published(self, stage):
        """Runs one stage and returns its last iterate, the losses and all iterates."""
        trace = [(delta, numbers) for delta, numbers in self.stage(stage["rate"], stage["steps"])]
        return trace[-1][0], [numbers for _, numbers in trace], [delta for delta, _ in trace]

    def schedule(self, stages, converged):
        """Runs stages until the best iterate over all stages has converged."""
        best, ran = None, []
        for number, stage in enumerate(stages):
            losses = []
            for iteration, (delta, numbers) in enumerate(self.stage(stage["rate"], stage["steps"])):
                losses.append(numbers)
                if best is None or numbers[3] < best["loss"]:
                    best = {"stage": number, "iteration": iteration, "loss": numbers[3], "nll": numbers[0]}
                    kept = delta
            ran.append({"rate": stage["rate"], "steps": stage["steps"], "losses": losses})
            if best["nll"] <= converged:
                break
        return kept, {"stages": ran, "best": best, "converged": best["nll"] <= converged}


def factor(second_moment):
    """Returns the Cholesky factor of C, and its smallest and largest eigenvalue. C must have full rank."""
    spectrum = torch.linalg.eigvalsh(second_moment)
    low, high = spectrum[0].item(), spectrum[-1].item()
    assert low > 1e-12 * high, f"C is rank-deficient: {low:.3e} of {high:.3e}; take more lines"
    return torch.linalg.cholesky(second_moment), low, high


def solve(cholesky, right):
    return torch.cholesky_solve(right, cholesky)


def link(cholesky, keys, residuals, mu=0.0):
    """Returns Δ = R S⁻¹ Aᵀ and S = KᵀA + μI, with A = C⁻¹K: K is [inner, edits], R is [out, edits], Δ is [out, inner]."""
    a = solve(cholesky, keys)
    s = keys.T @ a + mu * torch.eye(keys.shape[1], dtype=keys.dtype)
    return residuals @ torch.linalg.solve(s, a.T), s


def compile_edit(rome, number, edit, small, early):
    rows = Rows(rome.tokenizer, edit, rome.templates)
    value = Value(rome, rows, SETTINGS)
    width = len(value.start)
    numbers, _, per_row = value.gradient(torch.zeros(width, dtype=rome.dtype))

    scale = 4.0
    delta = common.vector(PROBE_DELTA + number, width, scale).to(rome.dtype)
    probe, gradient, _ = value.gradient(delta)

    last, losses, deltas = value.published(PUBLISHED[0])
    kept, found = value.schedule(SCHEDULE, SETTINGS["converged_nll"])

    every_key = rome.keys(pad(rows.key_rows))
    keys = torch.stack([every_key[i, row["position"]] for i, row in enumerate(rows.key_rows)])
    key = keys.mean(dim=0)

    out = {
        **edit,
        "target_text": rows.target_text,
        "target_ids": rows.target,
        "rows": rows.rows,
        "key_rows": rows.key_rows,
        "kl_row": rows.kl_row,
        "key": common.f32(key),
        **({} if small else {"keys": common.f32(keys)}),
        "value0": common.f32(value.start),
        "value0_norm": value.start.norm().item(),
        "first": {"terms": numbers, "row_nll": per_row.tolist()},
        "probe": {
            "seed": PROBE_DELTA + number,
            "scale": scale,
            "delta": common.f32(delta),
            "terms": probe,
            "gradient": common.f32(gradient),
        },
        "delta_after": [common.f32(d) for d in deltas[1:4]],
        "published": {"losses": losses, "delta": common.f32(last), "delta_norm": last.norm().item()},
        "schedule": {**found, "delta": common.f32(kept), "delta_norm": kept.norm().item()},
    }
    if early:
        out["early"] = early_stop(value)
    return out, key, value.start + kept


def early_stop(value):
    """Runs every way in which a schedule can end, with limits that the tiny model reaches; it never reaches 0.05 and 0.1."""
    short = [{"rate": 0.5, "steps": 8}, *SCHEDULE[1:]]
    loose = {**SETTINGS, "weight_decay": 0.05}
    runs = []
    for name, stages, limits in [
        ("the first stage stops", SCHEDULE, {"stop_loss": 2.85, "converged_nll": 2.75}),
        ("the first stage ends, converged", short, {"converged_nll": 2.5}),
        ("the second stage stops", short, {"stop_loss": 1.898, "converged_nll": 2.0}),
    ]:
        value.settings = {**loose, **limits}
        kept, found = value.schedule(stages, value.settings["converged_nll"])
        assert found["converged"]
        runs.append(
            {
                "name": name,
                "settings": value.settings,
                "schedule": stages,
                **found,
                "delta": common.f32(kept),
                "delta_norm": kept.norm().item(),
            }
        )
    value.settings = SETTINGS
    return runs


def known(model, tokenizer, records, count):
    """Returns the first records whose true answer the model gives itself: every token is the greedy choice."""
    out = []
    for record in records:
        rewrite = record["requested_rewrite"]
        prompt, subject = rewrite["prompt"], rewrite["subject"]
        ids = tokenizer.encode(fill(prompt, subject)).ids
        answer = tokenizer.encode(
            with_space(prompt, rewrite["target_true"]["str"]), add_special_tokens=False
        ).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids + answer[:-1]]), use_cache=False).logits[0]
        if logits[len(ids) - 1 :].argmax(dim=-1).tolist() == answer:
            out.append(
                {
                    "id": f"case-{record['case_id']}",
                    "subject": subject,
                    "prompt": prompt,
                    "target": rewrite["target_new"]["str"],
                }
            )
        if len(out) == count:
            break
    return out


def drift(truth, other, path=""):
    """Returns the largest difference of each numeric field, relative to the field's largest entry."""
    out = {}
    if isinstance(truth, dict):
        for key in truth:
            if key in other and key not in ("versions", "dtype"):
                for name, much in drift(truth[key], other[key], f"{path}.{key}").items():
                    out[name] = max(out.get(name, 0.0), much)
    elif isinstance(truth, list) and truth and isinstance(truth[0], (dict, list)):
        deep = path.endswith("losses")
        for a, b in zip(truth, other) if not deep else [(sum(truth[:4], []), sum(other[:4], []))]:
            for name, much in drift(a, b, path).items():
                out[name] = max(out.get(name, 0.0), much)
    elif isinstance(truth, list) and truth and isinstance(truth[0], float):
        a, b = torch.tensor(truth, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
        n = min(len(a), len(b))
        top = a.abs().max().item() or 1.0
        out[path.lstrip(".")] = (a[:n] - b[:n]).abs().max().item() / top
    elif isinstance(truth, float):
        out[path.lstrip(".")] = abs(truth - other) / (abs(truth) or 1.0)
    return out


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="`tiny`, or a checkpoint's folder")
    parser.add_argument("--out")
    parser.add_argument("--layer", type=int, help="default: 1 of the tiny model, 0 of another")
    parser.add_argument("--templates", help="a file, one template a line; default: src/compile/templates.txt, or the tiny ones")
    parser.add_argument("--records", default=common.ROOT / "../shared/data/counterfact/dev.json")
    parser.add_argument("--edits", type=int, default=4)
    parser.add_argument("--corpus", help="default: wiki_8mb.txt of the shared data, or tiny_corpus.txt")
    parser.add_argument("--lines", type=int, help="documents to take from the corpus")
    parser.add_argument("--max-tokens", type=int, help="tokens to keep of each document")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--compare", help="print the drift from this file; write nothing unless --out")
    return parser.parse_args()


def main():
    args = arguments()
    small = args.model != "tiny"
    dtype = getattr(torch, args.dtype)
    if small:
        model, tokenizer = common.load(args.model, dtype)
        edits = known(model, tokenizer, json.loads(Path(args.records).read_text(encoding="utf-8")), args.edits)
        templates = common.read_lines(args.templates or common.ROOT / "src/compile/templates.txt")
        corpus = Path(args.corpus or common.ROOT / "../shared/data/wiki_8mb.txt")
        layer, lines, limit = args.layer or 0, args.lines or 400, args.max_tokens or 64
    else:
        with tempfile.TemporaryDirectory() as folder:
            model, tokenizer = common.load(tiny.save(folder), dtype)
        edits = TINY_EDITS
        templates = common.read_lines(args.templates) if args.templates else TINY_TEMPLATES
        corpus = Path(args.corpus or tiny.CORPUS)
        layer = 1 if args.layer is None else args.layer
        lines, limit = args.lines, args.max_tokens or tiny.CONFIG["n_positions"]
    assert templates[0] == "{}" and all(template.count("{}") == 1 for template in templates)

    rome = Rome(model, tokenizer, layer, templates)
    documents = common.read_lines(corpus)[:lines]
    second_moment, count = rome.second_moment(documents, limit)
    cholesky, low, high = factor(second_moment)
    inner = len(second_moment)
    print(f"C: {count} positions, {inner} wide, eigenvalues {low:.3e} to {high:.3e}")

    weight = rome.mlp.c_proj.weight.double().T  # Conv1D stores [inner, out]; W is [out, inner].
    bias = rome.mlp.c_proj.bias.double()
    compiled, keys, residuals = [], [], []
    for number, edit in enumerate(edits):
        out, key, value = compile_edit(rome, number, edit, small, early=edit["id"] == "subject-last")
        key = key.double()
        # The value as stored in the file, so that a reader can inject exactly this value.
        value = torch.tensor(common.f32(value), dtype=torch.float64)
        residual = value - (weight @ key + bias)
        direction = solve(cholesky, key[:, None])[:, 0]
        denominator = key @ direction
        update = torch.outer(residual, direction) / denominator
        assert torch.allclose((weight + update) @ key + bias, value, atol=1e-9)
        out["direction"] = common.f32(direction / direction.norm())
        out["direction_norm"] = direction.norm().item()
        out["link"] = {
            "value": common.f32(value),
            "residual": common.f32(residual),
            "denominator": denominator.item(),
            "frobenius": update.norm().item(),
            **described(update, small),
        }
        compiled.append(out)
        keys.append(key)
        residuals.append(residual)
        best = out["schedule"]["best"]
        print(
            f"{edit['id']}: nll {out['first']['terms'][0]:.3f}, published {out['published']['losses'][-1][0]:.4f} in "
            f"{len(out['published']['losses'])}, schedule {best['nll']:.4f} at stage {best['stage']} "
            f"iteration {best['iteration']}, |delta|/|v0| {out['schedule']['delta_norm'] / out['value0_norm']:.2f}"
        )
    joint, s = link(cholesky, torch.stack(keys, dim=1), torch.stack(residuals, dim=1))
    for out, key in zip(compiled, keys):
        assert torch.allclose((weight + joint) @ key + bias, torch.tensor(out["link"]["value"]).double(), atol=1e-6)

    result = {
        "versions": common.versions(),
        "model": Path(args.model).name,
        "dtype": args.dtype,
        "layer": layer,
        "templates": templates,
        "kl_prompt": KL_PROMPT,
        "settings": SETTINGS,
        "published": PUBLISHED,
        "schedule": SCHEDULE,
        "statistics": {
            "corpus": corpus.name,
            "lines": len(documents),
            "max_tokens": limit,
            "count": count,
            "diagonal": common.f32(second_moment.diagonal()),
            "frobenius": second_moment.norm().item(),
            "smallest": low,
            "largest": high,
            "probe_seed": PROBE_SECOND_MOMENT,
            "product": common.f32(second_moment @ common.vector(PROBE_SECOND_MOMENT, inner)),
        },
        "probe_seeds": [PROBE_KEY, PROBE_KEY + 1],
        "edits": compiled,
        "joint": {"mu": 0.0, "s": s.tolist(), "frobenius": joint.norm().item(), **described(joint, small)},
    }
    if args.compare:
        truth = json.loads(Path(args.compare).read_text(encoding="utf-8"))
        for name, much in drift(truth, result).items():
            print(f"{much:9.1e}  {name}")
    if args.out or not args.compare:
        default = "rome-counterfact.json" if small else "rome.json"
        common.write_json(args.out or common.HERE / "golden" / default, result)


def described(update, small):
    """Returns the full update for the tiny model, otherwise its products with two fixed vectors."""
    if not small:
        return {"update": common.f32(update)}
    probes = [common.vector(PROBE_KEY + i, update.shape[1]) for i in range(2)]
    return {"products": [common.f32(update @ probe) for probe in probes]}


if __name__ == "__main__":
    main()
