"""Partitions of the data part of the graph: shards of images or of edit pairs, never single images."""

from __future__ import annotations

import dagster as dg

IMAGE_SHARDS = dg.DynamicPartitionsDefinition(name="image_shards")
EDIT_SHARDS = dg.DynamicPartitionsDefinition(name="edit_shards")
