"""The list of benchmark images that must not be trained on.

Belongs here: reading it. Not here: comparing with it (`row_rules.contaminated`).
"""

from __future__ import annotations

import io
import re
from typing import Any

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.schemas import BENCHMARK
from got_core.filesystems import open_filesystem
from got_core.storage import local_path

_HASH = re.compile(r"[0-9a-f]{16}")


def read_benchmark(url: str, fs_options: dict[str, Any] | None = None) -> pl.DataFrame:
    """BENCHMARK from a parquet or CSV table (by its ending) with a column phash and perhaps a column name.

    Raises:
        FileNotFoundError, ValueError: no such table, or not such a table; the message names it and the row.
    """
    try:
        data = io.BytesIO(_read(url, fs_options))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"benchmark table {url} does not exist; see benchmark_hashes") from error
    try:
        frame = pl.read_parquet(data) if url.endswith(".parquet") else pl.read_csv(data, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"benchmark table {url} cannot be read: {reason}") from error
    if "phash" not in frame.columns:
        raise ValueError(f"benchmark table {url} has no column phash; it has {', '.join(frame.columns)}")
    hashes = frame["phash"].cast(pl.String).str.strip_chars().str.to_lowercase()
    for row, one in enumerate(hashes, start=1):
        if one is None or not _HASH.fullmatch(one):
            raise ValueError(f"benchmark table {url}, row {row}: {one!r} is no hash of 16 hex digits")
    names = frame["name"].cast(pl.String).fill_null(hashes) if "name" in frame.columns else hashes
    table = pl.DataFrame({"phash": hashes, "name": names}).unique("phash", keep="first", maintain_order=True)
    return table.cast(polars_schema(BENCHMARK))  # type: ignore[arg-type]


def _read(url: str, fs_options: dict[str, Any] | None) -> bytes:
    fs, path = open_filesystem(str(local_path(url) or url), **(fs_options or {}))
    return fs.cat_file(path)
