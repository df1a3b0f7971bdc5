"""Pictures read from the files that the manifest names, those in tars given as input among them.

Belongs here: a row's files. Not here: opening by path (``got_core.corpus.reader``), patience (``pictures``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from got_core.corpus.decode import ImageError, decode_image
from got_core.corpus.members import shown
from got_core.corpus.reader import ImageReader
from got_core.train.data.pictures import PatientReader, PictureCare, picture_fault
from got_core.train.data.sources.protocol import Content, Pictures

_File = tuple[str, str]
"""Kind of sample, which says where its pictures lie, and path."""


class RawFiles:
    """A source of raw files, and of members of input tars: each picture is one read.

    Args:
        row: a row of the manifest by its place.
        readers: of the files of each kind of sample.
        care: patience; None: one try of each file.
    """

    def __init__(
        self,
        row: Callable[[int], Mapping[str, Any]],
        readers: Mapping[str, ImageReader],
        care: PictureCare | None = None,
    ) -> None:
        self._row, self._readers, self._care = row, readers, care
        self._start()

    def _start(self) -> None:
        self._files = PatientReader(self._bytes, self._care, lambda file: shown(file[1]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()

    def read(self, rows: Sequence[int]) -> list[Content | Exception]:
        """See ``SampleSource``."""
        files = [_files_of(self._row(row)) for row in rows]
        every = [file for some in files for file in some]
        found = dict(zip(every, self._files.all(every), strict=True))
        return [self._pictures([found[file] for file in some], some) for some in files]

    def _bytes(self, file: _File) -> bytes:
        kind, path = file
        try:
            return self._readers[kind].read_bytes(path)
        except ImageError as error:
            raise ImageError(error.reason, f"{shown(path)}: {error.detail}") from error

    def _pictures(self, found: Sequence[bytes | Exception], files: Sequence[_File]) -> Content | Exception:
        pictures: list[Image.Image] = []
        for data, (kind, path) in zip(found, files, strict=True):
            picture = decoded(data, shown(path), self._readers[kind].config, self._care)
            if isinstance(picture, Exception):
                return picture
            pictures.append(picture)
        return Pictures(*pictures)


def decoded(
    data: bytes | Exception, name: str, limits: Any, care: PictureCare | None
) -> Image.Image | Exception:
    """The picture of a file's bytes (see ``decode_image``), or the error of reading or decoding it, which
    names it; with ``care`` a PictureError."""
    if isinstance(data, Exception):
        return data
    try:
        return decode_image(data, limits)
    except ImageError as error:
        named = ImageError(error.reason, f"{name}: {error.detail}")
        return named if care is None else picture_fault(name, named) or named


def _files_of(row: Mapping[str, Any]) -> list[_File]:
    files = [(row["kind"], row["target_path"])]
    return [*files, ("edit", row["source_path"])] if row.get("source_path") else files
