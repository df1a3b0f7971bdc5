"""Pictures that are read where they lie in a tar: the path by which tables know one.

    tar+member://ARCHIVE//NAME#OFFSET+SIZE+SHA256

ARCHIVE is the tar's own path (also ``name://...``), NAME the member's, for people alone; OFFSET and SIZE are
bytes of the tar, SHA256 is the image_id that the bytes must have.

Belongs here: spelling and understanding such paths. Not here: reading the bytes (``reader``), finding members
(``tars``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

from got_core.corpus.inputs import ARCHIVES

PREFIX = "tar+member://"
"""No input can be called that: names of inputs have no plus sign."""

_ENDING = "|".join(re.escape(one) for one in ARCHIVES)
_PATTERN = rf"(?s)^{re.escape(PREFIX)}(.+?(?i:{_ENDING}))//(.*)#(\d{{1,15}})\+(\d{{1,15}})\+([0-9a-f]{{64}})$"
_MEMBER = re.compile(_PATTERN.replace("$", r"\Z"), re.ASCII)


class Member(NamedTuple):
    """One file of a plain tar."""

    archive: str
    """Path of the tar, as its list has it."""
    name: str
    """Its name in the tar; never used as a path."""
    offset: int
    """Byte of the tar at which its data begin."""
    size: int
    """Bytes of its data."""
    image_id: str
    """SHA-256 of its data, 64 hex digits."""

    @classmethod
    def of(cls, path: str) -> Member | None:
        """The member that a path names; None where it names none."""
        found = _MEMBER.match(path) if path.startswith(PREFIX) else None
        if found is None:
            return None
        archive, name, offset, size, image_id = found.groups()
        return cls(archive, name, int(offset), int(size), image_id)

    @property
    def path(self) -> str:
        """What tables know it by."""
        return f"{PREFIX}{self.origin}#{self.offset}+{self.size}+{self.image_id}"

    @property
    def origin(self) -> str:
        """What the user would recognise: ``a.tar//000/1.jpg``."""
        return f"{self.archive}//{self.name}"

    @property
    def has_path(self) -> bool:
        """Whether its path is understood as this very member. Not where a folder of the tar's ends like a
        tar and a key has ``//`` in it."""
        return Member.of(self.path) == self


def shown(path: str) -> str:
    """A path for people: of a member its origin, of all else the path itself."""
    member = Member.of(path)
    return path if member is None else member.origin


def shown_column(path: pl.Expr) -> pl.Expr:
    """:func:`shown` of a column of paths."""
    return path.str.replace(_PATTERN, "${1}//${2}")
