"""Pictures read from training tars, each sample in one ranged read; from raw files where no tar has them.

Belongs here: a sample's bytes. Not here: which sample lies where (``places``), how a tar is built
(``got_core.corpus.sample_tars``), patience (``pictures``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.sample_tars import sample_members
from got_core.corpus.tar_storage import TarStorage
from got_core.storage import Storage
from got_core.train.data.pictures import PatientReader, PictureCare
from got_core.train.data.sources.places import Place, TarPlaces, part_of
from got_core.train.data.sources.protocol import Content, Pictures, SampleSource
from got_core.train.data.sources.raw import decoded


class _Files(NamedTuple):
    """Bytes of a sample's pictures, and how errors call it."""

    name: str
    target: bytes
    source: bytes | None


class Tars:
    """A source of training tars.

    A tar that a takedown has rewritten meanwhile is looked up anew in its index; what is no longer there is
    read from its raw files.

    Args:
        storage: that holds the tars.
        places: where each row lies.
        sample_id: of a row.
        raw: reads the rows that are in no tar.
        limits: of decoding.
        care: patience; None: one try of each sample.
    """

    def __init__(
        self,
        storage: Storage,
        places: TarPlaces,
        sample_id: Callable[[int], str],
        raw: SampleSource,
        limits: IngestConfig,
        care: PictureCare | None = None,
    ) -> None:
        self._storage, self._places, self._sample_id = storage, places, sample_id
        self._raw, self._limits, self._care = raw, limits, care
        self._start()

    def _start(self) -> None:
        self._tars = TarStorage(self._storage)
        self._reader = PatientReader(self._files, self._care, self._sample_id)
        self._looked_up: dict[str, dict[str, Place]] = {}
        """Parts whose tar was rewritten since: places by sample."""
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_tars", "_reader", "_looked_up", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()

    def read(self, rows: Sequence[int]) -> list[Content | Exception]:
        """See ``SampleSource``."""
        packed = [row for row in rows if self._places.has(row)]
        files = dict(zip(packed, self._reader.all(packed), strict=True))
        others = [row for row in rows if files.get(row) is None]
        found = dict(zip(others, self._raw.read(others), strict=True)) if others else {}
        return [self._pictures(one) if (one := files.get(row)) is not None else found[row] for row in rows]

    def _files(self, row: int) -> _Files | None:
        """The files of a sample; None where no tar has it any more."""
        sample_id, place = self._sample_id(row), self._places.of(row)
        if (part := part_of(place.tar)) in self._looked_up:
            if sample_id not in self._looked_up[part]:
                return None
            place = self._looked_up[part][sample_id]
        try:
            return self._members(sample_id, place)
        except (FileNotFoundError, ValueError) as error:
            moved = self._looked_up_again(part).get(sample_id)
            if moved is None:
                return None
            if moved == place:
                raise ImageError("bad_archive", f"{place.tar}: {error}") from error
            return self._members(sample_id, moved)

    def _members(self, sample_id: str, place: Place) -> _Files:
        data = self._tars.read(place.tar, place.offset, place.size)
        target = source = None
        for ending, member in sample_members(data, sample_id, place.tar, place.size):
            if ending.startswith("source."):
                source = member
            elif ending != "json":
                target = member
        if target is None:
            raise ValueError(f"{place.tar} holds no picture of {sample_id}")
        return _Files(f"{place.tar}/{sample_id}", target, source)

    def _looked_up_again(self, part: str) -> dict[str, Place]:
        with self._lock:
            try:
                index = self._storage.read_table(part).drop_nulls("tar")
            except FileNotFoundError:
                self._looked_up[part] = {}
            else:
                rows = index.select("sample_id", "tar", "offset", "size").iter_rows()
                self._looked_up[part] = {sample_id: Place(*place) for sample_id, *place in rows}
            return self._looked_up[part]

    def _pictures(self, files: _Files | Exception) -> Content | Exception:
        if isinstance(files, Exception):
            return files
        pictures: list[Image.Image] = []
        for data in filter(None, files[1:]):
            picture = decoded(data, files.name, self._limits, self._care)
            if isinstance(picture, Exception):
                return picture
            pictures.append(picture)
        return Pictures(*pictures)
