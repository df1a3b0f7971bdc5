#!/bin/sh
# numpy 2.3.5: zeros at the end of a list of seeds change nothing, so generators that should be apart give the same numbers.
#
# Seen: `default_rng([seed, step])` and `default_rng([seed, step, 0])` are the same generator, and so is any list with more zeros behind.
# Whoever seeds by (seed, step) for all workers and by (seed, step, rank) for each gets, on rank 0, one stream twice: which rows are drawn
# and how they are augmented or noised are then made of the same numbers. Zeros in front, and other last numbers, do make another stream.
# What helps: end keys of another length with a number of their own that is not zero, or use `SeedSequence(seed, spawn_key=...)`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'numpy==2.3.5'
"$folder/venv/bin/python" - <<'PY'
import numpy as np


def first(*key):
    return np.random.default_rng(list(key)).integers(2**62)


def spawned(*key):
    return np.random.default_rng(np.random.SeedSequence(7, spawn_key=key)).integers(2**62)


same = first(7, 3) == first(7, 3, 0) == first(7, 3, 0, 0)
apart = len({first(7, 3), first(7, 3, 1), first(0, 7, 3)}) == 3
print(f"zeros at the end give the same stream: {same}; other keys another one: {apart}")
print(f"as a spawn key they differ: {spawned(3) != spawned(3, 0)}")
assert same and apart and spawned(3) != spawned(3, 0)
print("as described")
PY
