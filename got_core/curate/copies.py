"""Copies of pictures that were taken down: found by fingerprint, and judged by a person before they go.

The test is that of near duplicates, perceptual hash and colour grid. What has the very pixels of a picture
that was taken down goes at once; what only looks like it waits, listed in the table and on the page of
`takedown/`, until a person says `copy` or `other` (`judged.csv`). A verdict holds for good: what was judged
is not listed again for the same request.

    got data takedown copies
    got data takedown confirm IMAGE_ID [...]
    got data takedown keep IMAGE_ID [...]

Belongs here: finding and listing them. Not here: removing (`takedown`), the lists (`takedown_lists`), and
the page (`copies_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from got_core.corpus.decode import ImageError
from got_core.corpus.duplicates import near_copies, prints_of
from got_core.corpus.refused import pixels_hash as pixels_hash_of
from got_core.corpus.schemas import Columns, frame_of, polars_schema
from got_core.curate.config import CurateConfig
from got_core.curate.schemas import COPIES, PRINTS
from got_core.curate.takedown_lists import COPY, OTHER, add_judged, read_judged
from got_core.storage import TABLE_SUFFIX, Storage

TABLE = "takedown/copies"
PRINTS_TABLE = "takedown/prints"

Opener = Callable[[str], Image.Image]
NearShards = Callable[[np.ndarray], Collection[str]]
Readers = Mapping[str, Opener]
"""What opens a picture by its path, by kind (t2i, edit); raises ImageError."""


def waiting_copies(storage: Storage) -> pl.DataFrame:
    """COPIES that the last takedown listed and that nobody has judged since."""
    found = _stored(storage, TABLE, COPIES)
    return found.join(read_judged(storage), on=["request", "item_id"], how="anti", maintain_order="left")


def judge_copies(storage: Storage, ids: Collection[str], copies: bool) -> pl.DataFrame:
    """Say of listed pictures that they are copies and go, or that they are others and stay. Returns JUDGED.

    Raises ValueError for an id that is not among the listed ones; then nothing is recorded.
    """
    listed = _stored(storage, TABLE, COPIES)
    wanted = {one.strip().lower() for one in ids}
    unknown = sorted(wanted - set(listed["item_id"]))
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is not among the copies that were listed; the command `copies` shows them, and "
            "what must go anyway is put on the list with `add`"
        )
    rows = listed.filter(pl.col("item_id").is_in(list(wanted)))
    return add_judged(storage, rows, COPY if copies else OTHER)


def confirmed(storage: Storage, listed: Collection[str]) -> dict[str, str]:
    """Ids of pictures that a person called copies, with the request, for the requests on the list."""
    rows = read_judged(storage).filter(pl.col("verdict") == COPY, pl.col("request").is_in(list(listed)))
    return dict(rows.select("item_id", "request").iter_rows())


def find_copies(
    storage: Storage,
    requests: Mapping[str, str],
    hashes: Collection[str],
    config: CurateConfig,
    prints: pl.DataFrame | None = None,
    near: NearShards | None = None,
) -> pl.DataFrame:
    """COPIES among all stored pictures, those that were judged before left out.

    `requests`: ids of what goes anyway, with the request on the list; `hashes`: perceptual hashes on it;
    `prints`: PRINTS of what goes, those that are stored if None; `near`: shards with pictures near to hashes
    (uint64), which alone are looked at then.
    """
    prints = _prints_of(storage, prints, requests)
    images = prints.drop_nulls("phash")
    references = prints_of([*images["phash"], *hashes], [*images["colors"], *[None] * len(hashes)])
    if not len(references.hashes):
        return frame_of([], COPIES)
    named_by = [*(requests[one] for one in images["image_id"]), *hashes]
    originals = [*images["image_id"], *[None] * len(hashes)]
    rows: list[dict[str, Any]] = []
    for frame in stored_pictures(storage, near and near(references.hashes)):
        frame = frame.filter(~pl.col("image_id").is_in(list(requests)))
        queries = prints_of(frame["phash"].to_list(), frame["colors"].to_list())
        found = near_copies(queries, references, config.takedown_distance, config.near_duplicate_color)
        for query, reference, distance, color in zip(*(one.tolist() for one in found), strict=True):
            picture = frame.row(query, named=True)
            found_for = {"request": named_by[reference], "original": originals[reference]}
            place = {"item_id": picture["image_id"], "kind": picture["kind"], "path": picture["path"]}
            rows.append({**found_for, **place, "distance": distance, "color": color})
    copies = frame_of(rows, COPIES).sort("request", "item_id", "distance", "color", maintain_order=True)
    copies = copies.unique(["request", "item_id"], keep="first", maintain_order=True)
    return copies.join(read_judged(storage), on=["request", "item_id"], how="anti", maintain_order="left")


def same_pixels(
    storage: Storage,
    copies: pl.DataFrame,
    requests: Collection[str],
    readers: Readers,
    prints: pl.DataFrame | None = None,
) -> pl.Series:
    """Which of the COPIES have the very pixels of a picture that goes (`requests`); opens the few that may.

    Of any such picture: the nearest by fingerprint may be another one with the same fingerprint. `prints`: as
    of `find_copies`.
    """
    prints = _prints_of(storage, prints, requests)
    removed_pixels = set(prints["pixels"].drop_nulls())
    answers = [
        row["distance"] == 0
        and row["color"] <= 0  # equal, or not known
        and pixels_hash(readers, row["kind"], row["path"]) in removed_pixels
        for row in copies.iter_rows(named=True)
    ]
    return pl.Series("same", answers, dtype=pl.Boolean)


def store_prints(
    storage: Storage, ids: Collection[str], readers: Readers, shards: Collection[str] | None = None
) -> None:
    """Keep the fingerprints of pictures that are about to go: copies of them may come later."""
    known, found = _stored(storage, PRINTS_TABLE, PRINTS), prints_with(storage, ids, readers, shards)
    if found.height > known.height:
        storage.write_table(PRINTS_TABLE, found)


def prints_with(
    storage: Storage, ids: Collection[str], readers: Readers, shards: Collection[str] | None = None
) -> pl.DataFrame:
    """PRINTS that are stored, and those of stored pictures (of these shards) among the ids."""
    known = _stored(storage, PRINTS_TABLE, PRINTS)
    wanted, new = set(ids) - set(known["image_id"]), dict[str, dict[str, Any]]()
    for frame in stored_pictures(storage, shards) if wanted else ():
        for row in frame.filter(pl.col("image_id").is_in(list(wanted))).iter_rows(named=True):
            if row["image_id"] not in new:
                pixels = pixels_hash(readers, row["kind"], row["path"])
                new[row["image_id"]] = {name: row.get(name) for name in PRINTS} | {"pixels": pixels}
    return pl.concat([known, frame_of([*new.values()], PRINTS)])


def _prints_of(storage: Storage, prints: pl.DataFrame | None, ids: Collection[str]) -> pl.DataFrame:
    prints = _stored(storage, PRINTS_TABLE, PRINTS) if prints is None else prints
    return prints.filter(pl.col("image_id").is_in(list(ids)))


def pixels_hash(readers: Readers, kind: str, path: str) -> str | None:
    """SHA-256 of a picture's size and pixels; None where it cannot be opened."""
    try:
        picture = readers[kind](path)
    except (KeyError, ImageError):
        return None
    return pixels_hash_of(picture)


def with_prints(storage: Storage) -> dict[str, bytes | None]:
    """Pictures whose fingerprint is kept, with the colours of its grid: copies of them are looked for."""
    return dict(_stored(storage, PRINTS_TABLE, PRINTS).select("image_id", "colors").iter_rows())


def refused_pixels(storage: Storage, ids: Collection[str]) -> dict[str, frozenset[str]]:
    """By perceptual hash, the hashes of the pixels of pictures among the ids, as far as they were kept."""
    known = _prints_of(storage, None, ids).drop_nulls(["phash", "pixels"]).group_by("phash").agg("pixels")
    return {phash: frozenset(pixels) for phash, pixels in known.iter_rows()}


def stored_pictures(storage: Storage, shards: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
    """image_id, phash, colors, path, kind of all good pictures (of these shards), table by table."""
    for name in _tables(storage, "raw_images/", shards):
        yield _pictures(storage, name, "t2i", {"image_id": "image_id", "path": "path"}, "")
    for name in _tables(storage, "edit_pairs/", shards):
        for side in ("source", "target"):
            columns = {"image_id": f"{side}_id", "path": f"{side}_path"}
            yield _pictures(storage, name, "edit", columns, f"{side}_").unique("image_id", keep="first")


def _pictures(
    storage: Storage, name: str, kind: str, columns: Mapping[str, str], prefix: str
) -> pl.DataFrame:
    scan = storage.scan_table(name)
    columns_of_table = scan.collect_schema()
    chosen = [pl.col(column).alias(new) for new, column in columns.items()]
    for new, dtype in (("phash", pl.String()), ("colors", pl.Binary())):
        column = f"{prefix}{new}"  # tables from before there were fingerprints of pairs lack them
        chosen.append((pl.col(column) if column in columns_of_table else pl.lit(None, dtype)).alias(new))
    frame = scan.select(chosen).collect().drop_nulls(["image_id", "phash"])
    return frame.with_columns(kind=pl.lit(kind))


def _tables(storage: Storage, prefix: str, shards: Collection[str] | None) -> list[str]:
    if shards is not None and not shards:
        return []
    names = [name for name in storage.list(prefix) if name.endswith(TABLE_SUFFIX)]
    tables = (name.removesuffix(TABLE_SUFFIX) for name in names)
    return [one for one in tables if shards is None or one.removeprefix(prefix) in shards]


def _stored(storage: Storage, name: str, columns: Columns) -> pl.DataFrame:
    if not storage.exists(f"{name}{TABLE_SUFFIX}"):
        return pl.DataFrame(schema=polars_schema(columns))
    return storage.read_table(name)
