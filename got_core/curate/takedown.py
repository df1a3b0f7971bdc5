"""Takedown: images and pairs that must go, from every table, selection, shard and manifest.

The list is a small CSV table in the storage, `takedown/list.csv` with the columns id, reason, added, which a
person may edit; `python -m got_assets.defs.curate.takedown add ID` adds to it. An id is the SHA-256 of an
image's bytes, the id of an edit pair, or a perceptual hash, which stands for every image near to it.

Belongs here: the list, what it stands for, and removing that from stored tables. Not here: which models were
trained on it (`trained_on`), and files outside of the storage: the raw folder is its owner's.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from got_core.corpus.duplicates import hash_bits, nearest
from got_core.corpus.schemas import polars_schema
from got_core.corpus.store import stored_name
from got_core.curate.schemas import TAKEDOWNS
from got_core.storage import TABLE_SUFFIX, Storage

LIST = "takedown/list.csv"
LEDGER = "takedown/ledger"
"""What requests were found to stand for: kept, since the rows that said so are removed."""

ITEM_COLUMNS = ("image_id", "source_id", "target_id", "pair_id", "item_id", "chain_id", "sample_id")
"""Columns that name an image, a pair or a chain, in any table."""

HASH_COLUMNS = ("phash", "source_phash", "target_phash")

_KEPT = ("takedown/", "manifests/", "training_shards/", "taken_down.parquet", "training_manifest.parquet")
"""Records of what was done; indices of tars, which go with them; the manifest, made anew from the list."""

_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}")
_LEDGER = {"request": pl.String(), "item_id": pl.String(), "kind": pl.String()}


@dataclass(frozen=True)
class Removal:
    """What has to go: ids of images, pairs and chains, perceptual hashes, and how near counts."""

    items: frozenset[str] = frozenset()
    hashes: tuple[str, ...] = ()
    distance: int = 0

    def __bool__(self) -> bool:
        return bool(self.items or self.hashes)

    def concerns(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows are about a removed image or pair, by ITEM_COLUMNS and HASH_COLUMNS, where there are."""
        named = [pl.col(c).is_in(list(self.items)) for c in ITEM_COLUMNS if c in frame.columns]
        hit = frame.select(pl.any_horizontal(pl.lit(False), *named).fill_null(False).alias("hit"))
        # A frame without such a column gives a single value.
        series = hit["hit"] if hit.height == frame.height else pl.Series("hit", [False] * frame.height)
        for column in (name for name in HASH_COLUMNS if self.hashes and name in frame.columns):
            near = [found is not None for found in _near(frame[column], self)]
            series = series | pl.Series("hit", near, dtype=pl.Boolean)
        return series


def read_takedowns(storage: Storage) -> pl.DataFrame:
    """TAKEDOWNS: the list, each id once. No list is an empty one.

    Raises:
        ValueError: it is no CSV table with a column id, or an id is none; the message names the row.
    """
    data = storage.read_bytes(LIST).removeprefix(b"\xef\xbb\xbf") if storage.exists(LIST) else b""
    if not data.strip():
        return pl.DataFrame(schema=polars_schema(TAKEDOWNS))
    place = storage.url_of(LIST)
    try:
        frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"takedown list {place} cannot be read: {reason}; it must be UTF-8 CSV") from error
    if "id" not in frame.columns:
        raise ValueError(f"takedown list {place} has no column id; its first line must be id,reason,added")
    texts = [_text(frame, name) for name in TAKEDOWNS]
    table = frame.select(texts).with_columns(pl.col("id").str.to_lowercase()).with_row_index("row", offset=1)
    for row, found in table.select("row", "id").iter_rows():
        if found is None or not _ID.fullmatch(found):
            raise ValueError(f"takedown list {place}, row {row}: {_wrong(found)}")
    return table.drop("row").unique("id", keep="first", maintain_order=True)


def add_takedowns(storage: Storage, ids: Iterable[str], reason: str | None = None) -> pl.DataFrame:
    """Put ids on the list; those that are on it stay as they are. Returns the list.

    Raises:
        ValueError: something is no id; then nothing is added.
    """
    wanted = [one.strip().lower() for one in ids]
    for one in wanted:
        if not _ID.fullmatch(one):
            raise ValueError(_wrong(one))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = pl.DataFrame({"id": wanted}).with_columns(
        reason=pl.lit(reason, pl.String), added=pl.lit(now, pl.String)
    )
    table = pl.concat([read_takedowns(storage), new]).unique("id", keep="first", maintain_order=True)
    storage.write_bytes(LIST, table.write_csv().encode())
    return table


def list_digest(storage: Storage) -> str:
    """Twelve hex digits that change with the list; `unreadable` where the storage cannot be asked."""
    try:
        data = storage.read_bytes(LIST) if storage.exists(LIST) else b""
    except OSError:
        return "unreadable"
    return hashlib.sha256(data).hexdigest()[:12]


def removal_of(storage: Storage, distance: int) -> Removal:
    """What the list and the ledger name now: for whoever makes rows or archives and must leave it out."""
    listed = read_takedowns(storage)["id"]
    ledger = _read_ledger(storage).filter(pl.col("request").is_in(listed.to_list()))
    items = {one for one in listed if len(one) == 64} | set(ledger["item_id"])
    return Removal(frozenset(items), tuple(one for one in listed if len(one) == 16), distance)


def stands_for(storage: Storage, ids: Iterable[str]) -> set[str]:
    """The ids, and the images, pairs and chains that requests of these ids were found to stand for."""
    asked = set(ids)
    return asked | set(_read_ledger(storage).filter(pl.col("request").is_in(list(asked)))["item_id"])


def take_down(storage: Storage, distance: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Remove what the list names from every stored table, training shard and page, and its stored bytes.

    Interrupted and run again it goes on; run twice it changes nothing. What is taken off the list comes back
    when its shard is made again.

    Returns:
        request, item_id and kind (image, pair or chain) of all that was ever found for the list, and how
        many rows were removed now, by table.

    Raises:
        ValueError: the list cannot be read.
    """
    from got_core.curate import training_shards
    from got_core.curate.gallery import forget_pages  # brings matplotlib

    listed = read_takedowns(storage)["id"]
    if listed.is_empty():
        return pl.DataFrame(schema=_LEDGER), {}
    removal = removal_of(storage, distance)
    ledger = _read_ledger(storage).filter(pl.col("request").is_in(listed.to_list()))
    ledger = pl.concat([ledger, _resolve(storage, removal, ledger)]).unique().sort("request", "item_id")
    storage.write_table(LEDGER, ledger)  # before the rows that it was found in are gone
    items = removal.items | set(ledger["item_id"])
    counts = {name: _clean(storage, name, frozenset(items)) for name in _tables(storage)}
    counts[training_shards.FOLDER] = len(training_shards.remove(storage, items).samples)
    counts["pages"] = len(forget_pages(storage, items))
    return ledger, {name: count for name, count in counts.items() if count}


def _resolve(storage: Storage, removal: Removal, ledger: pl.DataFrame) -> pl.DataFrame:
    """request, item_id, kind of what the stored image and pair tables hold."""
    request = dict(ledger.select("item_id", "request").iter_rows())
    images: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for name in _names(storage, "raw_images/"):
        frame = storage.scan_table(name).select("image_id", "phash").collect().drop_nulls("image_id")
        direct = frame.filter(pl.col("image_id").is_in(list(removal.items)))["image_id"]
        images |= {image: request.get(image, image) for image in direct}
        near = zip(frame["image_id"], _near(frame["phash"], removal), strict=True)
        images |= {image: wanted for image, wanted in near if wanted}
    for name in _names(storage, "edit_pairs/"):
        frame = storage.read_table(name)
        for side in (side for side in ("source", "target") if f"{side}_phash" in frame.columns):
            near = zip(frame[f"{side}_id"], _near(frame[f"{side}_phash"], removal), strict=True)
            images |= {image: wanted for image, wanted in near if wanted}
        for pair, *both in frame.select("pair_id", "source_id", "target_id").iter_rows():
            if pair in removal.items:
                pairs[pair] = request.get(pair, pair)
            for image in both:
                if image in removal.items or image in images:
                    images[image] = pairs[pair] = images.get(image) or request.get(image, image)
    rows = [(wanted, image, "image") for image, wanted in images.items()]
    rows += [(wanted, pair, "pair") for pair, wanted in pairs.items()]
    for folder, key, known in (("t2i_chains/", "image_id", images), ("edit_chains/", "pair_id", pairs)):
        about = list(removal.items | known.keys())
        for name in _names(storage, folder):
            chains = storage.scan_table(name).select(key, "chain_id").drop_nulls().collect()
            found = chains.filter(pl.col(key).is_in(about)).iter_rows()
            rows += [(known.get(item) or request.get(item, item), chain, "chain") for item, chain in found]
    return pl.DataFrame(rows, schema=_LEDGER, orient="row")


def _near(phashes: pl.Series, removal: Removal) -> list[str | None]:
    """The perceptual hash on the list that each one is near to."""
    if not removal.hashes:
        return [None] * len(phashes)
    known = phashes.is_not_null()
    found = iter(
        nearest(hash_bits(phashes.drop_nulls().to_list()), hash_bits(removal.hashes), removal.distance)
    )
    indices = [int(next(found)) if there else -1 for there in known]
    return [removal.hashes[index] if index >= 0 else None for index in indices]


def _tables(storage: Storage) -> list[str]:
    """All tables; selections first, ingested tables last: a cut leaves no selection without its rows."""
    first, last = ("t2i_selection/", "edit_selection/"), ("raw_images/", "edit_pairs/")
    return sorted(
        _names(storage, ""), key=lambda name: (not name.startswith(first), name.startswith(last), name)
    )


def _names(storage: Storage, prefix: str) -> list[str]:
    names = [name for name in storage.list(prefix) if name.endswith(TABLE_SUFFIX)]
    return [name.removesuffix(TABLE_SUFFIX) for name in names if not name.startswith(_KEPT)]


def _clean(storage: Storage, name: str, items: frozenset[str]) -> int:
    """Rewrite a table without the rows about these items; how many there were."""
    scan = storage.scan_table(name)
    columns = [c for c in (*ITEM_COLUMNS, "near_duplicate_of") if c in scan.collect_schema()]
    if not columns:
        return 0
    ids = scan.select(columns).collect()
    if not ids.select(pl.any_horizontal(pl.col(c).is_in(list(items)) for c in columns).any()).item():
        return 0
    frame = storage.read_table(name)
    hit = Removal(items).concerns(frame)
    if "path" in frame.columns:
        for path in frame.filter(hit)["path"].drop_nulls():
            if path.startswith("store://"):
                storage.delete(stored_name(path))
    rest = frame.filter(~hit)
    if "near_duplicate_of" in rest.columns:
        other = pl.col("near_duplicate_of")
        rest = rest.with_columns(pl.when(~other.is_in(list(items))).then(other).alias("near_duplicate_of"))
    storage.write_table(name, rest)
    return frame.height - rest.height


def _read_ledger(storage: Storage) -> pl.DataFrame:
    if not storage.exists(f"{LEDGER}{TABLE_SUFFIX}"):
        return pl.DataFrame(schema=_LEDGER)
    return storage.read_table(LEDGER)


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, pl.String).alias(name)
    stripped = pl.col(name).str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(name)


def _wrong(found: str | None) -> str:
    return (
        f"{found!r} is no id: give the SHA-256 of an image or the id of a pair (64 hex digits), or a "
        "perceptual hash (16 hex digits)"
    )
