"""Edited pictures as files in a folder, named by their samples: written, found again, and checked.

Belongs here: the two layouts' files. Not here: which samples there are, or drawing them (`drawing`).

Emu-Edit: `IDX_HASH.png`. MagicBrush, as its script reads them: `ID/ID_1.png` for the first turn,
`ID/ID_inde_N.png` for turn N of the true earlier picture, `ID/ID_iter_N.png` for turn N of the model's own.
Read are also `.jpg`, `.jpeg` and `.webp`.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditSamples, Faults
from got_core.evaluate.geneval.layout import drawn_by
from got_core.storage import Storage

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Place = Callable[[str], str]
"""The file of a key, relative to the folder, without its ending."""

Folder = Storage | Path | str
"""Local, or wherever a storage is."""


class StoredPictures:
    """Pictures in files."""

    def __init__(self, storage: Storage, files: Mapping[str, str], notes: tuple[str, ...] = ()) -> None:
        self._storage, self._files = storage, dict(files)
        self.notes = notes
        """What was passed over, one line each."""
        self.drawn_by = drawn_by(storage)
        """Hash of the weights that the folder's record names, if there is one."""

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        return self._files.keys()

    def file(self, name: str) -> str | None:
        """Its file in the folder, where there is one."""
        return self._files.get(name)

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes, none for a file that is gone by now. Raises OSError where the store fails."""
        found = self._storage.read_many(dict.fromkeys(self._files[name] for name in names))
        return {name: found.get(self._files[name], b"") for name in names}


def storage_of(folder: Folder) -> Storage:
    """The storage that a folder is."""
    return folder if isinstance(folder, Storage) else Storage(str(folder))


def write_pictures(folder: Folder, pictures: Iterable[tuple[str, Image.Image]], place: Place) -> int:
    """Write pictures by key as PNG, each whole or not at all; returns how many."""
    storage, count = storage_of(folder), 0
    for key, picture in pictures:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="PNG")
        storage.write_bytes(f"{place(key)}.png", buffer.getvalue())
        count += 1
    return count


def read_pictures(
    samples: EditSamples,
    folder: Folder,
    place: Place,
    *,
    besides: Collection[str] = (),
    partial: bool = False,
) -> StoredPictures:
    """The samples' pictures of a folder. `besides`: keys that may be there and are not judged.

    Raises BenchmarkDataError that names missing pictures, those that are there twice with unlike endings and
    files that belong to no sample, unless `partial`, which leaves these out and says so in `notes`.
    """
    storage = storage_of(folder)
    found = _found(storage)
    wanted = {place(one.key): one.key for one in samples.samples}
    faults = Faults(storage.url)
    faults.add("missing pictures", *(f"{stem}.png" for stem in wanted if stem not in found))
    faults.add(
        "pictures that are there more than once", *(stem for stem in wanted if len(found.get(stem, ())) > 1)
    )
    known = {*wanted, *(place(key) for key in besides)}
    faults.add("files of no sample", *(name for stem in found if stem not in known for name in found[stem]))
    notes = faults.settle(partial=partial)
    files = {key: found[stem][0] for stem, key in wanted.items() if len(found.get(stem, ())) == 1}
    return StoredPictures(storage, files, notes)


def _found(storage: Storage) -> dict[str, list[str]]:
    """Files by their name without the ending of a picture; hidden ones are passed over."""
    found: dict[str, list[str]] = defaultdict(list)
    names = storage.list()
    if "" in names:
        raise BenchmarkDataError(f"{storage.url} is a file: name the folder of the edited pictures")
    for name in names:
        path = PurePosixPath(name)
        if not any(part.startswith(".") for part in path.parts):
            stem = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
            found[stem.as_posix()].append(name)
    if not found:
        raise BenchmarkDataError(f"{storage.url} holds no pictures: name the folder of the edited pictures")
    return found
