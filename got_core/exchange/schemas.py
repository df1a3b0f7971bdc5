"""Columns of what an import gives: type and one line each."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import Columns

REFUSED: Columns = {
    "file": (pl.String(), "file that the record stands in"),
    "row": (pl.Int64(), "its line, or its place in the list or table, from 1"),
    "key": (pl.String(), "what it calls its image or pair; null = it names none"),
    "error": (pl.String(), "why it is quarantined (reason: detail)"),
    "reason": (pl.String(), "the short reason alone"),
    "record": (pl.String(), "the record as it was"),
}

PAIRS: Columns = {
    "key": (pl.String(), "id of the pair in the local copy"),
    "pair_id": (pl.String(), "id of the edit pair, as in EDIT_PAIRS"),
    "source_path": (pl.String(), "source image, relative to the pair table's folder"),
    "target_path": (pl.String(), "target image, relative to the pair table's folder"),
    "instruction": (pl.String(), "the instruction as given"),
    "instructions": (pl.List(pl.String()), "the instruction as given, then its other wordings"),
    "source": (pl.String(), "where the pair comes from"),
    "licence": (pl.String(), "licence of the pair; null = not stated"),
}

KEYS: Columns = {
    "key": (pl.String(), "what a released record calls the image or pair"),
    "item_id": (pl.String(), "image_id or pair_id; null = several answer to the key"),
    "instruction": (pl.String(), "the pair's instruction; null for images"),
    "instructions": (pl.List(pl.String()), "the pair's wordings; null for images"),
    "source": (pl.String(), "where it comes from"),
    "licence": (pl.String(), "licence; null = not stated"),
    "fault": (pl.String(), "why ingestion quarantined it; null = fine"),
}
