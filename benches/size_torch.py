"""The value of one edit in PyTorch as it is published: every layer, position and logit at every step, by autograd.

    python benches/size_torch.py MODEL LAYER

For `cargo bench --bench size`, which watches its memory. Weights keep the type of the file; twenty steps, two threads.
"""

import json
import sys
from pathlib import Path

import tokenizers
import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
folder, layer = Path(sys.argv[1]), int(sys.argv[2])
TEMPLATES = (Path(__file__).resolve().parent.parent / "src/compile/templates.txt").read_text().splitlines()
SUBJECT, PROMPT, TARGET = "The Eiffel Tower", "{} is located in the city of", " London"

config = json.loads((folder / "config.json").read_text())
dtype = torch.float32 if config.get("torch_dtype") == "float32" else torch.bfloat16
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, low_cpu_mem_usage=True)
model = model.eval().requires_grad_(False)
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
mlp = model.transformer.h[layer].mlp if config["model_type"] == "gpt2" else model.model.layers[layer].mlp

target = tokenizer.encode(TARGET, add_special_tokens=False).ids
rows, positions = [], []
for template in [*TEMPLATES, None]:
    text = f"{SUBJECT} is a" if template is None else template.replace("{}", PROMPT.replace("{}", SUBJECT))
    encoding = tokenizer.encode(text)
    end = text.index(SUBJECT) + len(SUBJECT) - 1
    positions.append(max(i for i, (a, b) in enumerate(encoding.offsets) if a <= end < b))
    rows.append(encoding.ids + ([] if template is None else target[:-1]))
lengths = [len(row) for row in rows]
width = max(lengths)
ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
mask = torch.tensor([[1] * n + [0] * (width - n) for n in lengths])
delta = torch.zeros(model.config.hidden_size, requires_grad=True)
start = []


def add(_, __, output):
    if not start:
        start.append(output[0, positions[0]].detach().float())
    moved = output.clone()
    moved[torch.arange(len(rows)), torch.tensor(positions)] += delta.to(output.dtype)
    return moved


mlp.register_forward_hook(add)
optimiser = torch.optim.Adam([delta], lr=0.5)
before = None
for step in range(20):
    optimiser.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    log = torch.log_softmax(logits.float(), dim=-1)
    nll = 0.0
    for row, length in enumerate(lengths[:-1]):
        for j, label in enumerate(target):
            nll = nll - log[row, length - len(target) + j, label]
    nll = nll / len(target) / (len(rows) - 1)
    now = log[-1, positions[-1]]
    before = now.detach() if before is None else before
    kl = 0.0625 * (now.exp() * (now - before)).sum()
    loss = nll + kl + 0.5 * delta.norm() / start[0].norm() ** 2
    if step == 19:
        break
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        limit = 4 * start[0].norm()
        if delta.norm() > limit:
            delta *= limit / delta.norm()
print(f"loss {loss.item():.4f}")
