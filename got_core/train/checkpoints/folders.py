"""Where checkpoints lie: a folder each, complete once every rank has left its note there.

A folder's name holds the step and the attempt (one life of the group of workers), so that no two attempts
ever write into one folder. Belongs here: names, notes, what is kept. Not here: files of tensors (``parts``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from got_core.storage import Storage
from got_core.train.checkpoints.parts import CheckpointError, Index, make_index, read_into

RECORD = "run.json"
KEPT = 2
"""Complete checkpoints that stay beside the milestones."""

_FOLDER = re.compile(r"step-(\d{8,})-([0-9a-f]{8})")
_NOTE = re.compile(r"rank-(\d{5,})-of-(\d{5,})\.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder ``root/step-STEP-ATTEMPT`` of a storage."""

    storage: Storage
    root: str
    step: int
    attempt: int

    @property
    def name(self) -> str:
        """Of the folder, in the storage."""
        return f"{self.root}/step-{self.step:08d}-{self.attempt:08x}"

    @property
    def url(self) -> str:
        """Of the folder, for messages."""
        return self.storage.url_of(self.name)

    def note_name(self, rank: int, ranks: int) -> str:
        """Of the file that says that a rank's part is there."""
        return f"{self.name}/rank-{rank:05d}-of-{ranks:05d}.json"

    def record(self) -> dict[str, Any]:
        """What :mod:`record` describes; ``note`` in it is the training's own."""
        return self.storage.read_json(f"{self.name}/{RECORD}")

    def is_complete(self, *, thoroughly: bool = False) -> bool:
        """Whether all ranks have left their notes and, ``thoroughly``, all files that they name are there."""
        names = set(self.storage.list(f"{self.name}/"))
        notes = [match for name in names if (match := _NOTE.fullmatch(name.rpartition("/")[2]))]
        ranks = {int(match[2]) for match in notes}
        if len(ranks) != 1 or {int(match[1]) for match in notes} != set(range(*ranks)):
            return False
        return not thoroughly or {f"{self.name}/{file}" for file in (*self.files(), RECORD)} <= names

    def files(self) -> dict[str, Any]:
        """Size, sha256 and tensors of all ranks' files, by name."""
        names = [name for name in self.storage.list(f"{self.name}/") if _NOTE.search(name)]
        return {file: one for name in names for file, one in self.storage.read_json(name)["files"].items()}

    def read(self, targets: dict[str, Tensor], files: dict[str, Any], index: Index) -> None:
        """Fill tensors, which fit already (see ``tensors.targets``). Raises CheckpointError naming it."""
        read_into(targets, index, partial(self._read, files))

    def index(self, files: dict[str, Any]) -> Index:
        """Its tensors. Raises CheckpointError where a piece of one is missing."""
        return make_index(files, f"checkpoint {self.url}")

    def _read(self, files: dict[str, Any], file: str) -> bytes:
        try:
            data = self.storage.read_bytes(f"{self.name}/{file}")
        except FileNotFoundError as error:
            raise self._damaged(file, files[file], "is not there") from error
        if hashlib.sha256(data).hexdigest() != files[file]["sha256"]:
            found = f"has {len(data)} bytes that are not the {files[file]['size']} that were written"
            raise self._damaged(file, files[file], found)
        return data

    def _damaged(self, file: str, written: dict[str, Any], found: str) -> CheckpointError:
        tensors = sorted(written["tensors"])
        return CheckpointError(
            f"checkpoint {self.url}: {file}, which holds {tensors[0]!r} and {len(tensors) - 1} more, {found}"
            "; delete the checkpoint, and the stage goes on from the one before"
        )

    def remove(self) -> None:
        """Delete it; from the first moment on it no longer counts as complete."""
        for name in self.storage.list(f"{self.name}/"):
            if _NOTE.search(name):
                self.storage.delete(name)
        self.storage.delete(self.name)


def checkpoints_in(storage: Storage, root: str) -> list[Checkpoint]:
    """All checkpoints of a folder, complete or not, the oldest first."""
    found = [_FOLDER.fullmatch(name.rpartition("/")[2]) for name in storage.folders(root)]
    numbers = sorted((int(match[1]), int(match[2], 16)) for match in found if match)
    return [Checkpoint(storage, root, step, attempt) for step, attempt in numbers]


def last_checkpoint(storage: Storage, root: str) -> Checkpoint | None:
    """The newest complete checkpoint; None where there is none."""
    found = reversed(checkpoints_in(storage, root))
    return next((one for one in found if one.is_complete(thoroughly=True)), None)


def remove_unfinished(storage: Storage, root: str) -> None:
    """Delete what an upload that broke off has left. Only while no upload is under way."""
    for one in checkpoints_in(storage, root):
        if not one.is_complete():
            one.remove()


def remove_old(storage: Storage, root: str, kept: int = KEPT) -> None:
    """Delete complete checkpoints but the last ``kept`` and milestones."""
    complete = [one for one in checkpoints_in(storage, root) if one.is_complete()]
    for one in _passing(complete[: len(complete) - kept]):
        one.remove()


def remove_finished(storage: Storage, root: str) -> None:
    """Delete all but the milestones of a training that has ended."""
    remove_unfinished(storage, root)
    remove_old(storage, root, kept=0)


def _passing(checkpoints: list[Checkpoint]) -> Iterator[Checkpoint]:
    return (one for one in checkpoints if not one.record()["milestone"])
