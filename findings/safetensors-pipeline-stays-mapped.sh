#!/bin/sh
# safetensors 0.8.0 with diffusers 0.42.1: a model loaded on the CPU goes on being its file, mapped into memory.
#
# Seen: after `from_pretrained` the file of weights stands in /proc/self/maps, and parameters lie inside of that range, with no call
# holding the file open. Memory is the page cache's until a parameter is written, and the first use reads from the disk.
# So what is written into that file can reach a model that is long loaded; only a new file under the old name (written beside it, then
# renamed) leaves the loaded model as it was.
# What helps: replace files of weights by renaming, or copy the parameters of what has to outlive its files
# (`parameter.data = parameter.data.clone()`); another dtype or device is a copy, too.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'diffusers==0.42.1' 'safetensors==0.8.0' 'torch==2.13.0' 'numpy==2.3.5'
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - "$folder/model" <<'PY'
import sys
from pathlib import Path

import torch
from diffusers import UNet2DModel

FILE = "diffusion_pytorch_model.safetensors"


def mapped(model):
    """Of its parameters, how many lie in the mapped file of weights."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(FILE)]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    places = [one.data_ptr() for one in model.parameters()]
    return sum(any(low <= place < high for low, high in ranges) for place in places), len(places)


made = UNet2DModel(sample_size=8, block_out_channels=(32, 64), down_block_types=("DownBlock2D",) * 2,
                   up_block_types=("UpBlock2D",) * 2, norm_num_groups=8)
made.save_pretrained(sys.argv[1])
loaded = UNet2DModel.from_pretrained(sys.argv[1])
inside, total = mapped(loaded)
print(f"loaded: {inside} of {total} parameters lie in the mapped file")
for parameter in loaded.parameters():
    parameter.data = parameter.data.clone()
copied, _ = mapped(loaded)
print(f"copied: {copied} of {total}")
assert inside == total and copied == 0
half, _ = mapped(UNet2DModel.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16))
print(f"loaded in another dtype: {half} of {total}")
assert half == 0
print("as described")
PY
