"""Removing items from the shards that hold them, and from what is kept for all shards together.

Belongs here: the order of the work, and going on after a kill. Not here: what has to go (`takedown`), and
how rows leave a table (`removal`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from got_core.annotate.ledger_removal import remove_answers
from got_core.curate.archived_rows import move_archived
from got_core.curate.copies import Readers
from got_core.curate.reach import Reach
from got_core.curate.removal import (
    ITEM_COLUMNS,
    clean_shard_log,
    clean_table,
    clean_texts,
    counted,
    read_tables,
    shard_tables,
    traces_of,
)
from got_core.curate.takedown_report import write_report
from got_core.digests import digest
from got_core.figures import SHOWN
from got_core.storage import TABLE_SUFFIX, Storage

WORK = "takedown/work.json"
"""Shards of a takedown that is under way."""
APPLIED = "takedown/applied.json"
"""Digest of the ids that the last finished takedown removed."""

_AT_ONCE = 4
"""Shards side by side."""


class Work:
    """One takedown of items: a few shards at a time, then what is not kept by shard.

    Args:
        storage: where they go from.
        items: ids of images, pairs and chains.
        readers: open raw pictures, for answers about them.
        reach: holds shards, and is told of those that were rewritten.
    """

    def __init__(self, storage: Storage, items: frozenset[str], readers: Readers, reach: Reach) -> None:
        self._storage, self._items, self._readers, self._reach = storage, items, readers, reach
        self._digest = digest(sorted(items))
        self.unreadable: list[str] = []
        self._news = True
        self.done = False
        """Whether there was anything to do."""

    def run(self, shards: Sequence[str], begun: Collection[str]) -> dict[str, int]:
        """Rows removed now, by place. `begun`: shards of which an interrupted run may have rewritten some."""
        storage = self._storage
        applied: dict[str, Any] = storage.read_json(APPLIED) if storage.exists(APPLIED) else {}
        self._news = bool(begun) or applied.get("items") != self._digest
        if not shards and not self._news:
            return {}
        storage.write_json(WORK, {"shards": [*shards]})
        counts: dict[str, int] = {}
        tables = shard_tables(storage, shards)
        for start in range(0, len(shards), _AT_ONCE):
            counts |= self._some(shards[start : start + _AT_ONCE], tables, begun)
        counts |= self._whole(bool(begun))
        self.done = True
        return {name: count for name, count in counts.items() if count}

    def finish(self, requests: Collection[str], counts: Mapping[str, int]) -> str:
        """Note that all of it was done; returns the name of the report, "" where nothing was new."""
        news = self._news or bool(counts)
        report = write_report(self._storage, requests, counts, self.unreadable) if news else ""
        self._storage.write_json(APPLIED, {"items": self._digest})
        self._storage.delete(WORK)
        return report

    def _some(
        self, shards: Sequence[str], tables: Mapping[str, Sequence[str]], begun: Collection[str]
    ) -> dict[str, int]:
        """A few shards side by side, all of them held meanwhile."""
        found: dict[str, int] = {}
        with ExitStack() as held, ThreadPoolExecutor(_AT_ONCE) as pool:
            for shard in shards:
                held.enter_context(self._reach.lease(shard))
            for shard, counts in zip(
                shards, pool.map(lambda one: self._shard(one, tables.get(one, ())), shards), strict=True
            ):
                mine = tables.get(shard, ())
                if shard in begun or any(counts.get(table) is not None for table in mine):
                    self._reach.rewritten(shard, mine)
                found |= counts
        return found

    def _shard(self, shard: str, tables: Sequence[str]) -> dict[str, int]:
        from got_core.curate import training_shards
        from got_core.curate.gallery import delete_pages  # brings matplotlib
        from got_core.train.latents import parts

        storage, items = self._storage, self._items
        frames = read_tables(storage, tables)
        answers = remove_answers(storage, shard, traces_of(frames.values(), items, self._readers))
        self.unreadable += answers.unreadable
        counts = counted({name: clean_table(storage, name, items, frames[name]) for name in tables})
        counts |= {
            f"ledger/{shard}": answers.answers,
            f"fetched/{shard}": clean_shard_log(storage, shard, items),
        }
        counts[f"{training_shards.FOLDER}/{shard}"] = len(
            training_shards.remove(storage, items, [shard]).samples
        )
        counts[f"{parts.FOLDER}/{shard}"] = len(parts.remove(storage, items, [shard]).samples)
        pages = delete_pages(storage, items, [shard])
        counts[f"pages/{shard}"] = len(pages) + (_delete_shown(storage, shard) if counts or pages else 0)
        return counts

    def _whole(self, begun: bool) -> dict[str, int]:
        """What is kept for all shards together."""
        from got_core.train.data.manifest_file import stored_manifests  # brings pyarrow

        storage, items = self._storage, self._items
        roots = [one.removesuffix(TABLE_SUFFIX) for one in storage.top()[1] if one.endswith(TABLE_SUFFIX)]
        roots = [one for one in roots if one != "taken_down"]
        counts = counted({name: clean_table(storage, name, items) for name in roots})
        if counts or begun:
            self._reach.rewritten(None, roots)
        for folder in ("imported/", "reviews/"):
            names = (one for one in storage.list(folder) if one.endswith(TABLE_SUFFIX))
            tables = (one.removesuffix(TABLE_SUFFIX) for one in names)
            counts |= counted({name: clean_table(storage, name, items) for name in tables})
        counts |= {name: _delete_manifest(storage, name, items) for name in stored_manifests(storage)}
        counts |= move_archived(storage, items)
        stems = {one.partition(".")[0] for one in storage.top()[1]}
        counts["pages"] = clean_texts(storage, items, [one for one in _shown(storage) if one in stems])
        return counts


def _shown(storage: Storage) -> list[str]:
    return [folder.rpartition("/")[2] for folder in storage.folders(SHOWN)]


def _delete_shown(storage: Storage, shard: str) -> int:
    """Delete pictures and texts that pages of Dagster show of a shard which lost rows; how many folders."""
    there = [
        one for one in (f"{SHOWN}/{asset}/{shard}" for asset in _shown(storage)) if storage.list(f"{one}/")
    ]
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
