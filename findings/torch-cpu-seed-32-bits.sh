#!/bin/sh
# torch 2.13.0, CPU generator: `manual_seed` takes and reports a 64-bit seed, but the noise depends on its low 32 bits only.
#
# Seen: seeds 7 and 7 + 2**32 (and any others that agree modulo 2**32) draw the same normal, uniform and integer numbers and
# the same permutation, while `initial_seed()` tells them apart, so a log of seeds does not show the repetition. -1 is
# 2**32 - 1 and 2**64 - 1. Seeds that are hashes of 64 bits thus collide like hashes of 32: among 100,000 of them, about one
# pair of samples shares its noise. NumPy's `default_rng` uses all bits of the same seeds.
# What helps: keep seeds below 2**32, or fold the whole hash into 32 bits on purpose, and check for repetitions there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import torch


def noise(seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    draws = torch.randn(64, generator=generator), torch.randint(1000, (64,), generator=generator)
    return [*draws, torch.rand(64, generator=generator), torch.randperm(64, generator=generator)], generator.initial_seed()


for low, high in ((7, 7 + 2**32), (1, 1 + 2**63), (2**32 - 1, -1), (2**32 - 1, 2**64 - 1)):
    (first, first_seed), (second, second_seed) = noise(low), noise(high)
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    print(f"seeds {low} and {high}: same noise {same}; initial_seed {first_seed} and {second_seed}")
    assert same and first_seed != second_seed
numpy_same = np.array_equal(np.random.default_rng(7).normal(size=8), np.random.default_rng(7 + 2**32).normal(size=8))
print("numpy, seeds 7 and 7 + 2**32: same noise", numpy_same)
assert not numpy_same
assert not torch.equal(noise(7)[0][0], noise(8)[0][0])
print("as described")
PY
