#!/bin/sh
# numpy 2.3.5: which of equal values `argsort` puts first depends on the processor, from four values on.
#
# Seen: up to 16 values, `argsort` keeps equal ones in their order where AVX2 is missing or switched off, so that code which relies on
# it passes its tests there. With AVX2 or AVX-512 another algorithm runs, and four float32 values with one tie may come out swapped;
# above 256 values AVX2 and AVX-512 differ as well. Detection benchmarks take their most confident boxes as `argsort(scores)[::-1][:n]`: where
# two boxes have equal scores (scores of 16 bits or at exactly 1 have them), the same file of detections gets another
# best box, so another verdict, on another machine. That is not the order of appearance, nor its reverse.
# What helps: `kind="stable"`. `NPY_DISABLE_CPU_FEATURES` shows the other processors' orders on one machine.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'numpy==2.3.5'
cat >"$folder/orders.py" <<'PY'
import hashlib

import numpy as np

scores = np.array([0.95, 0.95, 0.5, 0.9], np.float32)
best = int(np.argsort(scores)[::-1][0])
unlike = {}
for length in (4, 8, 16, 300):
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    swapped = 0
    for _ in range(200):
        values = rng.choice(np.array([0.5, 0.9, 0.95, 1.0], np.float32), length)
        order = np.argsort(values)
        swapped += not np.array_equal(order, np.argsort(values, kind="stable"))
        digest.update(order.tobytes())
    unlike[length] = (swapped, digest.hexdigest()[:8])
print(best, " ".join(f"{length}:{swapped}:{digest}" for length, (swapped, digest) in unlike.items()))
PY
"$folder/venv/bin/python" - "$folder" <<'PY'
import os
import subprocess
import sys

from numpy._core._multiarray_umath import __cpu_features__ as features

AVX512 = [name for name in ("AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL", "AVX512_SPR") if features[name]]
assert features["AVX2"], "needs a processor with AVX2"


def orders(without):
    """The best of four, and for each length how many of 200 orders are not stable, and a digest of all."""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(without)}
    done = subprocess.run([sys.executable, f"{sys.argv[1]}/orders.py"], env=environment, capture_output=True, text=True, check=True)
    best, *lengths = done.stdout.split()
    return int(best), {int(one.split(":")[0]): (int(one.split(":")[1]), one.split(":")[2]) for one in lengths}


plain, fast = orders([*AVX512, "AVX2", "FMA3"]), orders(AVX512)
found = {"neither": plain, "AVX2": fast, **({"AVX-512": orders([])} if AVX512 else {})}
for name, (best, lengths) in found.items():
    print(f"{name}: of scores .95 .95 .5 .9 the best is number {best}; not stable of 200: {lengths}")
assert plain[0] == 1 and [plain[1][length][0] for length in (4, 8, 16)] == [0, 0, 0], "stable up to 16 values"
for name in set(found) - {"neither"}:
    best, lengths = found[name]
    assert best == 0 and all(lengths[length][0] for length in (4, 8, 16)), "not stable from 4 values on"
if AVX512:
    assert found["AVX-512"][1][300] != fast[1][300], "they differ from each other, too"
print("as described")
PY
