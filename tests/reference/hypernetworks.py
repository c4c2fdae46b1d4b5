"""Computes one training step of MEND and of KE on two tiny models with transformers: `golden/hypernetworks.json`.

    python tests/reference/hypernetworks.py [--out FILE]

The models are `gpt2` and `llama` of `families.py`. Everything is float64. Two facts are edited, each on the unedited
model.
"""

import argparse
import copy
import tempfile

import common
import families
import torch
from hypernetworks_checks import check_edited, check_rows, check_slope, check_with_tools
from hypernetworks_editors import EDIT_WEIGHT, FACTS, LOCALITY, MATRICES, OUTER, WIDE
from hypernetworks_editors import Ke, Mend, capture, judge, sites_of
from transformers.utils import logging

CLIP, LEARNING_RATE = 100.0, 1e-2
# Of a tensor with more numbers than WHOLE, the file has every EVERYth number; of a change, every CHANGE_EVERYth.
WHOLE, EVERY, CHANGE_EVERY = 64, 17, 61


def step(editor, gradients):
    """Updates the parameters by one step of Adam with clipped gradients, and returns the norm before clipping."""
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm().item()
    for name, parameter in editor.parameters.items():
        parameter.grad = gradients[name] * min(1.0, CLIP / norm)
    groups = [{"params": group, "lr": LEARNING_RATE} for group in editor.groups()]
    torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8).step()
    return norm


def reduced(tensor, every=EVERY):
    """Returns the norm of a tensor, and every `every`th of its numbers, row-major; all of them if it is small."""
    flat = tensor.detach().flatten()
    every = 1 if len(flat) <= WHOLE else every
    return {"norm": flat.norm().item(), "every": every, "values": common.f32(flat[::every])}


def trained(model, sites, name, editor, captured, changes_of):
    """Runs one training step of an editor. `changes_of` returns the changes of every fact."""

    def losses_of():
        return judge(model, changes_of())

    def total_of():
        edit, kl = losses_of()
        return EDIT_WEIGHT * edit + kl

    edit, kl = losses_of()
    total = EDIT_WEIGHT * edit + kl
    gradients = dict(zip(editor.parameters, torch.autograd.grad(total, list(editor.parameters.values()))))
    check_slope(editor, total_of, gradients)
    check_with_tools(model, sites, name, editor, captured, (edit, kl), gradients)
    norm = step(editor, gradients)
    return {
        "edit_loss": edit.item(),
        "kl": kl.item(),
        "total": total.item(),
        "gradients": {name: reduced(gradient) for name, gradient in gradients.items()},
        "norm": norm,
        "after": {name: reduced(parameter) for name, parameter in editor.parameters.items()},
    }


def statistics(whitening):
    x, delta = whitening
    return {
        "n": x.count,
        "x_mean": common.f32(x.mean),
        "x_s": common.f32(x.squares),
        "delta_mean": common.f32(delta.mean),
        "delta_s": common.f32(delta.squares),
    }


def mend_step(model, sites, captured):
    mend = Mend(sites)
    for rows in captured:
        for site in sites:
            mend.observe(site, rows[site])
    warm = mend.whitening

    def factors_of():
        mend.whitening = copy.deepcopy(warm)
        return [mend.factors(rows) for rows in captured]

    def dense(factors):
        return [{site: a.T @ b for site, (a, b) in of_fact.items()} for of_fact in factors]

    factors = factors_of()
    check_edited(model, dense(factors), factors)
    # In float32, a number nearer to 0 than this could be on the other side of 0.
    assert mend.nearest > 1e-5, f"max(0, p) is applied to a number of size {mend.nearest:.1e}"
    print(f"  the smallest size of a number p in max(0, p) is {mend.nearest:.1e}")
    stored = [
        {site.name: {"a": common.f32(a), "b": common.f32(b)} for site, (a, b) in of_fact.items()} for of_fact in factors
    ]
    found = {"statistics": {kind: statistics(of_kind) for kind, of_kind in mend.whitening.items()}, "factors": stored}
    return found | trained(model, sites, "mend", mend, captured, lambda: dense(factors_of()))


def ke_step(model, sites, captured):
    ke = Ke(sites, model.get_input_embeddings().weight)

    def edits():
        return [ke.edit(fact.ids, rows) for fact, rows in zip(FACTS, captured)]

    changes, conditions = zip(*edits())
    check_edited(model, changes)
    stored = [{site.name: reduced(change, CHANGE_EVERY) for site, change in of_fact.items()} for of_fact in changes]
    found = {"condition_vectors": common.f32(torch.stack(conditions)), "changes": stored}
    return found | trained(model, sites, "ke", ke, captured, lambda: [changes for changes, _ in edits()])


def both_steps(model, sites):
    losses, captured = zip(*[capture(model, sites, fact) for fact in FACTS])
    for fact, rows in zip(FACTS, captured):
        check_rows(model, sites, fact, rows)
    return {
        "sites": [site.name for site in sites],
        "facts": [fact.stored() | {"loss": loss} for fact, loss in zip(FACTS, losses)],
        "outer": [outer.stored() for outer in OUTER],
        "locality": [list(ids) for ids in LOCALITY],
        "rows": [
            {site.name: {"x": common.f32(x), "delta": common.f32(delta)} for site, (x, delta) in rows.items()}
            for rows in captured
        ],
        "mend": mend_step(model, sites, captured),
        "ke": ke_step(model, sites, captured),
    }


def case(name):
    config = families.CASES[name]
    print(name)
    with tempfile.TemporaryDirectory() as folder:
        model = families.load(families.save(config, folder), config, WIDE)
    # Llama computes norms and the attention softmax in float32 inside transformers unless float32 is replaced.
    with families.wide_inside():
        return {"name": name} | both_steps(model, sites_of(model, config))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "hypernetworks.json")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    models = [case(name) for name in MATRICES]
    common.write_json(arguments.out, {"versions": common.versions(), "models": models})


if __name__ == "__main__":
    main()
