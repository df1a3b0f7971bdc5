"""The training manifest: the explicit list of samples that training reads."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.schemas import MANIFEST

ShardTables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
"""Selection, chains, and the ingested table (RAW_IMAGES or EDIT_PAIRS) of one shard."""


def build_manifest(t2i: Mapping[str, ShardTables], edits: Mapping[str, ShardTables]) -> pl.DataFrame:
    """MANIFEST of the accepted chains of all given shards, sorted by sample_id.

    An image or pair that several shards hold appears once, from the first shard by name. Raises ValueError
    naming the shard where an accepted chain is missing from its tables.
    """
    frames = [_t2i_rows(shard, *t2i[shard]) for shard in sorted(t2i)]
    images = _stacked(frames).unique("image_id", keep="first", maintain_order=True)
    frames = [_edit_rows(shard, *edits[shard]) for shard in sorted(edits)]
    pairs = _stacked(frames).unique("pair_id", keep="first", maintain_order=True)
    return pl.concat([images, pairs]).sort("sample_id")


def _t2i_rows(shard: str, selection: pl.DataFrame, chains: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    rows = _accepted(shard, selection, chains)
    images = raw.filter(pl.col("error").is_null()).select("image_id", "path", "source", "licence")
    rows = _matched(shard, rows, images, "image_id")
    return rows.select(
        sample_id="chain_id",
        kind=pl.lit("t2i"),
        shard=pl.lit(shard),
        target_path="path",
        source_path=pl.lit(None, pl.String),
        prompt="prompt",
        instructions=pl.concat_list("prompt"),
        chain="chain",
        image_id="image_id",
        pair_id=pl.lit(None, pl.String),
        source="source",
        licence="licence",
    )


def _edit_rows(
    shard: str, selection: pl.DataFrame, chains: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    rows = _accepted(shard, selection, chains)
    wanted = ("pair_id", "source_path", "target_path", "target_id", "source", "licence")
    rows = _matched(shard, rows, pairs.filter(pl.col("error").is_null()).select(wanted), "pair_id")
    return rows.select(
        sample_id="chain_id",
        kind=pl.lit("edit"),
        shard=pl.lit(shard),
        target_path="target_path",
        source_path="source_path",
        prompt="instruction",
        instructions="instructions",
        chain="chain",
        image_id="target_id",
        pair_id="pair_id",
        source="source",
        licence="licence",
    )


def _accepted(shard: str, selection: pl.DataFrame, chains: pl.DataFrame) -> pl.DataFrame:
    chosen = selection.filter(pl.col("accepted")).select("chain_id")
    return _matched(shard, chosen, chains, "chain_id")


def _matched(shard: str, rows: pl.DataFrame, table: pl.DataFrame, key: str) -> pl.DataFrame:
    """Rows with the columns of `table`; every row must be in it."""
    missing = rows.join(table, on=key, how="anti")
    if missing.height:
        raise ValueError(
            f"shard {shard}: {missing.height} accepted rows have no {key} in the tables of the shard, "
            f"the first is {missing[key][0]!r}; materialize the shard's selection again"
        )
    return rows.join(
        table.unique(key, keep="first", maintain_order=True), on=key, how="left", maintain_order="left"
    )


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    schema = polars_schema(MANIFEST)
    return pl.concat([pl.DataFrame(schema=schema), *(frame.cast(schema) for frame in frames)])  # type: ignore[arg-type]
