"""Folders of pictures with masks beside them and a text file of instructions, as Reason-Edit has them.

    1-Left-Right/001.png  1-Left-Right/001_mask.jpg  1-Left-Right/Left_Right_text.txt

Belongs here: putting the parts together by name. Not here: other formats (`rows`).

A line of the text file is `instruction CLIP: text`; the first one belongs to the first picture in the order
of names, as the published script takes them. A mask belongs to the picture of its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from got_core.evaluate.emu_edit.samples import BenchmarkDataError, Faults

_MASK = "_mask"
_CLIP = re.compile(r"\s*CLIP:\s*")
_PICTURES = (".png",)
_MASKS = (".jpg", ".jpeg", ".png")


def pair_rows(place: Path, folders: Sequence[str], faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with `folder`, `name`, `image`, `mask` (names below `place`), `instruction` and `clip_text`.

    `folders`: patterns of which each must name one folder, at any depth. A missing or superfluous part is a
    fault, and so is a text file with more or fewer lines than there are pictures, which leaves out its whole
    folder.
    """
    there = sorted(path for path in place.rglob("*") if path.is_dir()) if place.is_dir() else []
    for pattern in folders:
        found = [path for path in there if fnmatchcase(path.name, pattern)]
        if len(found) == 1:
            yield from _folder(found[0], found[0].relative_to(place).as_posix(), faults)
        else:
            faults.add("folders that are missing" if not found else "folders that are there twice", pattern)
    if not there:
        raise BenchmarkDataError(
            f"{place} holds no folders: put the benchmark's folders there, {', '.join(folders)}"
        )


def _folder(folder: Path, below: str, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    masks = {path.stem.removesuffix(_MASK): path.name for path in files if _is_mask(path)}
    pictures = [path for path in files if path.suffix.lower() in _PICTURES and not _is_mask(path)]
    lines = _lines(folder, [path for path in files if path.suffix == ".txt"], faults)
    stems = {path.stem for path in pictures}
    faults.add(
        "masks without a picture", *(f"{folder.name}/{masks[one]}" for one in masks if one not in stems)
    )
    if lines is not None and len(lines) != len(pictures):
        faults.add(
            "folders with another number of instructions than pictures",
            f"{folder.name}: {len(lines)} lines, {len(pictures)} pictures",
        )
        return
    for path, line in zip(pictures, lines or (), strict=False):
        name = f"{below}/{path.name}"
        if path.stem not in masks:
            faults.add("pictures without a mask", f"{name} ({path.stem}{_MASK}.jpg is missing)")
            continue
        instruction, clip = (*_CLIP.split(line, maxsplit=1), "")[:2]
        yield (
            name,
            {
                "folder": folder.name,
                "name": path.stem,
                "image": name,
                "mask": f"{below}/{masks[path.stem]}",
                "instruction": instruction.strip(),
                "clip_text": clip.strip(),
            },
        )


def _is_mask(path: Path) -> bool:
    return path.stem.endswith(_MASK) and path.suffix.lower() in _MASKS


def _lines(folder: Path, files: Sequence[Path], faults: Faults) -> list[str] | None:
    """The instructions; empty lines do not count."""
    if len(files) != 1:
        faults.add("folders without one text file", f"{folder.name}: {len(files)} files")
        return None
    try:
        return [line for line in files[0].read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        faults.add("text files that cannot be read", f"{folder.name}/{files[0].name}: {error}")
        return None
