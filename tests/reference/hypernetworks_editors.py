"""MEND and KE in PyTorch, for the models of `families.py`: texts, edited matrices, networks and losses.

Autograd differentiates the transformers model itself. MEND (Mitchell et al. 2022) and KE (De Cao et al. 2021) have the
form that the ROME paper evaluates.
"""

import math
from dataclasses import dataclass

import families
import torch
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

WIDE = torch.float64
# The kind of each edited matrix of a block, and the name of its module, in the order of the sites.
MATRICES = {
    "gpt2": [("down", "c_proj"), ("up", "c_fc")],
    "llama": [("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj")],
}
# The MEND network of each kind: one network for all matrices of one shape.
NETWORK = {"gate": "up", "up": "up", "down": "down"}
NETWORKS = ["up", "down"]
RANK, LAYERS = 5, 2
RATES = [-0.02, 0.01, -0.03, 0.015]
CELLS, CONDITION, HIDDEN = 3, 5, 4
EDIT_WEIGHT = 0.1


@dataclass(frozen=True)
class Text:
    """Token ids, of which the last `count` are the labels: the target."""

    ids: tuple
    count: int

    @property
    def labels(self):
        return list(self.ids[-self.count :])

    def stored(self):
        return {"ids": list(self.ids), "labels": self.labels}


FACTS = [Text((3, 17, 41, 9), 1), Text((5, 22, 58, 14, 36), 2)]
OUTER = [Text((7, 41, 9), 1), Text((10, 47, 22, 58, 14, 36), 2)]
LOCALITY = [(1, 28, 33, 4, 50, 6), (60, 9, 38, 7, 25)]


@dataclass(frozen=True)
class Site:
    """An edited matrix. `conv` is true for a Conv1D, which stores [inputs, outputs]; a Linear stores the transpose."""

    kind: str
    layer: int
    module: str
    conv: bool
    inputs: int
    outputs: int

    @property
    def name(self):
        return f"{self.kind}@{self.layer}"

    @property
    def parameter(self):
        return f"{self.module}.weight"

    @property
    def stored_shape(self):
        return (self.inputs, self.outputs) if self.conv else (self.outputs, self.inputs)

    def turned(self, matrix):
        """Converts between the stored layout and [inputs, outputs]."""
        return matrix if self.conv else matrix.T


def sites_of(model, config):
    found = []
    blocks = families.BLOCK.get(config["model_type"], "model.layers")
    for layer in range(families.BLOCKS):
        for kind, name in MATRICES[config["model_type"]]:
            path = f"{blocks}.{layer}.mlp.{name}"
            module = model.get_submodule(path)
            conv = isinstance(module, Conv1D)
            inputs, outputs = module.weight.shape if conv else module.weight.shape[::-1]
            found.append(Site(kind, layer, path, conv, inputs, outputs))
    return found


def formula(shape, number, amplitude, base=0.0):
    """Returns tensor `number`: base + amplitude · sin(1.7 number + 0.61 k + 0.3) for the row-major index k."""
    values = [math.sin(1.7 * number + 0.61 * k + 0.3) for k in range(math.prod(shape))]
    return (base + amplitude * torch.tensor(values, dtype=WIDE)).view(shape).requires_grad_(True)


def logits(model, ids, changes=None):
    """Returns the logits of one text. `changes` has a matrix [inputs, outputs] per site that is added to its weight."""
    weights = {
        site.parameter: model.get_parameter(site.parameter) + site.turned(change)
        for site, change in (changes or {}).items()
    }
    return functional_call(model, weights, (torch.tensor([ids]),), {"use_cache": False}).logits[0]


def nll(found, text):
    """Returns the mean negative log-likelihood of the labels."""
    scored = found[-text.count - 1 : -1].log_softmax(-1)
    return -scored[range(text.count), text.labels].mean()


def capture(model, sites, text):
    """Returns the loss of a text, and per site the rows of inputs x and output gradients δ that are both not all 0."""
    inputs, probes = {}, {}

    def watch(site):
        def hook(_, arguments, output):
            inputs[site] = arguments[0][0].detach()
            probes[site] = torch.zeros_like(output, requires_grad=True)
            return output + probes[site]

        return model.get_submodule(site.module).register_forward_hook(hook)

    hooks = [watch(site) for site in sites]
    loss = nll(logits(model, text.ids), text)
    for hook in hooks:
        hook.remove()
    rows = {}
    for site, gradient in zip(sites, torch.autograd.grad(loss, [probes[site] for site in sites])):
        x, delta = inputs[site], gradient[0]
        kept = (x != 0).any(-1) & (delta != 0).any(-1)
        rows[site] = (x[kept], delta[kept])
    return loss.item(), rows


class Whitening:
    """The running mean and the sum of squared deviations of rows (Welford)."""

    def __init__(self, width):
        self.count, self.mean, self.squares = 0, torch.zeros(width, dtype=WIDE), torch.zeros(width, dtype=WIDE)

    def add(self, rows):
        for row in rows:
            self.count += 1
            before, self.mean = self.mean, self.mean + (row - self.mean) / self.count
            self.squares = self.squares + (row - before) * (row - self.mean)

    def __call__(self, rows):
        return (rows - self.mean) / ((self.squares / (self.count - 1)).sqrt() + 1e-7)


class Mend:
    """MEND: one network and one whitening per shape of matrix, one rate per matrix."""

    def __init__(self, sites):
        self.sites = sites
        self.modes = {kind: [site for site in sites if NETWORK[site.kind] == kind] for kind in NETWORKS}
        self.parameters, number = {}, 100
        for kind in NETWORKS:
            modes = len(self.modes[kind])
            width = self.modes[kind][0].inputs + self.modes[kind][0].outputs
            for layer in range(LAYERS):
                for name, shape, amplitude, base in [
                    ("V", (RANK, width), 1.0, 0.0),
                    ("U", (width, RANK), 0.05, 0.0),
                    ("b", (width,), 0.2, 0.0),
                    ("scale", (modes, width), 0.3, 1.0),
                    ("shift", (modes, width), 0.2, 0.0),
                ]:
                    self.parameters[f"{kind}.{name}.{layer}"] = formula(shape, number, amplitude, base)
                    number += 1
        rates = [RATES[index % len(RATES)] for index in range(len(sites))]
        self.parameters["rates"] = torch.tensor(rates, dtype=WIDE, requires_grad=True)
        self.whitening = {
            kind: (Whitening(self.modes[kind][0].inputs), Whitening(self.modes[kind][0].outputs)) for kind in NETWORKS
        }
        self.nearest = math.inf  # the smallest absolute value to which max(0, p) is applied

    def groups(self):
        return [[p for name, p in self.parameters.items() if name != "rates"], [self.parameters["rates"]]]

    def observe(self, site, rows):
        for whitening, of_rows in zip(self.whitening[NETWORK[site.kind]], rows):
            whitening.add(of_rows)

    def network(self, site, z):
        kind = NETWORK[site.kind]
        mode = self.modes[kind].index(site)
        for layer in range(LAYERS):
            names = ("V", "U", "b", "scale", "shift")
            V, U, b, scale, shift = (self.parameters[f"{kind}.{name}.{layer}"] for name in names)
            p = ((z @ V.T) @ U.T + b) * scale[mode] + shift[mode]
            self.nearest = min(self.nearest, p.abs().min().item())
            z = z + torch.where(p >= 0, p, torch.zeros_like(p))  # the slope at 0 is 1
        return z

    def factors(self, rows):
        """Returns the factors a, b of the changes aᵀ b for one fact. Rows are observed before they are whitened."""
        out = {}
        for site, rate in zip(self.sites, self.parameters["rates"]):
            self.observe(site, rows[site])
            whitening = self.whitening[NETWORK[site.kind]]
            z = torch.cat([whiten(of_rows) for whiten, of_rows in zip(whitening, rows[site])], -1)
            x, delta = self.network(site, z).split([site.inputs, site.outputs], -1)
            out[site] = (x, rate * delta)
        return out


class Ke:
    """KE: an LSTM that reads the text of the fact, and two layers with weight normalisation per matrix."""

    def __init__(self, sites, embedding):
        self.sites = sites
        self.lstm = torch.nn.LSTM(embedding.shape[1], CELLS, bidirectional=True, dtype=WIDE)
        width = embedding.shape[1]
        shapes = {"lw": (CONDITION, 2 * CELLS), "lb": (CONDITION,)}
        for direction in ("fw", "bw"):
            shapes |= {f"{direction}.wi": (4 * CELLS, width), f"{direction}.wh": (4 * CELLS, CELLS)}
            shapes |= {f"{direction}.bi": (4 * CELLS,), f"{direction}.bh": (4 * CELLS,)}
        for layer, inputs, outputs in [("one", CONDITION, None), ("two", HIDDEN, 1)]:
            for index, site in enumerate(sites):
                count = HIDDEN if outputs is None else 2 * (site.inputs + site.outputs) + 1
                shapes[f"{layer}.{index}.v"] = (count, inputs)
                shapes[f"{layer}.{index}.g"] = shapes[f"{layer}.{index}.b"] = (count,)
        self.parameters = {"emb": embedding.detach().clone().requires_grad_(True)}
        for number, (name, shape) in enumerate(shapes.items(), 300):
            gain = name.endswith(".g")
            self.parameters[name] = formula(shape, number, 0.3 if gain else 0.6, 1.0 if gain else 0.0)

    def groups(self):
        return [list(self.parameters.values())]

    def condition(self, ids):
        names = {"weight_ih": "wi", "weight_hh": "wh", "bias_ih": "bi", "bias_hh": "bh"}
        weights = {
            f"{theirs}_l0{suffix}": self.parameters[f"{direction}.{ours}"]
            for direction, suffix in (("fw", ""), ("bw", "_reverse"))
            for theirs, ours in names.items()
        }
        _, (last, _) = functional_call(self.lstm, weights, (self.parameters["emb"][list(ids)],))
        return torch.tanh(self.parameters["lw"] @ last.flatten() + self.parameters["lb"])

    def layer(self, name, x):
        v, g, b = (self.parameters[f"{name}.{part}"] for part in "vgb")
        return torch._weight_norm(v, g[:, None], 0) @ x + b

    def edit(self, ids, rows):
        """Returns the change [inputs, outputs] of every matrix, and the condition vector.

        Rows and columns are those of the stored weight.
        """
        c, out = self.condition(ids), {}
        for index, site in enumerate(self.sites):
            x, delta = rows[site]
            gradient = site.turned(x.T @ delta)
            r, s = site.stored_shape
            o = self.layer(f"two.{index}", torch.tanh(self.layer(f"one.{index}", c)))
            column_a, row_a, column_b, row_b, k = o.split([s, r, s, r, 1])
            change = torch.outer(row_a.softmax(0), column_a) * gradient + torch.outer(row_b.softmax(0), column_b)
            out[site] = site.turned(k.sigmoid() * change)
        return out, c


def judge(model, changes):
    """Returns the means of the loss on the outer texts and of KL(base ‖ edited) on the locality texts.

    Each fact is edited alone. The KL of a locality text is the mean over all its positions.
    """
    edit = kl = 0
    for change, outer, locality in zip(changes, OUTER, LOCALITY):
        edit = edit + nll(logits(model, outer.ids, change), outer) / len(changes)
        base = logits(model, locality).log_softmax(-1).detach()
        edited = logits(model, locality, change).log_softmax(-1)
        kl = kl + (base.exp() * (base - edited)).sum(-1).mean() / len(changes)
    return edit, kl
