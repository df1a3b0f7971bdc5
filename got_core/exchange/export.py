"""Our chains in the form of the released data sets.

What is written here, `importer` reads with `OUR_T2I` and `OUR_EDITS` back to the same rows. Belongs here:
tables to records. Not here: which rows (`curate`), boxes in pixels (`coco`), files (`export_parts`).
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from got_core.annotate.rows import with_origin
from got_core.chain.grammar import parse
from got_core.corpus.members import shown_column
from got_core.exchange.config import OUR_EDITS, OUR_T2I, AnyMapping, EditMapping, T2IMapping
from got_core.exchange.placeholders import extract_boxes

FORMATS = (".jsonl", ".json", ".parquet")


def released_t2i(chains: pl.DataFrame, raw: pl.DataFrame, mapping: T2IMapping = OUR_T2I) -> pl.DataFrame:
    """Text-to-image chains (T2I_CHAINS, good rows) as records with the mapping's columns.

    Raises ValueError where an image is not in `raw` (RAW_IMAGES).
    """
    good = _good(chains)
    known = raw.filter(pl.col("image_id").is_not_null())
    table = with_origin(good, known, "image_id", "path")
    path = shown_column(pl.col("path"))
    image = {
        "image_id": pl.col("image_id"),
        "path": path,
        "name": path.str.split("/").list.last(),
        "stem": path.str.split("/").list.last().str.replace(r"\.[^.]*$", ""),
    }[mapping.image_is]
    columns = {mapping.image: image, mapping.prompt: pl.col("prompt"), **_also(mapping, "caption", "phrases")}
    return _with_chain(table, mapping).select(**columns, **_chain_columns(mapping), **_origin(mapping))


def released_edits(
    chains: pl.DataFrame, pairs: pl.DataFrame, mapping: EditMapping = OUR_EDITS
) -> pl.DataFrame:
    """Edit chains (EDIT_CHAINS, good rows) as records: pair id, chain with placeholders, coordinates.

    Raises ValueError where a pair is not in `pairs` (EDIT_PAIRS).
    """
    table = with_origin(_good(chains), pairs, "pair_id")
    columns = {mapping.pair: pl.col("pair_id"), **_also(mapping, "instruction", "instructions")}
    return _with_chain(table, mapping).select(**columns, **_chain_columns(mapping), **_origin(mapping))


def _good(chains: pl.DataFrame) -> pl.DataFrame:
    return chains.filter(pl.col("error").is_null() & pl.col("chain").is_not_null())


def _with_chain(table: pl.DataFrame, mapping: AnyMapping) -> pl.DataFrame:
    """The table with `_text` and `_coordinates`: chain and boxes as the mapping wants them."""
    if mapping.coordinates is None:
        return table.with_columns(_text="chain", _coordinates=pl.lit(None, pl.String))
    taken = [extract_boxes(parse(chain, "data")) for chain in table["chain"]]
    return table.with_columns(
        _text=pl.Series([text for text, _ in taken], dtype=pl.String),
        _coordinates=pl.Series([json.dumps(boxes) for _, boxes in taken], dtype=pl.String),
    )


def _chain_columns(mapping: AnyMapping) -> dict[str, pl.Expr]:
    columns = {mapping.chain: pl.col("_text")}
    return columns | ({mapping.coordinates: pl.col("_coordinates")} if mapping.coordinates else {})


def _also(mapping: Any, *names: str) -> dict[str, pl.Expr]:
    """Columns that the mapping names, by our own names."""
    return {getattr(mapping, name): pl.col(name) for name in names if getattr(mapping, name)}


def _origin(mapping: AnyMapping) -> dict[str, pl.Expr]:
    return _also(mapping, "chain_id", "source", "licence")
