"""Computes the outputs of the tiny model in float64: `golden/forward.json`.

    python tests/reference/golden_forward.py [--out FILE]
"""

import argparse
import tempfile

import common
import tiny
import torch

TEXTS = [
    ("sentence", "The capital of France is"),
    ("sentences", "Ada Bellini was born in Rome. She lives in Paris. The river Seine runs through it."),
    ("non-ascii", "Élodie Garnier, née à São Tomé — 東京 🙂"),
    ("single-token", " the"),
    ("subject-last", "The mother tongue of Jan Novák"),
]


def observe(model, ids):
    """Returns the logits, all residual states and all keys, at all positions of one unpadded row."""
    states, keys, hooks = [], [], []
    transformer = model.transformer
    # The input of the first block is the sum of the two embeddings.
    hooks.append(transformer.h[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][0])))
    for block in transformer.h:
        hooks.append(block.register_forward_hook(lambda _, __, output: states.append(common.first(output)[0])))
        hooks.append(block.mlp.c_proj.register_forward_pre_hook(lambda _, inputs: keys.append(inputs[0][0])))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, torch.stack(states), torch.stack(keys)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "forward.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny.save(folder)
        wide, tokenizer = common.load(folder, torch.float64)
        narrow, _ = common.load(folder, torch.float32)
    for name, array in tiny.tensors().items():
        assert torch.equal(wide.state_dict()[name], torch.from_numpy(array).double()), name
    assert wide.lm_head.weight.data_ptr() == wide.transformer.wte.weight.data_ptr()

    cases, worst = [], dict.fromkeys(("logits", "hidden", "keys"), 0.0)
    for name, text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert len(ids) <= tiny.CONFIG["n_positions"]
        seen = observe(wide, ids)
        for key, a, b in zip(worst, seen, observe(narrow, ids)):
            worst[key] = max(worst[key], (a - b.double()).abs().max().item())
        logits, states, keys = seen
        cases.append(
            {
                "name": name,
                "text": text,
                "ids": ids,
                "logits_first": common.f32(logits[0]),
                "logits_last": common.f32(logits[-1]),
                "hidden_first": common.f32(states[:, 0]),
                "hidden_last": common.f32(states[:, -1]),
                "keys_last": common.f32(keys[:, -1]),
            }
        )
        print(f"{name}: {len(ids)} tokens")
    print("largest difference of float32 from float64:", {k: f"{v:.2e}" for k, v in worst.items()})
    common.write_json(arguments.out, {"versions": common.versions(), "model": "tiny", "cases": cases})


if __name__ == "__main__":
    main()
