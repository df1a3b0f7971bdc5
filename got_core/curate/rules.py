"""Applying the rules of a recipe to tables of chains: selections, verdicts, counts and examples.

Belongs here: one row a chain, accepted or with the first rule against it, at any size of table. Not here:
the rules (`row_rules`), and what is trained on across shards (`manifest`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import polars as pl

from got_core.annotate.schemas import ORIGIN
from got_core.corpus.schemas import polars_schema
from got_core.curate.batch import BATCH_ROWS, Batch
from got_core.curate.config import CurateConfig
from got_core.curate.row_rules import RULES
from got_core.curate.schemas import EXAMPLES, HITS, SELECTION

Kind = Literal["t2i", "edit"]

KEYS: dict[Kind, str] = {"t2i": "image_id", "edit": "pair_id"}
PICTURE_COLUMNS = ("width", "height", "phash", "source_phash", "target_phash", *ORIGIN)
"""What rules and selections take of an image or a pair, where its table holds it."""
_PAIR_IMAGES = ("source_id", "target_id")
_SIGNALS = ("text_share", "unsafe")
_MAX_PARALLEL = 2
"""Batches judged at the same time; each is in memory."""
_NEEDS_SIGNALS = {"text_in_image": "text_share", "unsafe_content": "unsafe"}
_ONLY_T2I = {
    "duplicate_boxes": "the steps of an edit may share their area",
    "phrase_not_in_caption": "an edit has no caption",
}


def select_t2i(
    chains: pl.DataFrame,
    raw: pl.DataFrame,
    config: CurateConfig,
    *,
    signals: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """SELECTION of a shard's text-to-image chains: one row a chain, in the chains' order.

    `signals` (IMAGE_SIGNALS) and `benchmark` (BENCHMARK) are needed by the rules that use them. Raises
    ValueError, naming the rule, where one is missing.
    """
    return _joined(
        selections(chains.iter_slices(BATCH_ROWS), raw, config, signals=signals, benchmark=benchmark)
    )


def select_edits(
    chains: pl.DataFrame,
    pairs: pl.DataFrame,
    config: CurateConfig,
    *,
    signals: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """SELECTION of a shard's edit chains: one row a chain, in the chains' order.

    Rules on pictures look at both pictures of a pair. Raises as `select_t2i`, and ValueError where a chain
    has no pair.
    """
    batches = chains.iter_slices(BATCH_ROWS)
    return _joined(selections(batches, pairs, config, kind="edit", signals=signals, benchmark=benchmark))


def selections(
    batches: Iterable[pl.DataFrame],
    pictures: pl.DataFrame,
    config: CurateConfig,
    *,
    kind: Kind = "t2i",
    signals: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> Iterator[pl.DataFrame]:
    """SELECTION of each batch of a chain table that need not fit into memory.

    `pictures`: RAW_IMAGES or EDIT_PAIRS of all of them. Raises as `select_t2i` and `select_edits`.
    """
    _check_inputs(config, kind, signals, benchmark)
    known = _pictures(pictures, signals, kind)

    def judged(frame: pl.DataFrame) -> pl.DataFrame:
        batch = Batch(_prepared(frame, known, kind), benchmark)
        first = _hits(batch, config, kind).unique("row", keep="first", maintain_order=True)
        rows = batch.table.select("row", "chain_id", "item_id", *ORIGIN)
        rows = rows.join(first, on="row", how="left", maintain_order="left")
        rows = rows.with_columns(accepted=pl.col("rule").is_null())
        return rows.select(list(SELECTION)).cast(polars_schema(SELECTION))  # type: ignore[arg-type]

    yield from _side_by_side(judged, batches)


def all_hits(
    chains: pl.DataFrame,
    pictures: pl.DataFrame,
    config: CurateConfig,
    *,
    kind: Kind = "t2i",
    signals: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """HITS: every rule against every row, not only the first; to review single rows."""
    _check_inputs(config, kind, signals, benchmark)
    batch = Batch(_prepared(chains, _pictures(pictures, signals, kind), kind), benchmark)
    found = _hits(batch, config, kind).join(
        batch.table.select("row", "chain_id", "item_id"), on="row", how="left", maintain_order="left"
    )
    return found.sort("row", maintain_order=True).select(list(HITS)).cast(polars_schema(HITS))  # type: ignore[arg-type]


def active_rules(config: CurateConfig, kind: Kind = "t2i") -> list[str]:
    """The recipe's rules on rows, in the order in which they are applied."""
    return [name for name in RULES if config.uses(name) and (kind == "t2i" or name not in _ONLY_T2I)]


def rules_left_out(config: CurateConfig, kind: Kind) -> dict[str, str]:
    """Rules that the recipe chooses and that do not fit this kind of row, with the reason."""
    return {name: why for name, why in _ONLY_T2I.items() if config.uses(name) and kind == "edit"}


def rule_counts(selection: pl.DataFrame) -> dict[str, int]:
    """How many rows each rule rejected, the most first; rules that rejected nothing are left out."""
    counts = (
        selection.drop_nulls("rule").group_by("rule").len().sort(["len", "rule"], descending=[True, False])
    )
    return dict(counts.iter_rows())


def rule_examples(
    selection: pl.DataFrame, chains: pl.DataFrame, per_rule: int = 3, width: int = 200
) -> pl.DataFrame:
    """EXAMPLES: the first few rows that each rule rejected, with the beginning of their text."""
    column = "caption" if "caption" in chains.columns else "instruction"
    rejected = selection.drop_nulls("rule").group_by("rule", maintain_order=True).head(per_rule)
    key = "pair_id" if "pair_id" in chains.columns else "image_id"
    texts = chains.select(
        item_id=key, text=pl.coalesce("chain", column, pl.lit("")).str.slice(0, width)
    ).unique("item_id", keep="first")
    shown = rejected.join(texts, on="item_id", how="left", maintain_order="left")
    return shown.select(list(EXAMPLES)).sort("rule", maintain_order=True)


def _side_by_side(
    judged: Callable[[pl.DataFrame], pl.DataFrame], batches: Iterable[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """Each batch judged, in order, a few at once: single rules leave cores idle."""
    pending: deque[Future[pl.DataFrame]] = deque()
    with ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="judge") as pool:
        for frame in batches:
            pending.append(pool.submit(judged, frame))
            del frame
            if len(pending) >= _MAX_PARALLEL:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _joined(batches: Iterator[pl.DataFrame]) -> pl.DataFrame:
    empty = pl.DataFrame(schema=polars_schema(SELECTION))
    return pl.concat([empty, *batches])


def _check_inputs(
    config: CurateConfig, kind: Kind, signals: pl.DataFrame | None, benchmark: pl.DataFrame | None
) -> None:
    for rule in active_rules(config, kind):
        column = _NEEDS_SIGNALS.get(rule)
        if column and (signals is None or column not in signals.columns):
            raise ValueError(f"rule {rule} needs the column {column} of the measured pictures (`signals`)")
        if rule == "contaminated" and benchmark is None:
            raise ValueError("rule contaminated needs the table of benchmark images (`benchmark`)")


def _pictures(pictures: pl.DataFrame, signals: pl.DataFrame | None, kind: Kind) -> pl.DataFrame:
    """What rules need of each image or pair, by item_id, each once."""
    wanted = (*PICTURE_COLUMNS, *_PAIR_IMAGES)
    columns = [name for name in wanted if name in pictures.columns]
    known = pictures.select(pl.col(KEYS[kind]).alias("item_id"), *columns).drop_nulls("item_id")
    known = known.unique("item_id", keep="first")
    if signals is None:
        return known
    measured = [name for name in _SIGNALS if name in signals.columns]
    found = signals.select("image_id", *measured).unique("image_id", keep="first")
    if kind == "t2i":
        return known.join(found, left_on="item_id", right_on="image_id", how="left")
    return _worse_of_both(known, found, measured)


def _worse_of_both(pairs: pl.DataFrame, found: pl.DataFrame, measured: list[str]) -> pl.DataFrame:
    """Pairs with the higher measure of their two pictures; null where one of them was not measured."""
    for image in _PAIR_IMAGES:
        renamed = found.rename({name: f"{image}_{name}" for name in measured})
        pairs = pairs.join(renamed, left_on=image, right_on="image_id", how="left")
    for name in measured:
        both = [pl.col(f"{image}_{name}") for image in _PAIR_IMAGES]
        known = pl.all_horizontal(one.is_not_null() for one in both)
        pairs = pairs.with_columns(pl.when(known).then(pl.max_horizontal(both)).alias(name))
    return pairs


def _prepared(chains: pl.DataFrame, pictures: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """The columns that a Batch needs."""
    if kind == "t2i":
        text = pl.concat_str("prompt", "caption", separator=" ", ignore_nulls=True)
        columns = [pl.col("image_id").alias("item_id"), *map(pl.col, ("prompt", "caption", "phrases"))]
    else:
        text = pl.concat_str("instruction", "chain", separator=" ", ignore_nulls=True)
        columns = [pl.col("pair_id").alias("item_id"), pl.col("instruction").alias("prompt")]
    own = [pl.col(name).alias(f"own_{name}") for name in ORIGIN if name in chains.columns]
    table = chains.select("chain_id", *columns, "chain", "error", *own, text=text)
    unknown = table.join(pictures, on="item_id", how="anti") if kind == "edit" else table.clear()
    if unknown.height:
        first = unknown["item_id"][0]
        raise ValueError(f"{unknown.height} edit chains have no edit pair, the first is {first!r}")
    # Of millions of pictures first those of the batch: the join then sorts out thousands.
    few = pictures.join(table.select("item_id"), on="item_id", how="semi")
    found = table.join(few, on="item_id", how="left", maintain_order="left")
    return found.with_columns(_stated(found, name).alias(name) for name in ORIGIN)


def _stated(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Source or licence: the chain's own where it says so, else the image's or pair's."""
    held = [pl.col(one) for one in (f"own_{name}", name) if one in frame.columns]
    return pl.coalesce(*held) if held else pl.lit(None, pl.String)


def _hits(batch: Batch, config: CurateConfig, kind: Kind) -> pl.DataFrame:
    """row, rule, detail of every rule against every row, by rule in their order."""
    frames = [
        RULES[name](batch, config).select("row", pl.lit(name).alias("rule"), "detail")
        for name in active_rules(config, kind)
    ]
    return pl.concat(
        [pl.DataFrame(schema={"row": pl.UInt32, "rule": pl.String, "detail": pl.String}), *frames]
    )
