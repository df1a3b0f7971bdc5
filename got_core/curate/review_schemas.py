"""Columns of the tables of review and statistics: type and one line each. Polars only."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import TIME, Columns

FOLDER = "reviews"
"""Where the verdicts are in the storage."""

QUEUE: Columns = {
    "chain_id": (pl.String(), "id of the chain"),
    "kind": (pl.String(), "t2i or edit"),
    "shard": (pl.String(), "shard of the row"),
    "item_id": (pl.String(), "image_id or pair_id"),
    "prompt": (pl.String(), "concise prompt, or the instruction"),
    "chain": (pl.String(), "reasoning chain in data form"),
    "accepted": (pl.Boolean(), "what the rules say"),
    "rule": (pl.String(), "first rule that rejected it; null = accepted"),
    "detail": (pl.String(), "what the rule saw; null = accepted"),
}

VERDICTS: Columns = {
    "chain_id": (pl.String(), "id of the chain"),
    "kind": (pl.String(), "t2i or edit"),
    "verdict": (pl.String(), "accept, reject or correct"),
    "before": (pl.String(), "SHA-256 of the chain that was looked at; null = not told"),
    "chain": (pl.String(), "corrected chain in data form; null unless it is corrected"),
    "note": (pl.String(), "why; null = not said"),
    "reviewer": (pl.String(), "who"),
    "time": (TIME, "when"),
    "error": (pl.String(), "why the verdict is not used (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}

STATISTICS: Columns = {
    "kind": (pl.String(), "t2i or edit"),
    "source": (pl.String(), "where the images come from; all = every source together"),
    "quantity": (pl.String(), "what is counted: prompt_chars, chain_chars, boxes"),
    "rows": (pl.Int64(), "number of rows"),
    "mean": (pl.Float64(), "arithmetic mean"),
    "low": (pl.Float64(), "5th percentile"),
    "median": (pl.Float64(), "median"),
    "high": (pl.Float64(), "95th percentile"),
    "published_low": (pl.Float64(), "lowest published average; null = not known"),
    "published_high": (pl.Float64(), "highest published average; null = not known"),
    "published": (pl.String(), "the published averages in words"),
}
