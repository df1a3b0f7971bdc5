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
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from got_core.corpus.refused import Refused
from got_core.curate import copies
from got_core.curate.config import CurateConfig
from got_core.curate.copies import Readers
from got_core.curate.reach import Reach
from got_core.curate.removal import (
    Removal,
)
from got_core.curate.takedown_lists import (
    JUDGEMENTS,
    LIST,
    add_takedowns,
    is_hash,
    list_digest,
    read_takedowns,
)
from got_core.curate.takedown_work import WORK, Work
from got_core.storage import TABLE_SUFFIX, Storage

__all__ = ["LIST", "Removal", "add_takedowns", "list_digest", "read_takedowns"]

LEDGER = "takedown/ledger"
"""What requests were found to stand for: stored, since the rows that show it are removed."""
_AT_ONCE = 4
"""Tables read side by side."""
_LEDGER = {"request": pl.String(), "item_id": pl.String(), "kind": pl.String()}


class TakenDown(NamedTuple):
    """What a takedown did."""

    ledger: pl.DataFrame
    """request, item_id and kind (image, pair or chain) of all that was ever found for the list."""
    removed: dict[str, int]
    """How many rows were removed now, by table."""
    waiting: pl.DataFrame
    """COPIES that a person has to judge before they go."""
    report: str = ""
    """Name of the report in the storage; "" where there was nothing to do."""


def removal_of(storage: Storage) -> Removal:
    """What the list, the ledger and people's verdicts name now: for whoever makes rows or archives and must
    leave it out."""
    return Removal(frozenset(_requests(storage)))


def refused_at_ingest(storage: Storage) -> Refused:
    """What ingestion refuses: pictures and pairs that the list names or was found to stand for, and pictures
    with the very same pixels. Raises ValueError where a list cannot be understood."""
    requests = _requests(storage)
    if not requests:
        return Refused()
    return Refused(ids=frozenset(requests), pixels=copies.refused_pixels(storage, requests))


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


def take_down(
    storage: Storage, config: CurateConfig, readers: Readers | None = None, reach: Reach | None = None
) -> TakenDown:
    """Remove what the list names from every stored table, tar, latent, page and ledger, and its stored bytes.

    Manifests beside trained stages go whole where they hold any of it: a training that has begun with one
    begins anew. Only shards that hold some of it are opened, where `reach` has indices.

    `readers` open raw pictures, for copies with the very same pixels, for answers about them, and for the
    page of those that wait. Interrupted and run again it goes on; run twice it changes nothing. What is
    taken off the list comes back when its shard is made again.

    Raises:
        ValueError: a list cannot be read.
    """
    reach, readers = reach or Reach(), readers or {}
    listed, requests = read_takedowns(storage), _requests(storage)
    begun = set(storage.read_json(WORK)["shards"]) if storage.exists(WORK) else set[str]()
    hashes = [one for one in listed["id"] if is_hash(one)]
    shards = begun | (reach.shards(storage, requests) if requests or hashes else set())
    exact, waiting = _list_copies(storage, listed, requests, config, readers, reach, shards)
    requests |= exact
    if not requests:
        return TakenDown(pl.DataFrame(schema=_LEDGER), {}, waiting)
    shards |= reach.shards(storage, exact) if exact else set()
    known = _read_ledger(storage)
    ledger = known.filter(pl.col("request").is_in(listed["id"].to_list()))
    ledger = pl.concat([ledger, _resolve(storage, requests, shards)]).unique().sort("request", "item_id")
    if not ledger.equals(known):
        storage.write_table(LEDGER, ledger)  # before the rows that it was found in are gone
    items = frozenset(requests.keys() | set(ledger["item_id"]))
    work = Work(storage, items, readers, reach)
    counts = work.run(sorted(shards), begun)
    if not work.done:
        return TakenDown(ledger, {}, waiting)
    report = work.finish(set(requests.values()), counts)
    return TakenDown(ledger, counts, waiting, report)


def _list_copies(
    storage: Storage,
    listed: pl.DataFrame,
    requests: Mapping[str, str],
    config: CurateConfig,
    readers: Readers,
    reach: Reach,
    shards: Collection[str],
) -> tuple[dict[str, str], pl.DataFrame]:
    """Copies with the very same pixels, with their request, and COPIES that wait; writes table and page."""
    from got_core.curate.copies_page import write_page

    copies.store_prints(storage, requests, readers, shards if reach.indices else None)
    hashes = [one for one in listed["id"] if is_hash(one)]
    near = reach.near(config.takedown_distance)
    found = copies.find_copies(storage, requests, hashes, config, near=near)
    same = copies.same_pixels(storage, found, requests, readers)
    waiting = found.filter(~same)
    if waiting.height or storage.exists(f"{copies.TABLE}{TABLE_SUFFIX}"):
        storage.write_table(copies.TABLE, waiting)
    reasons = dict(listed.drop_nulls("reason").select("id", "reason").iter_rows())
    write_page(storage, waiting, reasons, readers)
    return dict(found.filter(same).select("item_id", "request").iter_rows()), waiting


def _resolve(storage: Storage, requests: Mapping[str, str], shards: Collection[str]) -> pl.DataFrame:
    """request, item_id, kind of what image and pair tables of these shards hold, and of chains about it."""
    goes, rows = list(requests), []
    about = dict(requests)
    for ids in _columns_of(storage, "raw_images/", ["image_id"], shards):
        held = ids.filter(pl.col("image_id").is_in(goes))["image_id"]
        rows += [(requests[image], image, "image") for image in held]
    for ids in _columns_of(storage, "edit_pairs/", ["pair_id", "source_id", "target_id"], shards):
        for pair, *both in ids.iter_rows():
            images = [image for image in both if image in requests]
            rows += [(requests[image], image, "image") for image in images]
            if images or pair in requests:
                about[pair] = requests[images[0] if images else pair]
                rows.append((about[pair], pair, "pair"))
    for folder, key in (("t2i_chains/", "image_id"), ("edit_chains/", "pair_id")):
        for chains in _columns_of(storage, folder, [key, "chain_id"], shards):
            found = chains.drop_nulls().filter(pl.col(key).is_in(list(about))).iter_rows()
            rows += [(about[item], chain, "chain") for item, chain in found]
    return pl.DataFrame(rows, schema=_LEDGER, orient="row")


def _columns_of(
    storage: Storage, folder: str, columns: list[str], shards: Collection[str]
) -> Iterator[pl.DataFrame]:
    """Columns of the tables of these shards in a folder, read side by side."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = _of(storage, folder, shards)
        yield from pool.map(lambda name: storage.scan_table(name).select(columns).collect(), names)


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


def _names(storage: Storage, prefix: str) -> list[str]:
    names = [name for name in storage.list(prefix) if name.endswith(TABLE_SUFFIX)]
    return [name.removesuffix(TABLE_SUFFIX) for name in names]


def _of(storage: Storage, folder: str, shards: Collection[str]) -> list[str]:
    """Tables of these shards in a folder."""
    if not shards:
        return []
    return [name for name in _names(storage, folder) if name.removeprefix(folder) in shards]


def _read_ledger(storage: Storage) -> pl.DataFrame:
    if not storage.exists(f"{LEDGER}{TABLE_SUFFIX}"):
        return pl.DataFrame(schema=_LEDGER)
    return storage.read_table(LEDGER)
