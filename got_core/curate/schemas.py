"""Columns of the curation tables: type and one line each."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import Columns

SELECTION: Columns = {
    "chain_id": (pl.String(), "id of the chain; null where annotation failed before there was one"),
    "item_id": (pl.String(), "image_id or pair_id"),
    "accepted": (pl.Boolean(), "whether the chain is trained on"),
    "rule": (pl.String(), "first rule that rejected it; null = accepted"),
    "detail": (pl.String(), "what the rule saw; null = accepted"),
}

MANIFEST: Columns = {
    "sample_id": (pl.String(), "chain_id; the table is sorted by it"),
    "kind": (pl.String(), "t2i or edit"),
    "shard": (pl.String(), "shard that the sample comes from"),
    "target_path": (
        pl.String(),
        "image to draw, relative to the raw folder (t2i) or the pair table's folder (edit)",
    ),
    "source_path": (pl.String(), "image to edit, relative to the pair table's folder; null for t2i"),
    "prompt": (pl.String(), "concise prompt, or the instruction"),
    "instructions": (pl.List(pl.String()), "the prompt and its other wordings"),
    "chain": (pl.String(), "reasoning chain in data form"),
    "image_id": (pl.String(), "SHA-256 of the target image's bytes"),
    "pair_id": (pl.String(), "id of the edit pair; null for t2i"),
    "source": (pl.String(), "where the images come from"),
    "licence": (pl.String(), "licence of the images; null = not stated"),
}
