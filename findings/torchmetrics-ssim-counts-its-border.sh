#!/bin/sh
# torchmetrics 1.4.1 and 1.4.2 with torch 2.13.0: the same SSIM call gives other figures, since the newer one also counts windows that reach
# over the picture's border.
#
# Seen: `structural_similarity_index_measure` with default arguments. 1.4.1 takes the mean over windows that lie within the picture, as
# scikit-image 0.25.2 does with the window of the original paper (equal to 1e-4); 1.4.2, and still 1.9.0, reflects the picture at its border
# and takes the mean over all. Noise in one half of a 64 x 64 picture gives .8416 and .8432; where masked pictures differ near their
# border it is a hundredth. Neither an argument nor a warning tells which one is computed, and scripts that pin no version give the
# figure of the day on which they were installed.
# What helps: name the version beside every SSIM, or compute the mean over the inner windows: `return_full_image=True`, cut by 5 pixels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip 'torch==2.13.0' 'numpy==2.3.5' 'scikit-image==0.25.2' 'packaging==25.0' 'lightning-utilities==0.15.2' 'setuptools==80.9.0'
for version in 1.4.1 1.4.2 1.9.0; do pip --no-deps --target "$folder/$version" "torchmetrics==$version"; done
cat > "$folder/measure.py" <<'PY'
import sys

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

rng = np.random.default_rng(0)
left = rng.random((64, 64, 3)).astype(np.float32)
right = left.copy()
right[:, :32] = np.clip(right[:, :32] + 0.3 * rng.standard_normal((64, 32, 3)), 0, 1)
batches = [torch.from_numpy(one).permute(2, 0, 1)[None] for one in (left, right)]
mean, full = ssim(*batches, data_range=1.0, return_full_image=True)
inner = full[..., 5:-5, 5:-5].mean()
options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
other = structural_similarity(left, right, channel_axis=2, data_range=1.0, **options)
print(sys.argv[1], float(mean), float(inner), other)
PY
for version in 1.4.1 1.4.2 1.9.0; do
    PYTHONPATH="$folder/$version" "$folder/venv/bin/python" -W ignore "$folder/measure.py" "$version" 2>/dev/null
done > "$folder/found"
"$folder/venv/bin/python" - "$folder/found" <<'PY'
import sys

rows = {name: tuple(map(float, rest)) for name, *rest in (line.split() for line in open(sys.argv[1]))}
for name, (mean, inner, other) in rows.items():
    print(f"torchmetrics {name}: {mean:.5f}, its inner windows alone {inner:.5f}, scikit-image {other:.5f}")
(old, _, other), (new, inner, _) = rows["1.4.1"], rows["1.4.2"]
assert abs(old - other) < 1e-4
assert abs(inner - other) < 1e-4 and rows["1.9.0"] == rows["1.4.2"]
assert 0.001 < abs(new - old) < 0.1
print("as described")
PY
