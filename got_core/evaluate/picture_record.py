"""What a folder of benchmark pictures says about how they were drawn.

Belongs here: the record, written before the first picture and read by whoever judges them, possibly on
another machine. Not here: drawing, or the layout of a benchmark. The record lies in a hidden folder, which no
layout takes for pictures.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from got_core.evaluate.protocol import digest_of

if TYPE_CHECKING:
    from got_core.storage import Storage

HIDDEN = ".got"
"""Folder of all that is kept beside pictures."""

RECORD = f"{HIDDEN}/drawn.json"
COSTS = f"{HIDDEN}/costs"
"""Prefix under which drawers note what batches cost."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_SAME = ("pictures_of", "weights_hash", "plan", "sampler", "dtype", "recipe")
"""In what two records must agree for their pictures to be of one run."""


class OtherPicturesError(ValueError):
    """A folder holds pictures of something else."""


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """How the pictures of a folder were drawn."""

    pictures_of: str
    """The benchmark that asked for them; benchmarks that differ in what judges alone share it."""

    model: str
    """Its full name."""

    weights_hash: str
    plan: bool
    """Whether the model wrote plans and drew from them."""

    sampler: Mapping[str, Any] = field(default_factory=dict)
    """What was forced on the model, as plain JSON."""

    dtype: str | None = None
    """Of the model; None: as it was saved."""

    recipe: str | None = None
    """Whose world and sizes the benchmark has, for rendered scenes."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    """What had to be measured with the model at hand, and joins the scores; under its name that of a
    benchmark whose pictures are another's."""

    def __post_init__(self) -> None:
        plain = json.loads(json.dumps(dict(self.sampler), default=dataclasses.asdict))
        object.__setattr__(self, "sampler", plain)


def read_record(folder: Storage) -> PictureRecord | None:
    """The record of a folder; None where other people's pictures have none. Raises ValueError for a damaged
    one."""
    try:
        data = folder.read_many([RECORD]).get(RECORD)
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{folder.url} is a file: name a folder of pictures") from error
    if data is None:
        return None
    try:
        record = PictureRecord(**json.loads(data))
        whole = all(isinstance(one, str) for one in (record.pictures_of, record.model, record.weights_hash))
        if not whole or not isinstance(record.plan, bool) or not isinstance(record.figures, dict):
            raise ValueError("a field is of another type")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{folder.url_of(RECORD)} does not say how the pictures were drawn ({error}); delete it to have "
            "them judged as other people's pictures"
        ) from error
    return record


def begin_record(folder: Storage, record: PictureRecord, *, figures: Mapping[str, Any] | None = None) -> None:
    """Write the record before anything is drawn; `figures` join it. Raises OtherPicturesError where there are
    files of another run, or of nobody knows whom."""
    there = read_record(folder)
    unlike = [name for name in _SAME if there and _unlike(getattr(there, name), getattr(record, name))]
    if there is None or unlike:
        _refuse_files(folder, there, record, unlike)
        folder.delete(HIDDEN)  # of a run that drew nothing, or whose pictures somebody has deleted
    if there is None or unlike or figures:
        folder.write_json(RECORD, dataclasses.asdict(dataclasses.replace(record, figures=figures or {})))


def _refuse_files(
    folder: Storage, there: PictureRecord | None, record: PictureRecord, unlike: Sequence[str]
) -> None:
    others = [name for name in folder.list() if not name.startswith(".")]
    if others and there is None:
        raise OtherPicturesError(
            f"{folder.url} holds {others[0]} and nothing that says how it was drawn: take an empty folder"
        )
    if there and any(name.lower().endswith(_PICTURES) for name in others):
        faults = "; ".join(
            f"{name} is {getattr(there, name)!r}, now {getattr(record, name)!r}" for name in unlike
        )
        raise OtherPicturesError(
            f"{folder.url} holds pictures of another run by {there.model} ({faults}): take an empty folder"
        )


def _unlike(left: Any, right: Any) -> bool:
    return digest_of(left) != digest_of(right)
