"""A batch of chains with its boxes and phrases flattened to columns.

Belongs here: the views of a batch that several rules share, each made once. Not here: what is wrong with a
row (`row_rules`). Work on lists inside rows is what makes filtering slow; on flat columns it is not.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import polars as pl

BATCH_ROWS = 1 << 15
"""Rows judged at once: bounds the memory of the flattened columns."""

CORNERS = ("x1", "y1", "x2", "y2")
_BOX = r"\([0-9]+,[0-9]+\),\([0-9]+,[0-9]+\)"
_WORD = r"\p{L}{3,}"
_PLURAL = r"(?:ies|es|s)$"

_FILLER = (
    "and are for from has have into its near next onto over that the their them there this under with "
    "left right above below behind front side top bottom between image photo photograph picture painting "
    "drawing illustration scene shot view "
    "add remove delete erase replace change make turn put place insert swap convert move recolour recolor "
    "colour color instead"
)
FILLER = frozenset(_FILLER.split())
"""Words of a prompt or instruction that name nothing which a chain must hold."""


class Batch:
    """Rows of a chain table; every view has the column `row`, the number of the row in the batch.

    The table needs the columns chain_id, item_id, error, chain, prompt, text; caption, phrases, width,
    height, phash, text_share and unsafe where a rule looks at them. `benchmark`: BENCHMARK.
    """

    def __init__(self, table: pl.DataFrame, benchmark: pl.DataFrame | None = None) -> None:
        self.table = table.with_row_index("row")
        self.benchmark = benchmark

    @cached_property
    def _spelled(self) -> pl.DataFrame:
        return self.table.select("row", box=pl.col("chain").str.extract_all(_BOX))

    @cached_property
    def counts(self) -> pl.DataFrame:
        """row, boxes: how many boxes the chain has; null without a chain."""
        return self._spelled.select("row", boxes=pl.col("box").list.len().cast(pl.Int64))

    @cached_property
    def boxes(self) -> pl.DataFrame:
        """One row a box: row, box (as written), x1, y1, x2, y2 (Int64; null where far too large)."""
        corners = pl.col("box").str.strip_chars("()").str.replace("),(", ",", literal=True)
        flat = self._spelled.explode("box").drop_nulls("box")
        split = flat.with_columns(corners.str.split_exact(",", 3).alias("corners")).unnest("corners")
        numbers = (
            pl.col(f"field_{k}").cast(pl.Int64, strict=False).alias(name) for k, name in enumerate(CORNERS)
        )
        return split.select("row", "box", *numbers)

    @cached_property
    def sized_boxes(self) -> pl.DataFrame:
        """`boxes` with the share of the image (0..1) and the aspect in pixels (null without area)."""
        sizes = self.table.select("row", "width", "height")
        across = (pl.col("x2") - pl.col("x1")).cast(pl.Float64)
        down = (pl.col("y2") - pl.col("y1")).cast(pl.Float64)
        # Without the picture's size its sides count as equal.
        known = pl.col("width").is_not_null() & pl.col("height").is_not_null()
        wide = across * pl.when(known).then(pl.col("width")).otherwise(1)
        high = down * pl.when(known).then(pl.col("height")).otherwise(1)
        longer, shorter = pl.max_horizontal(wide, high), pl.min_horizontal(wide, high)
        joined = self.boxes.join(sizes, on="row", how="left", maintain_order="left")
        return joined.with_columns(
            share=across * down / 1e6, aspect=pl.when(shorter > 0).then(longer / shorter)
        )

    @cached_property
    def phrases(self) -> pl.DataFrame:
        """One row a phrase that has a box: row, phrase, padded (the caption between two blanks)."""
        padded = pl.lit(" ") + pl.col("caption").fill_null("") + pl.lit(" ")
        flat = self.table.select("row", padded.alias("padded"), phrase="phrases").explode("phrase")
        return flat.filter(pl.col("phrase") != "")

    @cached_property
    def prompt_words(self) -> pl.DataFrame:
        """One row a content word of the prompt: row, word (lower case, without a plural ending), padded (the
        chain in lower case between two blanks)."""
        lower = self.table.select(
            "row",
            padded=pl.lit(" ") + pl.col("chain").str.to_lowercase() + pl.lit(" "),
            word=pl.col("prompt").str.to_lowercase().str.extract_all(_WORD),
        )
        flat = lower.explode("word").drop_nulls()
        flat = flat.filter(~pl.col("word").is_in(list(FILLER)))
        long = pl.col("word").str.len_chars() > 3
        stem = pl.when(long).then(pl.col("word").str.replace(_PLURAL, "")).otherwise(pl.col("word"))
        return flat.with_columns(word=stem).unique(["row", "word"], maintain_order=True)


def mentions(frame: pl.DataFrame, word: str, *, whole: bool) -> pl.Series:
    """Whether the text of each row (column `padded`) holds its word where a word begins.

    `whole`: and where one ends; "cat" is not in "a category". The frequent cases take two plain
    searches; only a word beside punctuation, or inside a longer one, is searched by itself.
    """
    end = pl.lit(" " if whole else "")
    marks = frame.select(
        held=pl.col("padded").str.contains(pl.col(word), literal=True),
        sure=pl.col("padded").str.contains(pl.lit(" ") + pl.col(word) + end, literal=True),
    )
    unsure = (marks["held"] & ~marks["sure"]).arg_true()
    found = np.array(marks["sure"].to_numpy(), dtype=bool)
    rows = frame[unsure].select("padded", word).iter_rows()
    found[unsure.to_numpy()] = [_has_word(text, sought, whole) for text, sought in rows]
    return pl.Series("mentioned", found, dtype=pl.Boolean)


def _has_word(text: str, sought: str, whole: bool) -> bool:
    at = text.find(sought)
    while at >= 0:
        end = at + len(sought)
        if not text[at - 1 : at].isalnum() and not (whole and text[end : end + 1].isalnum()):
            return True
        at = text.find(sought, at + 1)
    return False
