"""Rows of archived manifests that a takedown removed: by them one still knows which models had learned what.

    takedown/manifest_rows      a row of a manifest, with the manifest's hash

Belongs here: moving them out of the archive. Not here: which rows, and what is asked of them (`trained_on`).
"""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.schemas import ARCHIVED
from got_core.storage import TABLE_SUFFIX, Storage

ROWS = "takedown/manifest_rows"
ARCHIVE_FOLDER = "manifests"
_COLUMNS = ("image_id", "source_id", "pair_id", "sample_id")


def archived_rows(storage: Storage) -> pl.DataFrame:
    """Columns manifest and those of ARCHIVED."""
    if not storage.exists(f"{ROWS}{TABLE_SUFFIX}"):
        return pl.DataFrame(schema={"manifest": pl.String(), **polars_schema(ARCHIVED)})
    return storage.read_table(ROWS)


def move_archived(storage: Storage, items: frozenset[str]) -> dict[str, int]:
    """Move rows about these items out of every archived manifest; how many, by manifest that had some."""
    counts: dict[str, int] = {}
    names = [one for one in storage.list(f"{ARCHIVE_FOLDER}/") if one.endswith(TABLE_SUFFIX)]
    for name in (one.removesuffix(TABLE_SUFFIX) for one in names):
        frame = storage.read_table(name)
        hit = pl.any_horizontal(pl.col(column).is_in(sorted(items)).fill_null(False) for column in _COLUMNS)
        rows = frame.filter(hit)
        if rows.is_empty():
            continue
        digest = name.rpartition("/")[2]
        known = archived_rows(storage)
        moved = rows.select(pl.lit(digest).alias("manifest"), *ARCHIVED)
        storage.write_table(ROWS, pl.concat([known, moved]).unique(maintain_order=True))  # before they go
        storage.write_table(name, frame.filter(~hit))
        counts[name] = rows.height
    return counts
