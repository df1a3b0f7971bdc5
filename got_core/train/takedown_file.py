"""The file that says which samples a stage was trained without, and from which step on.

    models/STAGE/KEY/taken_down.json   {"manifest_hash", "rows": [{"id", "sample_id", "from_step"}, ...]}

Belongs here: its name and rows (no torch here). Not here: when a row is left out (``takedowns``).
"""

from __future__ import annotations

from typing import Any

from got_core.storage import Storage

FILE = "taken_down.json"

Row = dict[str, Any]
"""``id`` of the image, pair or chain on the list, ``sample_id``, and ``from_step``: steps by their number,
from 0, below it may have learned from the sample, others have not."""


def read_taken_down(storage: Storage, folder: str) -> list[Row]:
    """The rows of a stage's folder; none where nothing was taken down."""
    return storage.read_json(f"{folder}/{FILE}")["rows"] if storage.exists(f"{folder}/{FILE}") else []


def write_taken_down(storage: Storage, folder: str, manifest_hash: str, rows: list[Row]) -> None:
    """Write or replace them."""
    storage.write_json(f"{folder}/{FILE}", {"manifest_hash": manifest_hash, "rows": rows})
