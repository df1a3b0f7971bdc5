"""Rewriting what a storage holds without the rows of given images, pairs and chains.

Belongs here: tables, documents and stored pictures, of a shard and of the whole. Not here: which ids, in
which shards and in which order (`takedown`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from got_core.annotate.ledger_removal import Traces, listed
from got_core.annotate.pictures import pixels_name
from got_core.corpus.decode import ImageError
from got_core.corpus.store import stored_name
from got_core.curate.copies import Readers
from got_core.figures import SHOWN
from got_core.storage import TABLE_SUFFIX, Storage

ITEM_COLUMNS = ("image_id", "source_id", "target_id", "pair_id", "item_id", "chain_id", "sample_id")
"""Columns that name an image, a pair or a chain, in any table."""
RECORD = ("takedown", "taken_down.parquet")
"""What still names the ids: the lists and records of takedowns, and the asset's table."""
NOT_BY_SHARD = (
    *("takedown", "item_index", "leases", "listed", "shards", "manifests", "models", "ledger", "fetched"),
    *("training_shards", "latent_shards", "imported", "reviews", "stored_images", SHOWN),
)
"""Folders without tables that are named by shard: records, lists of raw files, or removed by other means."""
GONE = "(taken down)"
_AT_ONCE = 16
_NAMING = (*ITEM_COLUMNS, "near_duplicate_of")
_KEPT_TEXTS = ("error", "reason", "rule", "annotator", "source", "licence", "kind", "task", "format", "shard")
"""Columns whose texts say nothing of a picture."""


@dataclass(frozen=True)
class Removal:
    """What has to go: ids of images, pairs and chains."""

    items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.items)

    def concerns(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows are about a removed image or pair, by ITEM_COLUMNS, where there are."""
        named = [pl.col(c).is_in(list(self.items)) for c in ITEM_COLUMNS if c in frame.columns]
        hit = frame.select(pl.any_horizontal(pl.lit(False), *named).fill_null(False).alias("hit"))
        # A frame without such a column gives a single value.
        return hit["hit"] if hit.height == frame.height else pl.Series("hit", [False] * frame.height)


def shard_tables(storage: Storage, shards: Iterable[str]) -> dict[str, list[str]]:
    """Tables of each shard, of any asset; ingested ones last: a cut leaves none without them."""
    folders = [one for one in storage.top()[0] if one not in NOT_BY_SHARD]
    last = ("raw_images", "edit_pairs")
    folders.sort(key=lambda one: (not one.endswith("_selection"), one in last, one))
    pairs = [(shard, f"{folder}/{shard}") for shard in shards for folder in folders]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        there = pool.map(lambda pair: storage.exists(f"{pair[1]}{TABLE_SUFFIX}"), pairs)
        found: dict[str, list[str]] = {}
        for (shard, name), exists in zip(pairs, there, strict=True):
            if exists:
                found.setdefault(shard, []).append(name)
    return found


def read_tables(storage: Storage, names: Iterable[str]) -> dict[str, pl.DataFrame]:
    """Tables by name, in the order of the names, read side by side."""
    wanted = [*names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(storage.read_table, wanted), strict=True))


def clean_table(
    storage: Storage, name: str, items: frozenset[str], frame: pl.DataFrame | None = None
) -> int | None:
    """Rewrite a table without the rows about these items, and without their ids in texts of other rows; how
    many rows went. None where it names none of them: it is left alone then. `frame`: what the table holds."""
    frame = storage.read_table(name) if frame is None else frame
    removal = Removal(items)
    hit = removal.concerns(frame)
    rest = frame.filter(~hit) if hit.any() else frame
    naming = [one for one in _text_columns(rest) if _names_any(rest[one], items)]
    if rest.height == frame.height and not naming:
        return None
    storage.delete_many(_stored_pictures(frame.filter(hit)))
    storage.write_table(name, rest.with_columns(_without_ids(one, items) for one in naming))
    return frame.height - rest.height


def traces_of(frames: Iterable[pl.DataFrame], items: frozenset[str], readers: Readers) -> Traces:
    """By what a shard's ledger is searched: pictures that only rows which go show, and texts only of them.

    A picture that a row of the same table shows which stays is none of them, and its answers stay.
    """
    gone, kept, pictures = set[str](), set[str](), set[str]()
    for frame in frames:
        hit = Removal(items).concerns(frame)
        if hit.any():
            gone |= set(_texts(frame.filter(hit)))
            kept |= set(_texts(frame.filter(~hit), gone))
            pictures |= set(_pictures(frame, hit, readers))
    return Traces(images=frozenset(pictures), texts=frozenset(gone - kept - {""}))


def clean_shard_log(storage: Storage, shard: str, items: Collection[str]) -> int:
    """Take stored pictures of the items out of the log of what a shard fetched; how many rows."""
    names = [one for one in storage.list(f"fetched/{shard}/") if one.endswith(TABLE_SUFFIX)]
    count = 0
    for name in (one.removesuffix(TABLE_SUFFIX) for one in names):
        frame = storage.read_table(name)
        rest = frame.filter(~pl.col("path").str.contains_any(sorted(items)))
        if rest.height < frame.height:
            storage.write_table(name, rest)
            count += frame.height - rest.height
    return count


def clean_texts(storage: Storage, items: Collection[str], assets: Collection[str]) -> int:
    """Delete pages of assets without shards that name an item, and records of failures; how many files."""
    names = [name for asset in assets for name in storage.list(f"{SHOWN}/{asset}/")]
    names = [one for one in (*names, *storage.list("failures/")) if one.endswith((".md", ".json"))]
    ids = [one.encode() for one in items]
    found = [name for name, data in storage.read_many(names).items() if any(one in data for one in ids)]
    storage.delete_many(found)
    return len(found)


def _text_columns(frame: pl.DataFrame) -> list[str]:
    """Columns with texts in which an id may stand, those that name items apart."""
    return [one for one, dtype in frame.schema.items() if dtype == pl.String and one not in ITEM_COLUMNS]


def _names_any(texts: pl.Series, items: frozenset[str]) -> bool:
    patterns = sorted(items)
    whole = texts.name == "near_duplicate_of"
    return bool((texts.is_in(patterns) if whole else texts.str.contains_any(patterns)).any())


def _without_ids(column: str, items: frozenset[str]) -> pl.Expr:
    patterns, other = sorted(items), pl.col(column)
    if column == "near_duplicate_of":
        return pl.when(~other.is_in(patterns)).then(other).alias(column)
    return other.str.replace_many(patterns, [GONE] * len(patterns))


def _stored_pictures(rows: pl.DataFrame) -> list[str]:
    paths = rows["path"].drop_nulls() if "path" in rows.columns else ()
    return [stored_name(path) for path in paths if path.startswith("store://")]


def _texts(frame: pl.DataFrame, wanted: Collection[str] | None = None) -> Iterator[str]:
    """Texts, and lists of texts as one, of all columns that may hold what a model said (those wanted)."""
    for column, dtype in frame.schema.items():
        if column in _NAMING or column in _KEPT_TEXTS or "path" in column or "phash" in column:
            continue
        if dtype == pl.String:
            series = frame[column].drop_nulls()
        elif dtype == pl.List(pl.String):
            single = frame[column].drop_nulls().explode().drop_nulls()
            joined = pl.Series(
                [listed(one) for one in frame[column].drop_nulls() if len(one)], dtype=pl.String
            )
            series = pl.concat([single, joined])
        else:
            continue
        yield from series if wanted is None else series.filter(series.is_in(list(wanted)))


def _pictures(frame: pl.DataFrame, hit: pl.Series, readers: Readers) -> Iterator[str]:
    """Hashes of pictures of rows that go, which no other row shows; those that can be opened."""
    for key, path, kind in (
        *(("image_id", "path", "t2i"), ("source_id", "source_path", "edit")),
        ("target_id", "target_path", "edit"),
    ):
        if key not in frame.columns or path not in frame.columns or kind not in readers:
            continue
        staying = frame.filter(~hit)
        sides = [one for one in ("image_id", "source_id", "target_id") if one in frame.columns]
        shown = {one for side in sides for one in staying[side].drop_nulls()}
        rows = frame.filter(hit).drop_nulls(key).unique(key)
        for image, place in rows.select(key, path).iter_rows():
            if image not in shown and (name := _opened(readers, kind, place)):
                yield name


def _opened(readers: Readers, kind: str, path: str) -> str | None:
    try:
        return pixels_name(readers[kind](path))
    except ImageError:
        return None


def counted(counts: Mapping[str, int | None]) -> dict[str, int]:
    """Without what was left alone."""
    return {name: count for name, count in counts.items() if count is not None}
