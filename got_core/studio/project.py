"""A session's rounds, and the file that they are saved in and opened from again.

The file is a zip archive of `project.json` and one PNG a round, each with the chain that it was drawn from.
Belongs here: rounds, their ancestry, the file. Not here: drawing them (`painter`), the page (`page`).
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from PIL import Image

from got_core.corpus.decode import ImageError, decode_image
from got_core.registry.picture_file import NoNoteError, PictureNote, picture_bytes, read_note
from got_core.registry.request import PictureLimits
from got_core.studio.plans import PlanError, text_plan

FORMAT = 1
MANIFEST = "project.json"
MOST_ROUNDS = 200
MOST_BYTES = 256 * 1024 * 1024
"""Of all files of a project together, unpacked."""

_MOST = f"{MOST_ROUNDS} rounds and {MOST_BYTES // 2**20} MiB"

_ROOM = MOST_BYTES * 3 // 4
"""Of them for pictures: the rest is for the texts of the rounds."""

THUMBNAIL = 128
"""Pixels a side of the pictures in the list of rounds, at most."""

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(KeyError, ValueError, OverflowError, RuntimeError),
)
"""What a damaged archive raises; RuntimeError where it is encrypted, nested too deep or packed in another
way."""

Kind = Literal["drawn", "upload"]


class ProjectError(ValueError):
    """A project's file that cannot be opened; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One picture of a session."""

    id: int
    kind: Kind
    parent: int | None = None
    """The round that the artist went on from."""

    source: int | None = None
    """Of an edit: the round whose picture was edited."""

    prompt: str = ""
    chain: str = ""
    """Data form; empty of an upload."""

    planned: str = ""
    """The model's own plan, data form; empty where there is none."""

    seed: int = 0
    model: str = ""
    picture: bytes = field(default=b"", repr=False)
    """A PNG file."""

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return opened(self.picture)

    @cached_property
    def thumbnail(self) -> bytes:
        """A PNG file of the picture in small; of a small picture its own file."""
        image = self.image
        if max(image.size) <= THUMBNAIL:
            return self.picture
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return picture_bytes(image)


@dataclass(frozen=True)
class Project:
    """All rounds in order of making. A value: a round more is another project."""

    rounds: tuple[Round, ...] = ()
    shown: int | None = None
    """The round that the page shows."""

    def get(self, number: int | None) -> Round | None:
        """A round by its id; None where there is none."""
        return next((one for one in self.rounds if one.id == number), None)

    def with_round(self, kind: Kind, picture: bytes, **values: Any) -> Project:
        """With a round more, which is shown then. Raises ProjectError where the file of it would not be
        opened again."""
        if len(self.rounds) >= MOST_ROUNDS or self._bytes + len(picture) > _ROOM:
            raise ProjectError(f"a project may have {_MOST}: save it and load the page again")
        number = 1 + max((one.id for one in self.rounds), default=0)
        made = Round(id=number, kind=kind, picture=picture, **values)
        return Project((*self.rounds, made), number)

    def showing(self, number: int) -> Project:
        """With another round shown. Raises ProjectError for one that is not there."""
        if self.get(number) is None:
            raise ProjectError(f"there is no round {number}")
        return Project(self.rounds, number)

    @property
    def _bytes(self) -> int:
        return sum(len(one.picture) for one in self.rounds)

    # -- the file -----------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The file."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, json.dumps(self._manifest(), indent=1))
            for one in self.rounds:
                archive.writestr(_name(one.id), one.picture)
        return packed.getvalue()

    def _manifest(self) -> dict[str, Any]:
        rounds = [{k: v for k, v in asdict(one).items() if k != "picture"} for one in self.rounds]
        return {"format": FORMAT, "shown": self.shown, "rounds": rounds}

    @classmethod
    def from_bytes(cls, data: bytes) -> Project:
        """Raises ProjectError, naming the round at fault."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return cls._read(archive)
        except ProjectError:
            raise
        except _BROKEN as error:
            raise ProjectError(f"this is no project of the studio: {error}") from error

    @classmethod
    def _read(cls, archive: zipfile.ZipFile) -> Project:
        sizes = [one.file_size for one in archive.infolist()]
        if len(sizes) > MOST_ROUNDS + 1 or sum(sizes) > MOST_BYTES:
            raise ProjectError(f"a project may have {_MOST}")
        found = json.loads(archive.read(MANIFEST))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ProjectError(f"the project is not of format {FORMAT}: a newer version of got has saved it")
        rounds = tuple(_rounds(found.get("rounds"), archive))
        shown = found.get("shown")
        return cls(rounds, shown if shown in {one.id for one in rounds} else None)


def _rounds(entries: Any, archive: zipfile.ZipFile) -> Iterator[Round]:
    seen: set[int] = set()
    for place, entry in enumerate(entries if isinstance(entries, list) else (), start=1):
        made = _round(place, entry, seen, archive)
        seen.add(made.id)
        yield made


def _round(place: int, entry: Any, seen: set[int], archive: zipfile.ZipFile) -> Round:
    values = (
        {name: value for name, value in entry.items() if name in _FIELDS}
        if isinstance(entry, Mapping)
        else {}
    )
    if wrong := [name for name, fits in _FIELDS.items() if name in values and not fits(values[name])]:
        raise ProjectError(f"round {place} has no usable `{wrong[0]}`")
    if missing := {"id", "kind"} - set(values):
        raise ProjectError(f"round {place} has no `{min(missing)}`")
    before = {values.get(name) for name in ("parent", "source")} - {None}
    if values["id"] in seen or not before <= seen:
        raise ProjectError(f"round {place} does not come after the rounds that it is made of")
    picture = archive.read(_name(values["id"]))
    try:
        opened(picture)
        for name in ("chain", "planned"):
            text_plan(values.get(name, ""))
    except (ValueError, PlanError) as error:
        raise ProjectError(f"round {place}: {error}") from error
    return Round(**values, picture=picture)


def _whole(value: Any) -> bool:
    return type(value) is int


def _text(value: Any) -> bool:
    return isinstance(value, str)


_FIELDS = {
    "id": _whole,
    "kind": lambda value: value in ("drawn", "upload"),
    "parent": lambda value: value is None or _whole(value),
    "source": lambda value: value is None or _whole(value),
    "seed": _whole,
    **dict.fromkeys(("prompt", "chain", "planned", "model"), _text),
}


def _name(number: int) -> str:
    return f"rounds/{number}.png"


def opened(data: bytes) -> Image.Image:
    """A picture's bytes (JPEG, PNG or WebP), upright and in RGB. Raises ValueError with the reason."""
    try:
        return decode_image(data, PictureLimits())
    except ImageError as error:
        raise ValueError(f"the picture cannot be used: {error}") from error


def upload_bytes(data: bytes) -> bytes:
    """An uploaded picture as a PNG, with the note that it had. Raises ValueError."""
    note: PictureNote | None = None
    image = opened(data)
    try:
        note = read_note(data)
    except NoNoteError:
        return picture_bytes(image)
    return picture_bytes(image, note)
