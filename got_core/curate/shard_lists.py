"""What lists of people say about each shard, as a version: takedowns, verdicts, pictures of benchmarks.

A shard's version changes with those entries of a list that touch rows of the shard, and with nothing else: an
entry that matches nothing changes no version. NOTHING is the version of a shard that no entry touches.

Belongs here: which entries touch which shard. Not here: the lists (`takedown_lists`, `review`, `benchmarks`),
the index of ids (`got_core.corpus.item_index`), and what is made from rows and lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from got_core.corpus.duplicates import hash_bits
from got_core.corpus.hamming import nearest
from got_core.corpus.item_index import PRINT_COLUMNS, ItemIndex, Kind
from got_core.curate.copies import confirmed
from got_core.curate.review import latest, load_verdicts
from got_core.curate.takedown_lists import is_hash, read_takedowns
from got_core.digests import digest
from got_core.frame_hash import content_hash
from got_core.storage import TABLE_SUFFIX, Storage
from got_core.table_columns import read_columns

NOTHING = "none"
PLACES = "takedown/places"
"""Shards in which listed ids were found. Kept, since a takedown removes the rows that show it."""
CONTAMINATION = "contamination"

_PLACES = {"id": pl.String(), "shard": pl.String()}
_READERS = 16


def takedown_ids(storage: Storage) -> set[str]:
    """Ids of pictures and pairs that the list names, and of what people called copies of them.

    Raises ValueError where a list cannot be understood, naming the row.
    """
    listed = read_takedowns(storage)["id"].to_list()
    return {one for one in listed if not is_hash(one)} | set(confirmed(storage, listed))


def takedown_versions(storage: Storage, indices: Iterable[ItemIndex]) -> dict[str, str]:
    """By shard that holds, or held, an id of the takedown list: digest of the ids. Raises ValueError."""
    ids, indices = takedown_ids(storage), list(indices)
    before = storage.read_table(PLACES) if storage.exists(f"{PLACES}{TABLE_SUFFIX}") else _no_places()
    held = [before, *(index.places(ids) for index in indices)] if ids else [_no_places()]
    shards = [shard for index in indices for shard in index.versions]
    places = pl.concat(held).filter(pl.col("id").is_in(list(ids)), pl.col("shard").is_in(shards))
    places = places.unique().sort("shard", "id")
    if not places.equals(before):
        storage.write_table(PLACES, places)
    return {str(shard): digest(rows["id"].to_list()) for (shard,), rows in _by_shard(places)}


def verdict_versions(storage: Storage, indices: Iterable[ItemIndex]) -> dict[str, str]:
    """By shard with a reviewed chain: digest of the verdicts that count."""
    verdicts = latest(load_verdicts(storage)).drop("error", "reason")
    if verdicts.is_empty():
        return {}
    found = pl.concat(index.places(verdicts["chain_id"]) for index in indices)
    rows = found.rename({"id": "chain_id"}).join(verdicts, on="chain_id", how="left").sort("chain_id")
    return {str(shard): content_hash(part)[:12] for (shard,), part in _by_shard(rows)}


def contamination_versions(
    storage: Storage, kind: Kind, tables: Mapping[str, str], benchmark: pl.DataFrame, distance: int
) -> dict[str, str]:
    """By shard with pictures that nearly equal one of a BENCHMARK: digest of those pictures and entries.

    `tables`: shards with the version of their ingested table. A shard is compared again only where that, the
    benchmark or `distance` has changed.
    """
    with_what = digest([content_hash(benchmark), distance])
    name = f"{CONTAMINATION}/{kind}.json"
    known: dict[str, Any] = storage.read_json(name) if storage.exists(name) else {}
    wanted = {shard: f"{version}-{with_what}" for shard, version in tables.items()}
    new = [shard for shard, version in wanted.items() if known.get(shard, [None])[0] != version]
    with ThreadPoolExecutor(_READERS) as pool:
        hits = pool.map(lambda shard: _hit(storage, kind, shard, benchmark, distance), new)
        found = dict(zip(new, hits, strict=True))
    state = {
        shard: [version, found[shard] if shard in found else known[shard][1]]
        for shard, version in wanted.items()
    }
    if state != known:
        storage.write_json(name, state)
    return {shard: said for shard, (_, said) in state.items() if said != NOTHING}


def whole_version(*versions: Mapping[str, str]) -> str:
    """Changes with any shard's version, and not with entries that touch no shard."""
    lines = sorted(f"{shard}={version}" for one in versions for shard, version in one.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] if lines else NOTHING


def _hit(storage: Storage, kind: Kind, shard: str, benchmark: pl.DataFrame, distance: int) -> str:
    """Digest of the shard's hashes that nearly equal one of the benchmark, with that one."""
    table, columns = PRINT_COLUMNS[kind]
    try:
        frame = read_columns(storage, f"{table}/{shard}", columns)
    except FileNotFoundError:
        return NOTHING
    hashes = pl.concat(frame[column].alias("phash") for column in columns).drop_nulls().unique().sort()
    found = nearest(hash_bits(hashes.to_list()), hash_bits(benchmark["phash"].to_list()), distance)
    entries = benchmark.rows()
    pairs = [[one, *entries[number]] for one, number in zip(hashes, found, strict=True) if number >= 0]
    return digest(pairs) if pairs else NOTHING


def _no_places() -> pl.DataFrame:
    return pl.DataFrame(schema=_PLACES)


def _by_shard(rows: pl.DataFrame) -> Iterable[tuple[tuple[Any, ...], pl.DataFrame]]:
    return rows.group_by("shard", maintain_order=True)
