"""Filter rules, and the selection that they give.

Each rule is a function from the configuration to two polars expressions: which rows it rejects, and what it
saw. Rules are asked in a fixed order; a rejected row names the first one.

Belongs here: rules on single rows of a shard. Not here: the verdict on a whole shard (`verdict`), what is
trained on across shards (`manifest`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.config import CurateConfig
from got_core.curate.schemas import SELECTION

_BOX = r"\([0-9]+,[0-9]+\),\([0-9]+,[0-9]+\)"
_CORNER = r"\(([0-9]+),([0-9]+)\),\(([0-9]+),([0-9]+)\)"


class Rule(NamedTuple):
    """A rule's name, the rows it rejects (boolean), and what it saw (string)."""

    name: str
    rejects: pl.Expr
    detail: pl.Expr


RuleMaker = Callable[[CurateConfig], Rule]


def failed_annotation(config: CurateConfig) -> Rule:
    """The chain could not be written: the annotation step says why."""
    return Rule(
        "failed_annotation", pl.col("error").is_not_null() | pl.col("chain").is_null(), pl.col("error")
    )


def no_box(config: CurateConfig) -> Rule:
    """A chain that places nothing."""
    return Rule("no_box", _boxes().list.len() == 0, pl.lit("no box in the chain"))


def too_many_boxes(config: CurateConfig) -> Rule:
    """More boxes than the limit."""
    count = _boxes().list.len()
    said = pl.format("{} boxes, limit {}", count, pl.lit(config.max_boxes))
    return Rule("too_many_boxes", count > config.max_boxes, said)


def box_degenerate(config: CurateConfig) -> Rule:
    """A box with a coordinate out of range, or a side (either way round) shorter than the limit."""
    x1, y1, x2, y2 = (pl.element().str.extract(_CORNER, k).cast(pl.Int64, strict=False) for k in range(1, 5))
    short = pl.min_horizontal(x2 - x1, y2 - y1) < config.min_box_side
    wrong = (
        short | (pl.max_horizontal(x2, y2) > 999) | pl.any_horizontal(c.is_null() for c in (x1, y1, x2, y2))
    )
    bad = _boxes().list.eval(pl.element().filter(wrong))
    said = pl.format(
        "box {}: need sides of {} or more within 0..999", bad.list.first(), pl.lit(config.min_box_side)
    )
    return Rule("box_degenerate", bad.list.len() > 0, said)


def duplicate_boxes(config: CurateConfig) -> Rule:
    """Two names with the very same box: one of them was grounded wrongly."""
    boxes = _boxes()
    repeated = boxes.list.eval(pl.element().filter(pl.element().is_duplicated()))
    said = pl.format("box {} more than once", repeated.list.first())
    return Rule("duplicate_boxes", repeated.list.len() > 0, said)


def phrase_not_in_caption(config: CurateConfig) -> Rule:
    """A name with a box that the caption does not hold in that wording."""
    # A list expression sees no other column, so the caption rides along as the list's last element.
    missing = pl.concat_list("phrases", pl.concat_list("caption")).list.eval(
        pl.element()
        .head(pl.len() - 1)
        .filter(~pl.element().last().str.contains(pl.element().head(pl.len() - 1), literal=True))
    )
    return Rule(
        "phrase_not_in_caption",
        missing.list.len() > 0,
        pl.format("{} is not in the caption", missing.list.first()),
    )


def chain_too_long(config: CurateConfig) -> Rule:
    """A chain longer than the limit."""
    length = pl.col("chain").str.len_chars()
    said = pl.format("{} characters, limit {}", length, pl.lit(config.max_chain_chars))
    return Rule("chain_too_long", length > config.max_chain_chars, said)


def near_duplicate(config: CurateConfig) -> Rule:
    """The image nearly repeats another one of its shard (off unless the recipe asks for it)."""
    other = pl.col("near_duplicate_of")
    return Rule(
        "near_duplicate",
        other.is_not_null() & config.drop_near_duplicates,
        pl.format("nearly repeats {}", other),
    )


T2I_RULES: tuple[RuleMaker, ...] = (
    failed_annotation,
    no_box,
    box_degenerate,
    too_many_boxes,
    duplicate_boxes,
    phrase_not_in_caption,
    chain_too_long,
    near_duplicate,
)
EDIT_RULES: tuple[RuleMaker, ...] = (
    failed_annotation,
    no_box,
    box_degenerate,
    too_many_boxes,
    chain_too_long,
)


def select_t2i(chains: pl.DataFrame, raw: pl.DataFrame, config: CurateConfig) -> pl.DataFrame:
    """SELECTION of a shard's text-to-image chains: one row a chain, in the chains' order."""
    near = raw.select("image_id", "near_duplicate_of").filter(pl.col("image_id").is_not_null())
    near = near.unique("image_id", keep="first")
    table = chains.join(near, on="image_id", how="left", maintain_order="left")
    return _select(table, "image_id", T2I_RULES, config)


def select_edits(chains: pl.DataFrame, pairs: pl.DataFrame, config: CurateConfig) -> pl.DataFrame:
    """SELECTION of a shard's edit chains: one row a chain, in the chains' order."""
    unknown = chains.join(pairs, on="pair_id", how="anti")
    if unknown.height:
        raise ValueError(
            f"{unknown.height} edit chains have no edit pair, the first is {unknown['pair_id'][0]!r}"
        )
    return _select(chains, "pair_id", EDIT_RULES, config)


def rule_counts(selection: pl.DataFrame) -> dict[str, int]:
    """How many rows each rule rejected, the most first; rules that rejected nothing are left out."""
    counts = (
        selection.drop_nulls("rule").group_by("rule").len().sort(["len", "rule"], descending=[True, False])
    )
    return dict(counts.iter_rows())


def _boxes() -> pl.Expr:
    """The chain's boxes as texts."""
    return pl.col("chain").str.extract_all(_BOX)


def _select(
    table: pl.DataFrame, item: str, makers: Sequence[RuleMaker], config: CurateConfig
) -> pl.DataFrame:
    rules = [make(config) for make in makers]
    # A rule that has nothing to look at (null) does not reject: the rule that comes first names the fault.
    rejected = [rule.rejects.fill_null(False) for rule in rules]
    name = pl.coalesce(
        *(pl.when(hit).then(pl.lit(rule.name)) for hit, rule in zip(rejected, rules, strict=True)),
        pl.lit(None),
    )
    detail = pl.coalesce(
        *(
            pl.when(hit).then(pl.coalesce(rule.detail, pl.lit(rule.name)))
            for hit, rule in zip(rejected, rules, strict=True)
        ),
        pl.lit(None),
    )
    judged = table.select(
        "chain_id", pl.col(item).alias("item_id"), name.alias("rule"), detail.alias("detail")
    )
    judged = judged.with_columns(accepted=pl.col("rule").is_null())
    return judged.select(list(SELECTION)).cast(polars_schema(SELECTION))  # type: ignore[arg-type]
