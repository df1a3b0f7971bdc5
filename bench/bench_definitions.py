"""Loading the graph's definitions against `import dagster`: whole fresh processes, from start to end.

The two take turns and each pair gives a ratio; the bar is 1.5 for the median. Bytecode is there already (one
round before counts for nothing). BENCH_ROUNDS sets the number of pairs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
MODULES = ("dagster", "got_assets.definitions")


def seconds(module: str, home: str) -> float:
    """Wall time of a process that imports the module and ends."""
    environment = {**os.environ, "GOT_HOME": home}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
    return time.perf_counter() - started


def main() -> dict[str, float | str]:
    """Seconds of both, and their ratio."""
    with tempfile.TemporaryDirectory() as home:
        for module in MODULES:
            seconds(module, home)
        pairs = [[seconds(module, home) for module in MODULES] for _ in range(ROUNDS)]
    ratios = [ours / theirs for theirs, ours in pairs]
    return {
        "import dagster, seconds": statistics.median(theirs for theirs, _ in pairs),
        "definitions, seconds": statistics.median(ours for _, ours in pairs),
        "ratio, median of the pairs": statistics.median(ratios),
        "ratio, lowest and highest": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }
