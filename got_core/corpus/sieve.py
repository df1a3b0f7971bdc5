"""What is an input at all: one answer, by name, for folders, prefixes and archives alike.

An input is a file with a picture's name (``IngestConfig.pictures``) that neither itself nor by a folder above
is to be ignored (``IngestConfig.ignore``). All else lies beside the pictures (captions, metadata, markers of
empty folders): it is passed over and counted by kind, never quarantined. What a table lists (URLs, rows with
bytes, edit pairs) is an input because the table says so. Belongs here: names. Not here: what bytes are
(``decode``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import lru_cache

from got_core.corpus.config import IngestConfig

FOLDER_MARKER = "folder marker"
LINKED_AGAIN = "link to a folder that is listed by itself"
NO_ENDING = "no ending"
OTHERS = "other endings"
_MARKERS = ("/", "_$folder$")
"""How object stores spell an empty folder."""
_KINDS = 200
"""Kinds that are counted apart, at most: a folder of hashes has as many endings as files."""


class Sieve:
    """Tells inputs from what lies beside them, and counts the latter."""

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self._folders: set[str] = set()
        self.counts: Counter[str] = Counter()
        """How many were passed over, by kind: an ignored name's pattern, or the ending."""

    def accepts(self, path: str) -> bool:
        """Whether a file of that relative path is an input. An ignored folder counts once, not its files."""
        if path.endswith(_MARKERS):
            self.pass_over(FOLDER_MARKER)
            return False
        ignored = _ignored_prefix(path, self._config.ignore)
        if ignored:
            folder, kind = ignored
            if folder == path or folder not in self._folders:
                self.pass_over(kind)
                self._folders.update({folder} - {path})
            return False
        name = path.rpartition("/")[2]
        if _expression(self._config.pictures).fullmatch(name.lower()):
            return True
        self.pass_over(_ending(name))
        return False

    def enters(self, folder: str) -> bool:
        """Whether a folder of that relative path is listed."""
        ignored = _ignored_prefix(folder, self._config.ignore)
        if ignored and ignored[0] not in self._folders:
            self._folders.add(ignored[0])
            self.pass_over(ignored[1])
        return not ignored

    def pass_over(self, kind: str) -> None:
        """Count something that was passed over."""
        known = kind in self.counts or len(self.counts) < _KINDS
        self.counts[kind if known else OTHERS] += 1


def is_ignored(path: str, config: IngestConfig) -> bool:
    """Whether a path, or a folder above it, has a name that is to be ignored."""
    return _ignored_prefix(path, config.ignore) is not None


def counts_text(counts: Mapping[str, int], most: int = 6) -> str:
    """Counts in words: ``9605 files (7858 .ogg, 952 .txt and others)``; how archives are read."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} {kind}" for kind, count in ordered[:most])
    text = f"{sum(counts.values())} files ({named}{' and others' if len(ordered) > most else ''})"
    packed = next((kind for kind in (".tar", ".tgz", ".parquet") if kind in counts), None)
    return f"{text}; GOT_RAW='.../*{packed}' reads those" if packed else text


def _ignored_prefix(path: str, patterns: tuple[str, ...]) -> tuple[str, str] | None:
    """The path up to and with its first ignored name, and the pattern that says so."""
    for match in re.finditer(r"[^/\\]+", path):
        name = match.group().lower()
        if name.strip(".") and _expression(patterns).fullmatch(name):
            return path[: match.end()], _first(patterns, name)
    return None


def _first(patterns: Iterable[str], name: str) -> str:
    return next(pattern for pattern in patterns if _expression((pattern,)).fullmatch(name))


def _ending(name: str) -> str:
    """The ending in small letters. Long or odd ones are no endings but parts of names."""
    stem, dot, ending = name.lower().rpartition(".")
    return f".{ending}" if stem and dot and re.fullmatch(r"[a-z0-9_+-]{1,12}", ending) else NO_ENDING


@lru_cache
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns))
