"""Names of the benchmarks that are a folder with a `benchmark.toml` (`evaluate.judged`).

Belongs here: which folders and variants there are, for lists and recipes. Not here: what they say
(`judged.definition`). Reads small files and imports nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

DEFINITION = "benchmark.toml"
OWN = "judged"
"""Folder of the user's own below GOT_BENCHMARKS, and the beginning of their names: `judged/NAME`."""

SHIPPED = Path(__file__).parent / "judged" / "benchmarks"
PART = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
"""A part of a name: it is also one of folders and of an asset's key."""


class DefinitionError(ValueError):
    """A `benchmark.toml` that says something wrong; the message names file and key."""


def shipped_names() -> tuple[str, ...]:
    """Names of those that come with the project, such as `imagenhub` and `imagenhub/published`."""
    return tuple(name for folder in folders_in(SHIPPED) for name in names_of(folder, folder.name))


def folders_in(place: Path) -> tuple[Path, ...]:
    """The folders that hold a definition, sorted; none where the place is not there."""
    return tuple(sorted(path.parent for path in place.glob(f"*/{DEFINITION}")))


def names_of(folder: Path, base: str) -> Iterator[str]:
    """The names that a folder gives: its own, unless it is not listed, and those of its variants."""
    data = read_definition(folder / DEFINITION)
    if data.get("listed", True):
        yield base
    variants = data.get("variants", {})
    for name, variant in variants.items() if isinstance(variants, Mapping) else ():
        if not isinstance(variant, Mapping) or variant.get("listed", True):
            yield f"{base}/{name}"


@cache
def _read(path: Path, stamp: tuple[int, int]) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8; of lists in lists in lists
        raise DefinitionError(f"{path} is no TOML file: {error}") from error


def read_definition(path: Path) -> Mapping[str, Any]:
    """What the file says, unchecked. Raises DefinitionError, or OSError where it cannot be read."""
    stat = path.stat()
    return _read(path, (stat.st_mtime_ns, stat.st_size))


def is_own(name: str) -> bool:
    """Whether a name is that of a user's own benchmark, which may or may not be there."""
    first, *parts = name.split("/")
    return first == OWN and bool(parts) and all(PART.fullmatch(part) for part in parts)
