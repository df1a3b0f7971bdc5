"""Pictures that people look at: grids, boxes drawn on, thumbnails. No benchmark and no training here."""

SHOWN = "shown"
"""Folder of the storage with pictures and texts that Dagster's pages link to, by asset and shard."""
