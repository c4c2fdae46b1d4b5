"""Writes a checkpoint whose weights went through a storage form and back, as a descendant that is quantised has them.

    python benches/requantised.py FOLDER OUT BF16|F16|Q8_0|Q4_1|...

FOLDER is a checkpoint with one file `model.safetensors`. As in llama.cpp, a matrix is quantised in blocks along its rows; vectors stay. Needs
`gguf`, `numpy`, `safetensors` and `torch`.
"""

import shutil
import sys
from pathlib import Path

import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file

BLOCK = 32


def stored(tensor, form):
    """Returns the tensor as it comes back from the form, in its own type for 16-bit forms, otherwise in float32."""
    if form in ("BF16", "F16"):
        return tensor.to(torch.bfloat16 if form == "BF16" else torch.float16)
    wide = tensor.float()
    if wide.dim() < 2 or wide.shape[-1] % BLOCK:
        return wide
    kind = GGMLQuantizationType[form]
    return torch.from_numpy(dequantize(quantize(wide.numpy(), kind), kind).copy()).reshape(wide.shape)


def main():
    folder, out, form = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    out.mkdir(parents=True)
    tensors = load_file(folder / "model.safetensors")
    again = {name: stored(tensor, form).contiguous() for name, tensor in tensors.items()}
    save_file(again, out / "model.safetensors", metadata={"format": "pt"})
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt") and path.name != "model.safetensors":
            shutil.copy(path, out / path.name)
    square = sum((again[name].double() - tensor.double()).square().sum() for name, tensor in tensors.items())
    whole = sum(tensor.double().square().sum() for tensor in tensors.values())
    print(f"{form}: relative change of all weights {(square / whole).sqrt().item():.2e}")


if __name__ == "__main__":
    main()
