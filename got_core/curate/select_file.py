"""Selection of a chain table of any size, from file to file: `got data select --help`.

Belongs here: reading and writing in batches, so that memory does not grow with the table. Not here: rules.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from got_core.annotate.schemas import ORIGIN
from got_core.corpus.schemas import polars_schema
from got_core.curate.batch import BATCH_ROWS
from got_core.curate.benchmarks import read_benchmark
from got_core.curate.config import CurateConfig
from got_core.curate.rules import KEYS, PICTURE_COLUMNS, Kind, active_rules, selections
from got_core.curate.schemas import SELECTION

_NEEDED: dict[Kind, tuple[str, ...]] = {
    "t2i": ("prompt", "caption", "phrases"),
    "edit": ("instruction",),
}


def select_file(
    chains: Path,
    pictures: Path,
    out: Path,
    config: CurateConfig,
    *,
    kind: Kind = "t2i",
    signals: pl.DataFrame | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Counter[str]:
    """Write the SELECTION of a parquet file of chains; how many rows each rule rejected, and `accepted`.

    `pictures`: parquet file of RAW_IMAGES or EDIT_PAIRS. The file appears under its name when it is whole.
    Raises FileNotFoundError, ValueError.
    """
    import pyarrow.parquet as pq

    for path in (chains, pictures):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; it must be a parquet file")
    columns = _columns(pictures, [KEYS[kind]], PICTURE_COLUMNS)
    known = pl.scan_parquet(pictures, glob=False)
    benchmark = read_benchmark(config.benchmark_hashes) if config.benchmark_hashes else None
    wanted = _columns(chains, ["chain_id", KEYS[kind], "chain", "error", *_NEEDED[kind]], tuple(ORIGIN))
    scan = pl.scan_parquet(chains, glob=False).select(wanted)
    batches = scan.collect_batches(chunk_size=batch_rows, maintain_order=True)
    judged = selections(
        batches, known.select(columns).collect(), config, kind=kind, signals=signals, benchmark=benchmark
    )
    counts = Counter(dict.fromkeys(["accepted", *active_rules(config, kind)], 0))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    empty = pl.DataFrame(schema=polars_schema(SELECTION)).to_arrow()
    try:
        with pq.ParquetWriter(partial, empty.schema, compression="zstd") as writer:
            for frame in judged:
                writer.write_table(frame.to_arrow())
                counts.update(dict(frame["rule"].fill_null("accepted").value_counts().iter_rows()))
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return counts


def _columns(path: Path, needed: Sequence[str], also: Sequence[str]) -> list[str]:
    """Columns to read of a file. Raises ValueError, naming the file, if it is no parquet or lacks one."""
    try:
        there = pl.scan_parquet(path, glob=False).collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable parquet file: {' '.join(str(error).split())[:200]}"
        ) from error
    missing = [name for name in needed if name not in there]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(there)}")
    return [*needed, *(name for name in also if name in there)]
