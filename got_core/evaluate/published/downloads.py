"""What published benchmarks are made of: data and networks that users download themselves.

Belongs here: what a download is, whether it is there and is the expected one. Not here: reading it. Nothing
is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["there", "missing", "another"]
"""`another`: it is there and has another SHA-256 than the published one."""

SETTING = "GOT_BENCHMARKS"


class MissingDownloadError(FileNotFoundError):
    """Data or networks of a benchmark are not where they are looked for."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file or folder below GOT_BENCHMARKS."""

    what: str
    where: str
    """From where it is to be had."""

    licence: str
    path: str
    """Relative to GOT_BENCHMARKS."""

    sha256: str | None = None
    """Of the published file, 64 hex digits; None: a protocol names what is there by its own hash."""

    judging: bool = False
    """Whether only judging needs it."""

    optional: bool = False
    """Whether it may be missing: a figure is then absent."""

    def below(self, place: Path) -> Path:
        """Where it is looked for."""
        return place / self.path

    def state(self, place: Path) -> State:
        """Whether it is there; files with an expected hash are read."""
        path = self.below(place)
        if not path.exists():
            return "missing"
        if self.sha256 is None or not path.is_file():
            return "there"
        from got_core.local_files import file_sha256

        return "there" if file_sha256(path) == self.sha256 else "another"

    def __str__(self) -> str:
        return f"{self.what}, from {self.where} (licence: {self.licence})"


def check_there(files: Iterable[Download], place: Path) -> None:
    """Raises MissingDownloadError, which names every path, what it is, from where and under which licence."""
    missing = [one for one in files if not one.optional and not one.below(place).exists()]
    if missing:
        lines = "; ".join(f"{one.below(place)} is missing: {one}" for one in missing)
        raise MissingDownloadError(
            f"{lines}. Nothing is downloaded for you: put it there ({SETTING} is {place}); "
            "`got score fetch-list` lists all"
        )


def benchmarks_place(setting: Path | None) -> Path:
    """The folder of the setting GOT_BENCHMARKS. Raises ValueError where it is not set."""
    if setting is None:
        raise ValueError(
            f"{SETTING} is not set: it names the folder that the data and networks of published benchmarks "
            "were downloaded to; `got score fetch-list` lists them"
        )
    return setting
