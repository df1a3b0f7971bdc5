"""Edited pictures as files in a folder, named by their samples: written, found again, and checked.

Belongs here: the two layouts' files. Not here: which samples there are.

Emu-Edit: `IDX_HASH.png`. MagicBrush, as its script reads them: `ID/ID_1.png` for the first turn,
`ID/ID_inde_N.png` for turn N of the true earlier picture, `ID/ID_iter_N.png` for turn N of the model's own.
Read are also `.jpg`, `.jpeg` and `.webp`.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from PIL import Image

from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditSamples, Faults
from got_core.local_files import write_local

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Place = Callable[[str], str]
"""The file of a key, relative to the folder, without its ending."""


class FolderPictures:
    """Pictures in files."""

    def __init__(self, files: dict[str, Path], notes: tuple[str, ...] = ()) -> None:
        self._files = files
        self.notes = notes
        """What was passed over, one line each."""

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        return self._files.keys()

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes. Raises BenchmarkDataError for a file that cannot be read."""
        return {name: _bytes_of(self._files[name]) for name in names}


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}; put it right and judge again") from error


def write_pictures(folder: Path | str, pictures: Iterable[tuple[str, Image.Image]], place: Place) -> int:
    """Write pictures by key as PNG, each whole or not at all; returns how many."""
    count = 0
    for key, picture in pictures:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="PNG")
        _write(Path(folder, f"{place(key)}.png"), buffer.getvalue())
        count += 1
    return count


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_local(path, lambda file: file.write(data), exclusive=False)


def read_pictures(
    folder: Path | str,
    samples: EditSamples,
    place: Place,
    *,
    besides: Collection[str] = (),
    partial: bool = False,
) -> FolderPictures:
    """The samples' pictures of a folder. `besides`: keys that may be there and are not judged.

    Raises BenchmarkDataError that names missing pictures, those that are there twice with unlike endings and
    files that belong to no sample, unless `partial`, which leaves these out and says so in `notes`.
    """
    if not Path(folder).is_dir():
        raise BenchmarkDataError(f"{folder} is not a folder of edited pictures")
    found = _found(Path(folder))
    wanted = {place(one.key): one.key for one in samples.samples}
    faults = Faults(str(folder))
    faults.add("pictures are missing", *(f"{stem}.png" for stem in wanted if stem not in found))
    faults.add(
        "pictures are there more than once", *(stem for stem in wanted if len(found.get(stem, ())) > 1)
    )
    known = {*wanted, *(place(key) for key in besides)}
    extra = [path.relative_to(folder).as_posix() for s in found if s not in known for path in found[s]]
    faults.add("files belong to no sample", *extra)
    notes = faults.settle(partial=partial)
    files = {key: found[stem][0] for stem, key in wanted.items() if len(found.get(stem, ())) == 1}
    return FolderPictures(files, notes)


def _found(folder: Path) -> dict[str, list[Path]]:
    """Files by their name without the ending of a picture; hidden ones are passed over."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            stem = relative.with_suffix("") if path.suffix.lower() in SUFFIXES else relative
            found[stem.as_posix()].append(path)
    return found
