"""Checks of the steps in `hypernetworks.py`. If `../shared/tools/hypernetworks` exists, the step on `gpt2` is compared
with the implementation there, which has its own GPT-2.
"""

import copy
import sys

import common
import torch
from hypernetworks_editors import (
    CELLS,
    CONDITION,
    EDIT_WEIGHT,
    FACTS,
    HIDDEN,
    LOCALITY,
    OUTER,
    RANK,
    WIDE,
    logits,
    nll,
)

TOOLS = common.ROOT.parent / "shared" / "tools" / "hypernetworks"
# The names that the tools give to the kinds of matrices.
THEIRS = {"up": "fc", "down": "proj"}


def close(found, wanted, what, tolerance=1e-12):
    """Asserts that two tensors are equal up to `tolerance` of the largest entry."""
    difference = (found - wanted).abs().max() / wanted.abs().max()
    assert difference <= tolerance, f"{what}: {difference:.1e}"


def check_rows(model, sites, text, rows):
    """Asserts that Σ xᵀ δ of the kept rows is autograd's gradient of the weight."""
    zeros = {site: torch.zeros(site.inputs, site.outputs, dtype=WIDE, requires_grad=True) for site in sites}
    gradients = torch.autograd.grad(nll(logits(model, text.ids, zeros), text), list(zeros.values()))
    for site, gradient in zip(sites, gradients):
        x, delta = rows[site]
        close(x.T @ delta, gradient, f"Σ xᵀ δ of {site.name}")


def check_edited(model, changes, factors=None):
    """Asserts that a model with replaced weights, and one with hooks that add (x aᵀ) b, give the logits of `logits`."""
    for index, (change, outer) in enumerate(zip(changes, OUTER)):
        wanted = logits(model, outer.ids, change).detach()
        moved = (wanted - logits(model, outer.ids)).abs().max()
        assert moved > 1e-3, f"the change moves the logits by {moved:.1e}"
        replaced = copy.deepcopy(model)
        for site, matrix in change.items():
            replaced.get_parameter(site.parameter).data += site.turned(matrix.detach())
        close(logits(replaced, outer.ids), wanted, "replaced weights")
        if factors is not None:
            close(hooked_logits(model, outer.ids, factors[index]), wanted, "hooks")


def hooked_logits(model, ids, factors):
    def add(a, b):
        return lambda _, arguments, output: output + (arguments[0] @ a.T) @ b

    hooks = [model.get_submodule(site.module).register_forward_hook(add(a, b)) for site, (a, b) in factors.items()]
    found = logits(model, ids).detach()
    for hook in hooks:
        hook.remove()
    return found


def check_slope(editor, total_of, gradients):
    """Asserts that a central difference of the total along a fixed direction is the gradient along it."""
    size = 1e-6
    parameters = list(editor.parameters.values())
    directions = [common.vector(0xD1F, parameter.numel()).view(parameter.shape) for parameter in parameters]
    along = sum((gradients[name] * direction).sum() for name, direction in zip(editor.parameters, directions))
    kept, totals = [parameter.detach().clone() for parameter in parameters], []
    with torch.no_grad():
        for shift in (size, -size):
            for parameter, value, direction in zip(parameters, kept, directions):
                parameter.copy_(value + shift * direction)
            totals.append(total_of())
        for parameter, value in zip(parameters, kept):
            parameter.copy_(value)
    difference = (totals[0] - totals[1]) / (2 * size)
    assert abs(difference - along) <= 1e-6 * abs(along), f"{difference} is not {along}"


def check_with_tools(model, sites, name, editor, captured, losses, gradients):
    """Asserts that the tools have the same rows, losses and gradients."""
    if model.config.model_type != "gpt2":
        return
    if not TOOLS.exists():
        print(f"  {name} is not compared: {TOOLS} is absent")
        return
    if str(TOOLS) not in sys.path:
        sys.path.append(str(TOOLS))
    import lm as lm_tool
    import mend as mend_tool

    lm = gpt2_of_tools(model, lm_tool)
    places = [(site.layer, THEIRS[site.kind]) for site in sites]
    rows = lm_tool.pad([fact.ids for fact in FACTS])
    caught, _ = mend_tool.catch(lm, rows, [span(fact) for fact in FACTS], places, lm_tool.picked)
    for found, wanted in zip(caught, captured):
        for site, place in zip(sites, places):
            for one, other in zip(found[place], wanted[site]):
                close(one, other, f"rows of {site.name}")
    tool, changes = tool_changes(lm, places, name, editor, caught, rows)
    edit, kl = tool_losses(lm, lm_tool, changes)
    close(edit, losses[0], "the edit loss of the tools")
    close(kl, losses[1], "the KL of the tools")
    parameters = dict(tool.named_parameters())
    for key, gradient in zip(parameters, torch.autograd.grad(EDIT_WEIGHT * edit + kl, list(parameters.values()))):
        close(gradient, gradients[our_name(key)], f"the gradient of {key} of the tools", 1e-9)
    print(f"  {name} equals the tools: rows, losses and {len(parameters)} gradients")


def gpt2_of_tools(model, lm_tool):
    config, lm = model.config, lm_tool.LM.__new__(lm_tool.LM)
    lm.L, lm.d, lm.h, lm.V = config.n_layer, config.n_embd, config.n_head, config.vocab_size
    lm.f, lm.eps = config.n_inner or 4 * config.n_embd, config.layer_norm_epsilon
    lm.w = {name.removeprefix("transformer."): weight.detach() for name, weight in model.named_parameters()}
    return lm


def our_name(name):
    for ours, theirs in THEIRS.items():
        name = name.replace(f"net.{theirs}.", f"{ours}.")
    return name


def tool_changes(lm, places, name, editor, caught, rows):
    """Returns the editor of the tools, with the parameters of `editor`, and its changes."""
    import ke as ke_tool
    import mend as mend_tool

    if name == "mend":
        tool = mend_tool.Mend(lm, places, RANK, dtype=WIDE)
    else:
        tool = ke_tool.Ke(lm, places, CELLS, CONDITION, HIDDEN, dtype=WIDE)
        assert list(editor.parameters) == [key for key, _ in tool.named_parameters()]
    assert editor.parameters.keys() == {our_name(key) for key, _ in tool.named_parameters()}
    for key, parameter in tool.named_parameters():
        parameter.data.copy_(editor.parameters[our_name(key)])
    if name == "mend":
        with torch.no_grad():
            tool.factors(caught, True, fast=False)
        return tool, tool.factors(caught, True, fast=False)
    mask = torch.zeros(rows.shape, dtype=WIDE)
    for index, fact in enumerate(FACTS):
        mask[index, : len(fact.ids)] = 1
    return tool, tool.factors(caught, rows, mask)


def tool_losses(lm, lm_tool, changes):
    hidden, _ = lm.run(lm_tool.pad([outer.ids for outer in OUTER]), changes)
    edit = sum(-p.mean() for p in lm_tool.picked(lm, hidden, [span(outer) for outer in OUTER])) / len(OUTER)
    kl = 0
    for index, locality in enumerate(LOCALITY):
        alone = {place: (a[index : index + 1], b[index : index + 1]) for place, (a, b) in changes.items()}
        ids = torch.tensor([locality])
        base, edited = (lm.logits(lm.run(ids, of)[0]).log_softmax(-1) for of in ({}, alone))
        kl = kl + (base.exp() * (base - edited)).sum(-1).mean() / len(LOCALITY)
    return edit, kl


def span(text):
    """Returns the index of the first label, and the labels."""
    return len(text.ids) - text.count, text.labels
