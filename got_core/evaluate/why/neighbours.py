"""The pictures of the training data nearest to a picture, and what was written about them.

    prints = TrainingPrints.read(storage)
    near = prints.nearest(fingerprint(picture), 5, hidden=taken_down)
    rows = described(storage, near, trained)

Belongs here: the search by perceptual hash over the stored tables (`raw_images`, `edit_pairs`), and joining
what the annotation tables say. Not here: similarity by a network (`clip`), which pictures were taken down,
which manifests a model has (`got_core.inference.why`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from got_core.storage import TABLE_SUFFIX

if TYPE_CHECKING:
    from got_core.corpus.duplicates import Fingerprint
    from got_core.storage import Storage

T2I, EDIT = "t2i", "edit"
PICTURE, SOURCE, TARGET = "picture", "source", "target"
MANIFESTS = "manifests"
"""Folder of the ids of every manifest, by content hash (`curate.manifest.ARCHIVE`)."""

_PRINTS = {
    "image_id": pl.String(),
    "item_id": pl.String(),
    "phash": pl.UInt64(),
    "colors": pl.Binary(),
    "kind": pl.String(),
    "side": pl.String(),
    "shard": pl.String(),
}
_TABLES: dict[str, tuple[tuple[str, str, str, str, str, str], ...]] = {
    "raw_images": ((T2I, PICTURE, "image_id", "image_id", "phash", "colors"),),
    "edit_pairs": (
        (EDIT, SOURCE, "source_id", "pair_id", "source_phash", "source_colors"),
        (EDIT, TARGET, "target_id", "pair_id", "target_phash", "target_colors"),
    ),
}
"""Of each ingested table: kind, side, and the columns of image, item, hash and colour grid."""

_READERS = 8
_CELLS = 48


@dataclass(frozen=True, kw_only=True)
class Near:
    """A picture of the training data, and how near it is."""

    image_id: str
    item_id: str
    """Its own id, or its pair's."""

    kind: str
    side: str
    shard: str
    distance: int
    """Bits of 64 in which the perceptual hashes differ."""

    color: float | None
    """Mean difference of the cells of the colour grids, in levels of 255."""

    similarity: float | None = None
    """Cosine of CLIP's embeddings, where that was asked for."""


@dataclass(frozen=True)
class TrainingPrints:
    """Perceptual hashes of all pictures that were ingested."""

    frame: pl.DataFrame
    missing: tuple[str, ...] = ()
    """Tables that could not be read, and why."""

    @classmethod
    def read(cls, storage: Storage) -> TrainingPrints:
        """Of all shards in the storage; only these columns are read, shards side by side."""
        wanted = [
            (table, name.removesuffix(TABLE_SUFFIX))
            for table in _TABLES
            for name in storage.list(f"{table}/")
            if name.endswith(TABLE_SUFFIX)
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            parts = [*pool.map(lambda one: _part(storage, *one), wanted)]
        frames = [one for one in parts if isinstance(one, pl.DataFrame)]
        faults = tuple(one for one in parts if isinstance(one, str))
        return cls(pl.concat([pl.DataFrame(schema=_PRINTS), *frames]), faults)

    def nearest(self, query: Fingerprint, count: int, *, hidden: Collection[str] = ()) -> Nearest:
        """The pictures whose hashes differ in the fewest bits, at equal bits those of the likest colours,
        each once. `hidden`: ids of images, pairs and chains that are not shown; how many were as near is
        told."""
        from got_core.corpus.duplicates import hash_bits

        rows = self.frame.height
        if not rows or count < 1:
            return Nearest((), 0)
        bits = np.bitwise_count(self.frame["phash"].to_numpy() ^ hash_bits([query.phash])[0])
        gone = self._gone(hidden)
        most = min(rows, 4 * count)
        while True:  # all at the distance of the last one compete by colour
            kept = np.flatnonzero(bits <= np.partition(bits, most - 1)[most - 1])
            found = _ranked(self.frame[kept].with_columns(distance=bits[kept]), gone, query.colors)
            if found.height >= count or most == rows:
                break
            most = min(rows, 8 * most)
        found = found.head(count)
        last = int(found["distance"][-1]) if found.height else 64  # type: ignore[arg-type]
        near = self.frame[np.flatnonzero(bits <= last)] if gone else self.frame.clear()
        columns = ("image_id", "item_id", "kind", "side", "shard", "distance", "color")
        hidden_near = near.filter(_concealed(gone))["image_id"].n_unique()
        return Nearest(tuple(Near(**row) for row in found.select(columns).iter_rows(named=True)), hidden_near)

    def _gone(self, hidden: Collection[str]) -> list[str]:
        """The hidden ids, and pairs of which a picture is hidden."""
        if not hidden:
            return []
        named = list(hidden)
        pairs = self.frame.filter(pl.col("image_id").is_in(named) & (pl.col("kind") == EDIT))["item_id"]
        return [*named, *pairs.unique()]


def _concealed(gone: Sequence[str]) -> pl.Expr:
    return pl.col("image_id").is_in(gone) | pl.col("item_id").is_in(gone)


def _ranked(frame: pl.DataFrame, gone: Sequence[str], colors: np.ndarray) -> pl.DataFrame:
    """Those that are shown, each picture once, the nearest first."""
    shown = frame.filter(~_concealed(gone)) if gone else frame
    each = shown.unique("image_id", keep="first", maintain_order=True)
    ranked = each.with_columns(_levels(each["colors"], colors))
    return ranked.sort("distance", "color", "image_id", nulls_last=True)


@dataclass(frozen=True)
class Nearest:
    """What was found."""

    rows: tuple[Near, ...]
    hidden: int
    """Pictures as near as these that are not shown, because they were taken down."""


def _part(storage: Storage, table: str, name: str) -> pl.DataFrame | str:
    try:
        scan = storage.scan_table(name)
        there = set(scan.collect_schema())
        parts = []
        for kind, side, image, item, phash, colors in _TABLES[table]:
            grid = pl.col(colors) if colors in there else pl.lit(None, pl.Binary)
            part = scan.filter(pl.col("error").is_null() & pl.col(phash).is_not_null()).select(
                image_id=image,
                item_id=item,
                phash=pl.col(phash).str.to_integer(base=16, dtype=pl.UInt64, strict=False),
                colors=grid,
                kind=pl.lit(kind),
                side=pl.lit(side),
                shard=pl.lit(name.rpartition("/")[2]),
            )
            parts.append(part.drop_nulls(("image_id", "phash")))
        return pl.concat(pl.collect_all(parts))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        return f"{storage.url_of(name + TABLE_SUFFIX)} cannot be read: {' '.join(str(error).split())[:160]}"


def _levels(colors: pl.Series, query: np.ndarray) -> pl.Series:
    """Mean difference of each grid from one, in levels; null where a grid is not known."""
    known = (colors.bin.size() == _CELLS).fill_null(False)
    grids = np.frombuffer(b"".join(colors.filter(known).to_list()), np.uint8).reshape(-1, _CELLS)
    levels = np.abs(grids.astype(np.int16) - query.reshape(-1)).mean(axis=1)
    values = (
        pl.Series("color", [None], dtype=pl.Float64).extend_constant(None, len(colors) - 1)
        if len(colors)
        else (pl.Series("color", [], dtype=pl.Float64))
    )
    return values.scatter(known.arg_true(), pl.Series(levels, dtype=pl.Float64)).alias("color")


# -- what was written about them ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One chain of a training picture, and what it was made from."""

    chain_id: str | None
    prompt: str | None
    """Or the instruction of the pair."""

    chain: str | None
    caption: str | None = None
    entities: tuple[str, ...] = ()
    annotator: str | None = None
    """Revision of who annotated; None where the tables do not keep it."""

    accepted: bool | None = None
    """By the rules of curation; None: not known."""

    rule: str | None = None
    """The first rule that rejected it."""

    detail: str | None = None
    error: str | None = None
    """Why annotation failed."""

    corrected: str | None = None
    """What a reviewer said of it."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A training picture with all that is known of it."""

    image_id: str
    pair_id: str | None
    kind: str
    side: str
    shard: str
    distance: int
    color: float | None
    similarity: float | None
    path: str | None
    """As its table names it."""

    source: str | None
    licence: str | None
    in_manifest: bool | None
    """Whether it was in a manifest that the model was trained on; None: not known."""

    annotations: tuple[Annotation, ...]
    place: str | None = None
    """The file, where it is one of this machine."""

    missing: tuple[str, ...] = ()
    """What should be there and is not, one line each."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Ids of what a model was trained on."""

    manifests: tuple[str, ...]
    """Content hashes."""

    unknown: tuple[str, ...] = ()
    """Those that are not archived."""

    items: frozenset[str] = frozenset()
    """Of those images and pairs that were asked about, the ones that a manifest holds."""

    def holds(self, image: str, pair: str | None) -> bool | None:
        """Whether an image, or its pair, is among them; None where that cannot be told."""
        if (pair or image) in self.items:
            return True
        return None if self.unknown or not self.manifests else False


def trained_on(storage: Storage, manifests: Sequence[str], near: Iterable[Near]) -> Trained:
    """Which of these pictures the manifests hold."""
    wanted = list({one.item_id for one in near} | {one.image_id for one in near})
    unknown, found = [], set[str]()
    for digest in manifests:
        try:
            scan = storage.scan_table(f"{MANIFESTS}/{digest}")
            for column in ("image_id", "pair_id"):
                found |= set(scan.filter(pl.col(column).is_in(wanted)).select(column).collect()[column])
        except (OSError, ValueError, pl.exceptions.PolarsError):
            unknown.append(digest)
    return Trained(manifests=tuple(manifests), unknown=tuple(unknown), items=frozenset(found))


def described(
    storage: Storage,
    near: Sequence[Near],
    trained: Trained,
    corrected: Mapping[str, str] = {},  # never changed
) -> tuple[Neighbour, ...]:
    """The pictures with path, licence and annotations, in their order. `corrected`: what reviewers said, by
    chain."""
    shards = {(one.kind, one.shard) for one in near}
    tables = {shard: _Tables.read(storage, *shard, near) for shard in shards}
    return tuple(_neighbour(one, tables[one.kind, one.shard], trained, corrected) for one in near)


_ROWS = {T2I: "raw_images", EDIT: "edit_pairs"}
_KEYS = {T2I: "image_id", EDIT: "pair_id"}
_ANNOTATED = {
    T2I: ("captions", "entities", "t2i_chains", "t2i_selection"),
    EDIT: ("edit_descriptions", "edit_chains", "edit_selection"),
}


@dataclass(frozen=True)
class _Tables:
    """What a shard's tables say about some of its pictures."""

    rows: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By table and item: `captions/ID`."""

    missing: tuple[str, ...] = ()

    @classmethod
    def read(cls, storage: Storage, kind: str, shard: str, near: Iterable[Near]) -> _Tables:
        items = list({one.item_id for one in near if (one.kind, one.shard) == (kind, shard)})
        rows: dict[str, list[dict[str, Any]]] = {}
        missing = []
        for table in (_ROWS[kind], *_ANNOTATED[kind]):
            key = "item_id" if table.endswith("_selection") else _KEYS[kind]
            try:
                found = storage.scan_table(f"{table}/{shard}").filter(pl.col(key).is_in(items)).collect()
            except (OSError, ValueError, pl.exceptions.PolarsError):
                missing.append(f"the table {table}/{shard} is gone")
                continue
            for row in found.iter_rows(named=True):
                rows.setdefault(f"{table}/{row[key]}", []).append(row)
        return cls(rows, tuple(missing))

    def of(self, table: str, item: str) -> list[dict[str, Any]]:
        """Rows about an item."""
        return self.rows.get(f"{table}/{item}", [])


def _neighbour(one: Near, tables: _Tables, trained: Trained, corrected: Mapping[str, str]) -> Neighbour:
    rows = tables.of(_ROWS[one.kind], one.item_id)
    row = rows[0] if rows else {}
    paths = {PICTURE: "path", SOURCE: "source_path", TARGET: "target_path"}
    annotations = tuple(_annotations(one, tables, corrected))
    missing = list(tables.missing)
    if not any(annotation.chain for annotation in annotations):
        missing.append("it has no chain: it was not annotated, or annotation failed")
    pair = one.item_id if one.kind == EDIT else None
    return Neighbour(
        image_id=one.image_id,
        pair_id=pair,
        kind=one.kind,
        side=one.side,
        shard=one.shard,
        distance=one.distance,
        color=one.color,
        similarity=one.similarity,
        path=row.get(paths[one.side]),
        source=row.get("source"),
        licence=row.get("licence"),
        in_manifest=trained.holds(one.image_id, pair),
        annotations=annotations,
        missing=tuple(missing),
    )


def _annotations(one: Near, tables: _Tables, corrected: Mapping[str, str]) -> Iterator[Annotation]:
    texts, chains, chosen = ("captions", "t2i_chains", "t2i_selection")
    if one.kind == EDIT:
        texts, chains, chosen = ("edit_descriptions", "edit_chains", "edit_selection")
    first = next(iter(tables.of(texts, one.item_id)), {})
    named = next(iter(tables.of("entities", one.item_id)), {}) if one.kind == T2I else first
    selected = {row["chain_id"]: row for row in tables.of(chosen, one.item_id)}
    for row in tables.of(chains, one.item_id):
        verdict = selected.get(row["chain_id"], {})
        yield Annotation(
            chain_id=row["chain_id"],
            prompt=row.get("prompt") or row.get("instruction"),
            chain=row["chain"],
            caption=row.get("caption") or first.get("source_text"),
            entities=tuple(named.get("entities") or ()),
            annotator=first.get("annotator"),
            accepted=verdict.get("accepted"),
            rule=verdict.get("rule"),
            detail=verdict.get("detail"),
            error=row.get("error"),
            corrected=corrected.get(row["chain_id"] or ""),
        )
