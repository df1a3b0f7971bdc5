"""New entries become new shards of images.

Belongs here: cutting entries into shards and writing their lists, by several processes at once. Does not
belong here: which entries there are (``listing``, ``sweep``) and which are listed (``listed``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.listed import Listed
from got_core.corpus.restamped import Restamping
from got_core.corpus.schemas import IMAGE_LIST, frame_of
from got_core.storage import Storage

PASSED_OVER = "shards/passed_over.json"
_TAR_BYTES_A_PICTURE = 100_000
"""A guess that decides only how many small tars make up a shard."""


class ImageShards:
    """Appends what no shard lists yet as new shards, in bounded memory however much is listed.

    A shard is full before the next one begins; :meth:`flush` writes what is left. Several processes may
    append at the same moment; nothing is listed twice.
    """

    def __init__(
        self, storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None
    ) -> None:
        self._storage, self._size = storage, config.image_shard_size
        self._listed = Listed(storage)
        self._restamping = Restamping(
            storage=storage, raw_url=raw_url, config=config, fs_options=fs_options or {}
        )
        self._rest = frame_of([], IMAGE_LIST)

    def catch_up(self, until: float | None = None) -> bool:
        """Make ready; see :meth:`Listed.catch_up`. Nothing may be taken before this says True."""
        return self._listed.catch_up(until)

    def take(self, found: pl.DataFrame) -> None:
        """Entries (:data:`IMAGE_LIST`) in their order; full shards are written, the rest waits. What is
        listed with another date or tag, and holds what was ingested, is not new (see ``restamped``)."""
        new = self._restamping.settle(self._listed, self._listed.unlisted(found))
        self._rest = pl.concat([self._rest, new])
        self._write(keep=1)

    @property
    def names(self) -> list[str]:
        """Names of all shards of images, sorted."""
        return self._listed.names

    def flush(self) -> None:
        """Write what is left as a last shard."""
        self._write(keep=0)

    def tidy(self) -> None:
        """Remove what the index no longer uses."""
        self._listed.sweep_out()

    def _write(self, keep: int) -> None:
        """Write all but the last `keep` shards that the entries at hand make up."""
        while True:
            parts = [part for part in cut(self._rest, self._size) if part.height]
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


def note_passed_over(storage: Storage, counts: Mapping[str, int]) -> None:
    """Keep what ``shards.passed_over`` returns."""
    if not storage.exists(PASSED_OVER) or storage.read_json(PASSED_OVER) != counts:
        storage.write_json(PASSED_OVER, dict(counts))


def cut(frame: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
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
