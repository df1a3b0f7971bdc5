"""The two lines of shards that are watched.

Belongs here: naming them for `got_assets.line`. Not here: their steps (`ingest.jobs`).
"""

from __future__ import annotations

from got_assets.defs.ingest.jobs import EDIT_STEPS, IMAGE_STEPS
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.line.state import DataLine

LINES = (
    DataLine(kind="images", steps=IMAGE_STEPS, partitions=str(IMAGE_SHARDS.name)),
    DataLine(kind="edits", steps=EDIT_STEPS, partitions=str(EDIT_SHARDS.name)),
)
