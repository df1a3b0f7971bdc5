"""Blocking checks of ingestion: a shard of mostly unreadable files goes no further."""

from __future__ import annotations

from got_assets.checks import shard_check
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.project import PROJECT

_LIMIT = PROJECT.recipe.ingest.max_error_share

raw_images_check = shard_check(raw_images, IMAGE_SHARDS, _LIMIT)
edit_pairs_check = shard_check(edit_pairs, EDIT_SHARDS, _LIMIT)
