"""Partitions of the data part of the graph: shards of images or of edit pairs, never single images."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from sqlalchemy.exc import IntegrityError

IMAGE_SHARDS = dg.DynamicPartitionsDefinition(name="image_shards")
EDIT_SHARDS = dg.DynamicPartitionsDefinition(name="edit_shards")

_TRIES = 5


def add_partitions(instance: dg.DagsterInstance, name: str, keys: Sequence[str]) -> None:
    """Add those that are not there yet to dynamic partitions, also where another process adds the same."""
    for tries_left in reversed(range(_TRIES)):
        known = set(instance.get_dynamic_partitions(name))
        new = [key for key in keys if key not in known]
        if not new:
            return
        try:
            instance.add_dynamic_partitions(name, new)
        except IntegrityError:  # Dagster looks which are there, then inserts: another one came in between
            if not tries_left:
                raise
