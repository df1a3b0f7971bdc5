"""Durable lists of what belongs to which shard.

Belongs here: appending raw files and pair-table rows that are not listed yet as new shards. A list that
exists never changes, so a partition always means the same input. Does not belong here: finding raw files
(``listing``), opening pictures (``ingest``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.listed import Listed
from got_core.corpus.pair_table import EDIT_KEY, read_pair_table
from got_core.corpus.schemas import EDIT_LIST, IMAGE_LIST, frame_of, polars_schema
from got_core.storage import Storage

Kind = Literal["images", "edits"]

_PASSED_OVER = "shards/passed_over.json"
_TAR_BYTES_A_PICTURE = 100_000
"""A guess that decides only how many small tars make up a shard."""


def shard_names(storage: Storage, kind: Kind) -> list[str]:
    """Names of the shards assigned so far ("images-00000" ...), sorted."""
    names = storage.list(f"shards/{kind}-")
    return [PurePosixPath(name).stem for name in names if name.endswith(".parquet")]


def read_shard(storage: Storage, shard: str) -> pl.DataFrame:
    """A shard's list (:data:`IMAGE_LIST` or :data:`EDIT_LIST`). Raises FileNotFoundError if not assigned."""
    frame = storage.read_table(f"shards/{shard}")
    columns = IMAGE_LIST if shard.startswith("images-") else EDIT_LIST
    new = {name: dtype for name, (dtype, _) in columns.items() if name not in frame.columns}  # an older list
    frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in new.items())
    return frame.with_columns(kind=pl.lit("file")) if "kind" in new else frame


class ImageShards:
    """Appends what no shard lists yet as new shards, in bounded memory however much is listed.

    A shard is full before the next one begins; :meth:`flush` writes what is left. Several processes may
    append at the same moment; nothing is listed twice.
    """

    def __init__(self, storage: Storage, config: IngestConfig) -> None:
        self._storage, self._size = storage, config.image_shard_size
        self._listed = Listed(storage)
        self._rest = frame_of([], IMAGE_LIST)

    def catch_up(self, until: float | None = None) -> bool:
        """Make ready; see :meth:`Listed.catch_up`. Nothing may be taken before this says True."""
        return self._listed.catch_up(until)

    def take(self, found: pl.DataFrame) -> None:
        """Entries (:data:`IMAGE_LIST`) in their order; full shards are written, the rest waits."""
        self._rest = pl.concat([self._rest, self._listed.unlisted(found)])
        self._write(keep=1)

    def flush(self) -> None:
        """Write what is left as a last shard."""
        self._write(keep=0)

    def tidy(self) -> None:
        """Remove what the index no longer uses."""
        self._listed.sweep_out()

    def _write(self, keep: int) -> None:
        """Write all but the last `keep` shards that the entries at hand make up."""
        while True:
            parts = [part for part in _cut(self._rest, self._size) if part.height]
            ready = parts[: len(parts) - keep]
            if not ready:
                return
            first, names = self._listed.next_number, []
            try:
                for number, part in enumerate(ready, first):
                    self._storage.write_table(f"shards/images-{number:05d}", part, exclusive=True)
                    names.append(f"shards/images-{number:05d}")
            except FileExistsError:  # another process appended at the same moment: look what is left
                self._listed.catch_up()
                self._rest = self._listed.unlisted(self._rest)
                continue
            self._rest = pl.concat([self._rest.clear(), *parts[len(ready) :]])
            self._listed.add(pl.concat(ready), names)
            return


def assign_image_shards(
    storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None
) -> list[str]:
    """Look through all inputs once and append what no shard lists yet as new shards.

    Files count by path, size and the store's tag of their content, or their time of change where there is
    none; URLs by themselves. A shard holds entries of one input. See ``sweep`` for the same in steps.

    Every file of a folder with a picture's name counts (see ``sieve``); what cannot be read as one (folders
    that may not be listed or lie behind links that lead out, names that are not UTF-8) is listed with its
    problem, so that it too ends in quarantine. What is no input is only counted: :func:`passed_over`.
    A tar is one entry; a parquet file with pictures one for each part of a shard's size. Two processes may
    assign at the same moment; nothing is listed twice.

    Returns:
        The names of all image shards, sorted.

    Raises:
        FileNotFoundError: the raw folder, archive, table or list does not exist, or no name fits the pattern.
        NotADirectoryError: the raw folder is a file.
        ValueError: a list of inputs or a table that cannot be used; the message names the file.
    """
    from got_core.corpus.sweep import sweep_all

    sweep_all(storage, raw_url, config, fs_options)
    return shard_names(storage, "images")


def note_passed_over(storage: Storage, counts: Mapping[str, int]) -> None:
    """Keep what :func:`passed_over` returns."""
    if counts != passed_over(storage):
        storage.write_json(_PASSED_OVER, dict(counts))


def passed_over(storage: Storage) -> dict[str, int]:
    """How many files the latest listing of images found that are no input, by kind (see ``sieve``)."""
    try:
        return storage.read_json(_PASSED_OVER)
    except FileNotFoundError:
        return {}


def assign_edit_shards(
    storage: Storage, edits_url: str, config: IngestConfig, fs_options: dict | None = None
) -> list[str]:
    """Append rows of the pair table that no shard lists yet (by content) as new shards, in the table's order.

    Rows of equal content are listed once, with their number.

    Returns:
        The names of all edit shards, sorted.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: as :func:`got_core.corpus.pair_table.read_pair_table`.
    """
    found = read_pair_table(edits_url, fs_options)
    while True:
        names = shard_names(storage, "edits")
        new = found.join(
            _listed_pairs(storage, names), on=EDIT_KEY, how="anti", nulls_equal=True, maintain_order="left"
        )
        if new.is_empty():
            return names
        number = 1 + int(names[-1].rpartition("-")[2]) if names else 0
        try:
            for index, part in enumerate(_cut(new, config.edit_shard_size)):
                storage.write_table(f"shards/edits-{number + index:05d}", part, exclusive=True)
        except FileExistsError:
            continue  # another process assigned at the same moment: look again at what is left
        return shard_names(storage, "edits")


def _listed_pairs(storage: Storage, names: list[str]) -> pl.DataFrame:
    empty = pl.DataFrame(schema=polars_schema(EDIT_LIST)).select(EDIT_KEY)
    return pl.concat([empty, *(read_shard(storage, name).select(EDIT_KEY) for name in names)])


def _cut(frame: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """Slices of about `size` pictures each: an entry that holds many counts as many."""
    start, filled = 0, 0
    for index, weight in enumerate(_weights(frame)):
        if filled and filled + weight > size:
            yield frame.slice(start, index - start)
            start, filled = index, 0
        filled += weight
    yield frame.slice(start)


def _weights(frame: pl.DataFrame) -> list[int]:
    if "kind" not in frame.columns:
        return [1] * frame.height
    tars = pl.when(pl.col("kind") == "tar").then(pl.col("bytes") // _TAR_BYTES_A_PICTURE)
    return frame.select(pl.max_horizontal(pl.coalesce("count", tars, 1), 1)).to_series().to_list()
