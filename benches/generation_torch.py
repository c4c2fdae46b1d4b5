"""Times greedy decoding with transformers, and compares its tokens with those in a file; `generation.rs` calls it.

    python benches/generation_torch.py FILE

FILE is JSON: the folder of the checkpoint, the token ids of the prompts, and the generated ids to compare.
"""

import json
import statistics
import sys
import time

import torch
import transformers


def greedy(model, rows, tokens):
    """Continues rows of token ids greedily, padded on the left. Returns the new ids of each row, without end tokens."""
    width, pad = max(map(len, rows)), 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with torch.no_grad():
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, num_beams=1, pad_token_id=pad
        )
    return [without_end(row[width:].tolist(), ends(model)) for row in out]


def ends(model):
    stated = model.config.eos_token_id
    return set(stated if isinstance(stated, list) else [stated])


def without_end(ids, end):
    for index, one in enumerate(ids):
        if one in end:
            return ids[:index]
    return ids


def first_gap(model, row, ours, theirs):
    """Returns the first position at which two continuations differ, and the logits there of both tokens, in float64."""
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    with torch.no_grad():
        logits = model(torch.tensor([row + ours[:place]])).logits[0, -1]
    pair = [continuation[place] if place < len(continuation) else next(iter(ends(model))) for continuation in (ours, theirs)]
    return place, [logits[one].item() for one in pair]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    torch.set_num_threads(2)
    model = transformers.AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float32).eval()
    rows, tokens = asked["rows"], asked["tokens"]
    greedy(model, rows[:1], tokens)
    alone = []
    for row in rows[: asked["alone"]]:
        begun = time.perf_counter()
        greedy(model, [row], tokens)
        alone.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    greedy(model, rows[: asked["together"]], tokens)
    together = time.perf_counter() - begun
    print(f"transformers: one prompt {statistics.median(alone):.3f} s; {asked['together']} prompts: {together:.3f} s")
    wide = transformers.AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float64).eval()
    same, listed = 0, []
    batches = [rows[first : first + 25] for first in range(0, len(rows), 25)]
    all_theirs = [one for batch in batches for one in greedy(wide, batch, tokens)]
    for row, ours, theirs in zip(rows, asked["ids"], all_theirs):
        if theirs == ours:
            same += 1
        else:
            listed.append((row, *first_gap(wide, row, ours, theirs)))
    print(f"{same} of {len(rows)} continuations of {tokens} tokens equal those of transformers in float64")
    for row, place, logits in listed:
        print(f"  prompt {row[:6]}…: token {place} differs, logits {logits[0]:.7f} and {logits[1]:.7f}")


if __name__ == "__main__":
    main()
