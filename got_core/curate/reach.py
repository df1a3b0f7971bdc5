"""In which shards a takedown works, and what it does around each: found by the index of ids.

Belongs here: which shards. Not here: the index itself (`got_core.corpus.item_index`), and what is done in a
shard (`takedown`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from got_core.annotate.ledger import FOLDER as LEDGER
from got_core.corpus.item_index import ID_COLUMNS, ItemIndex
from got_core.storage import TABLE_SUFFIX, Storage


def _alone(_: str) -> AbstractContextManager[object]:
    return nullcontext()


def _untold(_: str | None, __: Sequence[str]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How shards are found and held. Without indices every shard is looked at."""

    indices: tuple[ItemIndex, ...] = ()
    """Of all kinds, brought up to date; or none."""
    lease: Callable[[str], AbstractContextManager[object]] = field(default=_alone)
    """Held while a shard is rewritten."""
    rewritten: Callable[[str | None, Sequence[str]], None] = field(default=_untold)
    """Called with a shard (None: tables without shards) and its tables after some were rewritten."""

    def shards(self, storage: Storage, ids: Iterable[str]) -> set[str]:
        """Shards that hold one of the ids, and those that no index knows."""
        known = {shard for index in self.indices for shard in index.versions}
        stored = _shards_with_tables(storage) | _shards_with_folders(storage)
        wanted = [*ids]
        held = {one for index in self.indices if wanted for one in index.places(wanted)["shard"]}
        return held | (stored - known)

    def near(self, distance: int) -> Callable[[np.ndarray], Collection[str]] | None:
        """What finds shards with pictures near to hashes; None where all are looked at."""
        if not self.indices:
            return None
        return lambda hashes: {one for index in self.indices for one in index.shards_near(hashes, distance)}


def _shards_with_tables(storage: Storage) -> set[str]:
    return {
        name.removesuffix(TABLE_SUFFIX).rpartition("/")[2]
        for tables in ID_COLUMNS.values()
        for folder in tables
        for name in storage.list(f"{folder}/")
        if name.endswith(TABLE_SUFFIX)
    }


def _shards_with_folders(storage: Storage) -> set[str]:
    """Shards of which answers, tars or latents are there, whether or not their tables still are."""
    from got_core.curate import training_shards  # bring pyarrow
    from got_core.train.latents import key

    keys = storage.folders(key.FOLDER)
    folders = [one for parent in (LEDGER, training_shards.FOLDER, *keys) for one in storage.folders(parent)]
    names = {folder.rpartition("/")[2] for folder in folders}
    return {name for name in names if name.startswith(tuple(f"{kind}-" for kind in ID_COLUMNS))}
