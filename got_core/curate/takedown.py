"""Takedown: images and pairs that must go, from every table, selection, shard and manifest.

What must go is on a list in the storage, `takedown/list.csv`, which a person may edit;
`got data takedown add ID` adds to it. An id is the SHA-256 of an image's bytes or
the id of an edit pair: that goes, with what was made from it, and whatever has the very pixels of the image.
Pictures that look like it are listed for a person first (`copies`), and so are those near to a perceptual
hash on the list, which removes nothing by itself.

Belongs here: what the list stands for, and removing that from stored tables. Not here: the list itself
(`takedown_lists`), which models were trained on it (`trained_on`), and files outside of the storage: the raw
folder is its owner's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from got_core.corpus.store import stored_name
from got_core.curate import copies
from got_core.curate.config import CurateConfig
from got_core.curate.copies import Readers
from got_core.curate.takedown_lists import (
    JUDGEMENTS,
    LIST,
    add_takedowns,
    is_hash,
    list_digest,
    read_takedowns,
)
from got_core.figures import SHOWN
from got_core.storage import TABLE_SUFFIX, Storage

__all__ = ["LIST", "add_takedowns", "list_digest", "read_takedowns"]

LEDGER = "takedown/ledger"
"""What requests were found to stand for: stored, since the rows that show it are removed."""

ITEM_COLUMNS = ("image_id", "source_id", "target_id", "pair_id", "item_id", "chain_id", "sample_id")
"""Columns that name an image, a pair or a chain, in any table."""

_UNTOUCHED = (
    "takedown/",
    "manifests/",
    "training_shards/",
    "latent_shards/",
    "item_index/",
    "taken_down.parquet",
    "training_manifest.parquet",
)
"""Records of what was done; indices of tars and latents, which go with them; the index of ids, which
holds none; the manifest, made anew from the
list."""

_LEDGER = {"request": pl.String(), "item_id": pl.String(), "kind": pl.String()}


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


class TakenDown(NamedTuple):
    """What a takedown did."""

    ledger: pl.DataFrame
    """request, item_id and kind (image, pair or chain) of all that was ever found for the list."""
    removed: dict[str, int]
    """How many rows were removed now, by table."""
    waiting: pl.DataFrame
    """COPIES that a person has to judge before they go."""


def removal_of(storage: Storage) -> Removal:
    """What the list, the ledger and people's verdicts name now: for whoever makes rows or archives and must
    leave it out."""
    return Removal(frozenset(_requests(storage)))


@dataclass(frozen=True)
class CurrentRemoval:
    """What has to go as of now, for a training that runs: also before the next ``take_down`` removes it.

    Picklable, where the readers are; changes nothing in the storage.
    """

    config: CurateConfig
    readers: Readers

    def version(self, storage: Storage) -> str:
        """Changes with the lists and with what they were found to stand for.

        Raises OSError or StoreUnavailableError where the storage cannot be read.
        """
        names = (LIST, JUDGEMENTS, f"{LEDGER}{TABLE_SUFFIX}")
        found = (storage.read_bytes(name) if storage.exists(name) else b"" for name in names)
        return hashlib.sha256(b"\0".join(hashlib.sha256(one).digest() for one in found)).hexdigest()

    def items(self, storage: Storage) -> frozenset[str]:
        """Ids of images, pairs and chains that the list names, and of images with the very same pixels.

        Raises ValueError where a list cannot be understood, else as :meth:`version`.
        """
        requests = _requests(storage)
        prints = copies.prints_with(storage, requests, self.readers)
        found = copies.find_copies(storage, requests, [], self.config, prints)
        same = copies.same_pixels(storage, found, requests, self.readers, prints)
        return frozenset(requests) | frozenset(found.filter(same)["item_id"])


def _requests(storage: Storage) -> dict[str, str]:
    """Every id that goes, with the request on the list that it goes for."""
    listed = read_takedowns(storage)["id"].to_list()
    ledger = _read_ledger(storage).filter(pl.col("request").is_in(listed))
    found = dict(ledger.select("item_id", "request").iter_rows())
    return found | copies.confirmed(storage, listed) | {one: one for one in listed if not is_hash(one)}


def resolve_requests(storage: Storage, ids: Iterable[str]) -> set[str]:
    """The ids, and the images, pairs and chains that requests of these ids were found to stand for."""
    requested = set(ids)
    return requested | set(_read_ledger(storage).filter(pl.col("request").is_in(list(requested)))["item_id"])


def request_status(storage: Storage, ids: Collection[str]) -> dict[str, str]:
    """What is known of each id on the list, in words: what it stands for, or that nothing matches it."""
    ledger = _read_ledger(storage).filter(pl.col("request").is_in(list(ids)))
    waiting, prints = copies.waiting_copies(storage), copies.with_prints(storage)
    kinds: dict[str, dict[str, int]] = {}
    for request, kind, count in ledger.group_by("request", "kind").len().sort("kind").iter_rows():
        kinds.setdefault(request, {})[kind] = count
    stored = _present(storage, {one for one in ids if one not in kinds and not is_hash(one)})
    return {
        one: _item_status(one, kinds.get(one, {}), one in stored)
        + _copies_status(one, kinds.get(one, {}), waiting, one in prints)
        for one in ids
    }


def _item_status(one: str, kinds: Mapping[str, int], stored: bool) -> str:
    if kinds:
        return "removed: " + ", ".join(f"{count} {kind}(s)" for kind, count in kinds.items())
    if is_hash(one):
        return "a perceptual hash removes nothing by itself; pictures near to it are listed as copies"
    return (
        "found; the next run removes it"
        if stored
        else "matches nothing that is stored; should it come, it will be removed"
    )


def _copies_status(one: str, kinds: Mapping[str, int], waiting: pl.DataFrame, known: bool) -> str:
    if "image" in kinds and not is_hash(one) and not known:
        return "; its fingerprint was not kept, so copies are not looked for"
    count = waiting.filter(pl.col("request") == one).height
    return f"; {count} copies wait to be judged" if count else ""


def take_down(storage: Storage, config: CurateConfig, readers: Readers | None = None) -> TakenDown:
    """Remove what the list names from every stored table, tar, latent and page, and its stored bytes.

    Manifests beside trained stages go whole where they hold any of it: a training that has begun with one
    begins anew.

    `readers` open raw pictures, for copies with the very same pixels, and for the page of those that wait.
    Interrupted and run again it goes on; run twice it changes nothing. What is taken off the list comes back
    when its shard is made again.

    Raises:
        ValueError: a list cannot be read.
    """
    from got_core.curate import training_shards
    from got_core.curate.gallery import delete_pages  # brings matplotlib
    from got_core.train.data.manifest_file import stored_manifests  # brings pyarrow
    from got_core.train.latents import parts

    listed, requests = read_takedowns(storage), _requests(storage)
    exact, waiting = _list_copies(storage, listed, requests, config, readers or {})
    requests |= exact
    if not requests:
        return TakenDown(pl.DataFrame(schema=_LEDGER), {}, waiting)
    ledger = _read_ledger(storage).filter(pl.col("request").is_in(listed["id"].to_list()))
    ledger = pl.concat([ledger, _resolve(storage, requests)]).unique().sort("request", "item_id")
    storage.write_table(LEDGER, ledger)  # before the rows that it was found in are gone
    items = requests.keys() | set(ledger["item_id"])
    counts = {name: _clean(storage, name, frozenset(items)) for name in _tables(storage)}
    counts |= {name: _delete_manifest(storage, name, items) for name in stored_manifests(storage)}
    counts[training_shards.FOLDER] = len(training_shards.remove(storage, items).samples)
    counts[parts.FOLDER] = len(parts.remove(storage, items).samples)
    counts["pages"] = len(delete_pages(storage, items)) + _delete_shown(storage, counts)
    return TakenDown(ledger, {name: count for name, count in counts.items() if count}, waiting)


def _list_copies(
    storage: Storage,
    listed: pl.DataFrame,
    requests: Mapping[str, str],
    config: CurateConfig,
    readers: Readers,
) -> tuple[dict[str, str], pl.DataFrame]:
    """Copies with the very same pixels, with their request, and COPIES that wait; writes table and page."""
    from got_core.curate.copies_page import write_page

    copies.store_prints(storage, requests, readers)
    hashes = [one for one in listed["id"] if is_hash(one)]
    found = copies.find_copies(storage, requests, hashes, config)
    same = copies.same_pixels(storage, found, requests, readers)
    waiting = found.filter(~same)
    if waiting.height or storage.exists(f"{copies.TABLE}{TABLE_SUFFIX}"):
        storage.write_table(copies.TABLE, waiting)
    reasons = dict(listed.drop_nulls("reason").select("id", "reason").iter_rows())
    write_page(storage, waiting, reasons, readers)
    return dict(found.filter(same).select("item_id", "request").iter_rows()), waiting


def _resolve(storage: Storage, requests: Mapping[str, str]) -> pl.DataFrame:
    """request, item_id, kind of what the stored image and pair tables hold, and of the chains about it."""
    goes, rows = list(requests), []
    about = dict(requests)
    for name in _names(storage, "raw_images/"):
        ids = storage.scan_table(name).select("image_id").filter(pl.col("image_id").is_in(goes)).collect()
        rows += [(requests[image], image, "image") for image in ids["image_id"]]
    for name in _names(storage, "edit_pairs/"):
        ids = storage.scan_table(name).select("pair_id", "source_id", "target_id").collect()
        for pair, *both in ids.iter_rows():
            images = [image for image in both if image in requests]
            rows += [(requests[image], image, "image") for image in images]
            if images or pair in requests:
                about[pair] = requests[images[0] if images else pair]
                rows.append((about[pair], pair, "pair"))
    for folder, key in (("t2i_chains/", "image_id"), ("edit_chains/", "pair_id")):
        for name in _names(storage, folder):
            chains = storage.scan_table(name).select(key, "chain_id").drop_nulls().collect()
            found = chains.filter(pl.col(key).is_in(list(about))).iter_rows()
            rows += [(about[item], chain, "chain") for item, chain in found]
    return pl.DataFrame(rows, schema=_LEDGER, orient="row")


def _present(storage: Storage, ids: Collection[str]) -> set[str]:
    """Those of the ids that name an image or a pair of the stored tables."""
    found: set[str] = set()
    for folder, columns in (
        ("raw_images/", ["image_id"]),
        ("edit_pairs/", ["pair_id", "source_id", "target_id"]),
    ):
        for name in _names(storage, folder) if ids else ():
            held = storage.scan_table(name).select(columns).collect()
            found |= {one for column in held.get_columns() for one in column if one in ids}
    return found


def _tables(storage: Storage) -> list[str]:
    """All tables; selections first, ingested tables last: a cut leaves no selection without its rows."""
    first, last = ("t2i_selection/", "edit_selection/"), ("raw_images/", "edit_pairs/")
    return sorted(
        _names(storage, ""), key=lambda name: (not name.startswith(first), name.startswith(last), name)
    )


def _names(storage: Storage, prefix: str) -> list[str]:
    names = [name for name in storage.list(prefix) if name.endswith(TABLE_SUFFIX)]
    return [name.removesuffix(TABLE_SUFFIX) for name in names if not name.startswith(_UNTOUCHED)]


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


def _delete_shown(storage: Storage, removed: Mapping[str, int]) -> int:
    """Delete pictures and texts that pages of Dagster show of shards which lost rows; how many folders."""
    shards = {name.rpartition("/")[2] for name, count in removed.items() if count and "/" in name}
    shown = [f"{asset}/{shard}" for asset in storage.folders(SHOWN) for shard in sorted(shards)]
    there = [folder for folder in shown if storage.list(f"{folder}/")]
    for folder in there:
        storage.delete(folder)
    return len(there)


def _delete_manifest(storage: Storage, name: str, items: Collection[str]) -> int:
    """Delete a manifest's file if it holds any of the items, or cannot be read; how many rows of them."""
    from got_core.train.data.manifest_file import ManifestFileError, MappedManifest, stored_hash

    try:
        held = MappedManifest(storage.download(name), stored_hash(storage, name) or "")
        count = sum(1 for _ in held.found(ITEM_COLUMNS, items))
    except ManifestFileError:
        count = 1
    if count:
        storage.delete(name)
    return count


def _read_ledger(storage: Storage) -> pl.DataFrame:
    if not storage.exists(f"{LEDGER}{TABLE_SUFFIX}"):
        return pl.DataFrame(schema=_LEDGER)
    return storage.read_table(LEDGER)
