"""Rows that are judged already, in storage: one table a batch, written whole.

Belongs here: naming rows by all that their figures depend on, keeping and finding them. Not here: judging.
A process that is killed loses the batch that it was at and nothing else; several processes may share a
prefix.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from got_core.storage import Storage

_FIGURES: dict[str, pl.DataType] = {
    "row_id": pl.String(),
    **dict.fromkeys(("clip_i", "clip_t", "clip_dir", "l1", "l2", "dino"), pl.Float64()),
    **dict.fromkeys(("resized", "unchanged", "caption_cut"), pl.Boolean()),
}


class StoredRows:
    """Figures of pictures, by the digest of what they depend on; without a storage only in memory.

    `figures`: their columns, with `row_id`.
    """

    def __init__(
        self,
        storage: Storage | None,
        prefix: str,
        measure: Any,
        figures: Mapping[str, pl.DataType] = _FIGURES,
    ) -> None:
        self._storage, self._measure, self._figures = storage, _digest(measure), dict(figures)
        self._folder = f"{prefix.rstrip('/')}/{self._measure[:12]}"
        self._rows: dict[str, dict[str, Any]] = {}
        if storage is not None:
            self._read(storage)

    def _read(self, storage: Storage) -> None:
        names = [name for name in storage.list(f"{self._folder}/") if name.endswith(".parquet")]
        for data in storage.read_many(names).values():
            try:
                found = pl.read_parquet(io.BytesIO(data)).cast(self._figures)  # type: ignore[arg-type]
            except (pl.exceptions.PolarsError, OSError):  # damaged: these are judged again
                continue
            self._rows.update({row.pop("row_id"): row for row in found.to_dicts()})

    def row_id(self, facts: Any) -> str:
        """64 hex digits over what a row's figures depend on."""
        return _digest([self._measure, facts])

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def get(self, row_id: str) -> dict[str, Any]:
        """The figures of a row that is judged."""
        return self._rows[row_id]

    def add(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the figures of a batch."""
        if not rows:
            return
        if self._storage is not None:
            frame = pl.DataFrame([{"row_id": key, **row} for key, row in rows.items()], schema=self._figures)
            self._storage.write_table(f"{self._folder}/{_digest(sorted(rows))[:24]}", frame)
        self._rows.update({key: dict(row) for key, row in rows.items()})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()
