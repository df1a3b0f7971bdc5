"""Filtering a table of annotated rows from file to file, against polars scanning and writing the same file.

Every rule that needs no optional package is asked. Each side runs in a process of its own, so that its peak
memory is its own; the median of the alternations counts. BENCH_ROWS sets the number of rows (1,000,000 for
the real measure).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ROWS, ROUNDS, PART = int(os.environ.get("BENCH_ROWS", "200000")), 3, 50_000
TEXT = (
    "a the of on in and with is are wooden metal small large red blue green dark bright old young tall round "
    "table chair window bottle glass tree river mountain street car bicycle dog cat horse woman man child "
    "umbrella lamp book bridge tower boat field sky cloud"
)
WORDS = TEXT.split()
NOUNS = WORDS[WORDS.index("table") :]


def write_rows(folder: Path) -> None:
    """Chains of one to six boxes in captions of 60 words, some with a fault, and their image table."""
    rng = np.random.default_rng(0)
    for part, start in enumerate(range(0, ROWS, PART)):
        rows = [_row(rng, number) for number in range(start, min(start + PART, ROWS))]
        frame = pl.DataFrame(rows, orient="row", schema_overrides={"phrases": pl.List(pl.String)})
        chains = frame.drop("width", "height", "phash").with_columns(
            error=pl.lit(None, pl.String), reason=pl.lit(None, pl.String)
        )
        chains.write_parquet(folder / f"chains-{part:03d}.parquet")
        frame.select("image_id", "width", "height", "phash").write_parquet(folder / f"raw-{part:03d}.parquet")
    for name in ("chains", "raw"):
        pl.scan_parquet(folder / f"{name}-*.parquet").sink_parquet(folder / f"{name}.parquet")
        for piece in folder.glob(f"{name}-*.parquet"):
            piece.unlink()


def _row(rng: np.random.Generator, number: int) -> dict[str, object]:
    words = [WORDS[index] for index in rng.integers(0, len(WORDS), 60)]
    count = int(rng.integers(1, 7))
    ends = sorted({int(index) for index in rng.integers(3, 59, count)})
    phrases = []
    for end in ends:
        words[end] = NOUNS[rng.integers(0, len(NOUNS))] + ("," if end % 5 == 0 else "")
        phrases.append(f"{words[end - 1]} {words[end].rstrip(',')}")
    caption, chain = " ".join(words), []
    for index, word in enumerate(words):
        chain.append(word)
        if index in ends:
            x, y = rng.integers(0, 700, 2)
            w, h = rng.integers(2 if number % 10 == 0 else 40, 299, 2)
            chain.append(f"({x},{y}),({x + w},{y + h})")
    if number % 10 == 5:
        phrases[0] = phrases[0] + "s"
    return {
        "chain_id": f"{rng.integers(0, 2**63):016x}{number:016x}",
        "image_id": f"{rng.integers(0, 2**63):016x}{number:048x}",
        "prompt": f"a photo of a {phrases[0]} and a {phrases[-1]}",
        "caption": caption,
        "phrases": phrases,
        "chain": " ".join(chain),
        "boxes": len(ends),
        "width": int(rng.integers(512, 2048)),
        "height": int(rng.integers(512, 2048)),
        "phash": f"{rng.integers(0, 2**63):016x}",
    }


def ours(folder: Path) -> None:
    """The selection of the file, by all rules that need nothing optional."""
    from got_core.curate.config import STRICT_RULES, CurateConfig
    from got_core.curate.select_file import select_file

    config = CurateConfig(rules=STRICT_RULES)
    counts = select_file(
        folder / "chains.parquet", folder / "raw.parquet", folder / "selection.parquet", config
    )
    assert sum(counts.values()) == ROWS
    assert 0 < counts["accepted"] < ROWS


def theirs(folder: Path) -> None:
    """The least that anything which reads and writes the table has to do."""
    pl.scan_parquet(folder / "chains.parquet").sink_parquet(folder / "copy.parquet")


def measured(side: str, folder: Path) -> tuple[float, float]:
    """Seconds of the work and peak memory (MiB) of one side in a process of its own."""
    command = [sys.executable, "-m", "bench.bench_curate", side, str(folder)]
    environment = {**os.environ, "BENCH_ROWS": str(ROWS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def main() -> dict[str, float | str]:
    """Microseconds a row of both, their ratio, and the peak memory of filtering."""
    with tempfile.TemporaryDirectory() as place:
        write_rows(Path(place))
        runs = [(measured("ours", Path(place)), measured("theirs", Path(place))) for _ in range(ROUNDS)]
    filtering = statistics.median(one[0] for one, _ in runs)
    copying = statistics.median(other[0] for _, other in runs)
    return {
        "rows": str(ROWS),
        "filtering, microseconds a row": 1e6 * filtering / ROWS,
        "scan and write, microseconds a row": 1e6 * copying / ROWS,
        "ratio": filtering / copying,
        "peak memory of filtering, MiB": max(one[1] for one, _ in runs),
        "peak memory of scan and write, MiB": max(other[1] for _, other in runs),
    }


if __name__ == "__main__":
    sides = {"ours": ours, "theirs": theirs}
    if len(sys.argv) == 3:
        started = time.perf_counter()
        sides[sys.argv[1]](Path(sys.argv[2]))
        taken = time.perf_counter() - started
        print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        print(main())
