"""The rules on single rows.

Each rule is a function from a batch of chains and the configuration to the rows that it rejects, with the
reason. Rules are applied in a fixed order; a rejected row names the first one.

Belongs here: rules on single rows of a shard. Not here: the verdict on a whole shard (`verdict`), duplicates
and what is trained on across shards (`manifest`), applying rules to tables (`rules`), measuring pictures
(`signals`).
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from got_core.corpus.duplicates import hash_bits
from got_core.corpus.hamming import nearest
from got_core.curate.batch import CORNERS, Batch, mentions
from got_core.curate.config import CurateConfig
from got_core.curate.languages import foreign

Rule = Callable[[Batch, CurateConfig], pl.DataFrame]
"""Rejected rows: `row` (each once) and `detail` (why)."""


def failed_annotation(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """The chain could not be written: the annotation step says why."""
    failed = pl.col("error").is_not_null() | pl.col("chain").is_null()
    return _hits(batch.table, failed, pl.coalesce("error", pl.lit("failed_annotation")))


def no_box(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A chain that places nothing."""
    return _hits(batch.counts, pl.col("boxes") == 0, pl.lit("no box in the chain"))


def too_few_boxes(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """Fewer boxes than the limit."""
    detail = pl.format("{} boxes, at least {}", "boxes", pl.lit(config.min_boxes))
    return _hits(batch.counts, pl.col("boxes") < config.min_boxes, detail)


def too_many_boxes(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """More boxes than the limit."""
    detail = pl.format("{} boxes, limit {}", "boxes", pl.lit(config.max_boxes))
    return _hits(batch.counts, pl.col("boxes") > config.max_boxes, detail)


def box_degenerate(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A box with a coordinate out of range, or a side (either way round) shorter than the limit."""
    short = pl.min_horizontal(pl.col("x2") - pl.col("x1"), pl.col("y2") - pl.col("y1")) < config.min_box_side
    outside = pl.max_horizontal("x2", "y2") > 999
    unreadable = pl.any_horizontal(pl.col(name).is_null() for name in CORNERS)
    side = pl.lit(config.min_box_side)
    detail = pl.format("box {}: need sides of {} or more within 0..999", "box", side)
    return _hits(batch.boxes, short | outside | unreadable, detail)


def duplicate_boxes(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """Two names with the very same box: one of them was grounded wrongly."""
    # A number for row and box: ten bits a coordinate. One column is compared far faster than five.
    place = pl.col("row").cast(pl.Int64)
    for name in CORNERS:
        place = place * 1024 + pl.when(pl.col(name) < 1024).then(pl.col(name))
    boxes = batch.boxes.with_columns(place=place).drop_nulls("place")
    return _hits(boxes, pl.col("place").is_duplicated(), pl.format("box {} more than once", "box"))


def box_area(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A box that covers too little or too much of the image."""
    low, high = config.min_box_area, config.max_box_area
    share = (100 * pl.col("share")).round(3)
    limits = pl.lit(f"limits {100 * low:g} % to {100 * high:g} %")
    detail = pl.format("box {} covers {} % of the image, {}", "box", share, limits)
    return _hits(batch.sized_boxes, (pl.col("share") < low) | (pl.col("share") > high), detail)


def box_aspect(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A box that is a mere line."""
    detail = pl.format("box {} is 1 to {}", "box", pl.col("aspect").round(1))
    return _hits(batch.sized_boxes, pl.col("aspect") > config.max_box_aspect, detail)


def phrase_not_in_caption(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A name with a box that the caption does not hold in that wording, as whole words."""
    if "phrases" not in batch.table.columns:
        return _no_hits()
    missing = batch.phrases.filter(~mentions(batch.phrases, "phrase", whole=True))
    return _hits(missing, pl.lit(True), pl.format("{} is not in the caption", "phrase"))


def chain_too_long(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A chain longer than the limit."""
    length = pl.col("chain").str.len_chars()
    detail = pl.format("{} characters, limit {}", length, pl.lit(config.max_chain_chars))
    return _hits(batch.table, length > config.max_chain_chars, detail)


def chain_too_short(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """A chain too short to describe anything."""
    length = pl.col("chain").str.len_chars()
    detail = pl.format("{} characters, at least {}", length, pl.lit(config.min_chain_chars))
    return _hits(batch.table, length < config.min_chain_chars, detail)


def language(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """Prompt and text are in none of the chosen languages."""
    found = foreign(batch.table["text"], config.languages)
    return pl.DataFrame(found, schema=_HIT, orient="row")


def prompt_disagrees(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """The chain speaks of other things than the prompt: too few of its content words are in the chain."""
    words = batch.prompt_words
    words = words.with_columns(mentions(words, "word", whole=False))
    missing = pl.col("word").filter(~pl.col("mentioned")).first()
    shares = words.group_by("row").agg(
        pl.len().alias("words"), pl.col("mentioned").sum().alias("held"), missing.alias("missing")
    )
    detail = pl.format("{} of the prompt's {} words are in the chain, not {}", "held", "words", "missing")
    return _hits(shares, pl.col("held") < config.min_agreement * pl.col("words"), detail)


def text_in_image(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """Too much of the picture is text, such as a watermark or a page."""
    return _measured(batch, "text_share", config.max_text_share, "text covers {} % of the image, limit {} %")


def unsafe_content(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """The classifier holds the picture for unsafe."""
    return _measured(batch, "unsafe", config.max_unsafe, "unsafe with a score of {} %, limit {} %")


def contaminated(batch: Batch, config: CurateConfig) -> pl.DataFrame:
    """The picture, or one of a pair's, nearly equals one of a benchmark."""
    benchmark = batch.benchmark
    columns = [name for name in ("phash", "source_phash", "target_phash") if name in batch.table.columns]
    if benchmark is None or not columns:
        return _no_hits()
    known = pl.concat(batch.table.select("row", phash=name).drop_nulls() for name in columns)
    hashes, others = (hash_bits(frame["phash"].to_list()) for frame in (known, benchmark))
    found = nearest(hashes, others, config.contamination_distance)
    rows = known.with_columns(found=pl.Series(found)).filter(pl.col("found") >= 0)
    names = benchmark["name"].gather(rows["found"])
    return _hits(rows.with_columns(names.alias("name")), pl.lit(True), pl.format("nearly equals {}", "name"))


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        failed_annotation,
        no_box,
        box_degenerate,
        too_few_boxes,
        too_many_boxes,
        duplicate_boxes,
        box_area,
        box_aspect,
        phrase_not_in_caption,
        chain_too_long,
        chain_too_short,
        language,
        prompt_disagrees,
        text_in_image,
        unsafe_content,
        contaminated,
    )
}
"""In the order in which they are applied."""

_HIT = {"row": pl.UInt32(), "detail": pl.String()}


def _hits(frame: pl.DataFrame, wrong: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    """The rows of `frame` that are wrong (null is not), each once, with the first reason."""
    found = frame.filter(wrong).unique("row", keep="first", maintain_order=True)
    return found.select("row", detail.cast(pl.String).alias("detail"))


def _no_hits() -> pl.DataFrame:
    return pl.DataFrame(schema=_HIT)


def _measured(batch: Batch, column: str, limit: float, text: str) -> pl.DataFrame:
    """Rows whose picture measures more than the limit, and those whose picture could not be measured."""
    if column not in batch.table.columns:
        return _no_hits()
    value = pl.col(column)
    detail = pl.format(text, (100 * value).round(1), pl.lit(f"{100 * limit:g}"))
    unknown = pl.lit("the picture could not be measured")
    wrong = value.is_null() | (value > limit)
    return _hits(batch.table, wrong, pl.when(value.is_null()).then(unknown).otherwise(detail))
