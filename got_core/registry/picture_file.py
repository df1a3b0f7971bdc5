"""Pictures as files that say how they were drawn, and can be drawn again from themselves.

    data = picture_bytes(image, PictureNote(prompt=..., chain=..., seed=1, settings={...}))
    note = read_note(data)

A PNG has the note as JSON in a text chunk named `got`. Belongs here: writing and reading it. Not here:
drawing (`rows`), signed manifests.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any, Self

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from got_core.chain.grammar import Chain, ChainError, parse

KEY = "got"
FORMAT, FORMAT_EARLIER = 1, 2
"""Of notes, and of those that name an earlier picture: who does not know of these would draw another one."""
MAX_TEXT = 1 << 20
"""Characters of a note, at most."""
MAX_TOGETHER = 1024
"""Pictures of a call, at most, that a note may speak of."""

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
"""Of the formats in which pictures are written; only PNG carries a note."""


class NoNoteError(ValueError):
    """A picture that does not say how it was drawn, or not readably."""


@dataclass(frozen=True, kw_only=True)
class PictureNote:
    """How a picture was drawn."""

    prompt: str
    chain: str
    """The plan, in model form: with the colours that its boxes were painted in."""

    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `GoTPipeline.draw` as plain values, with those that were the model's own."""

    source: str | None = None
    """Of an edit: `pixels_hash` of the picture that was edited."""

    earlier: str | None = None
    """Of a picture that keeps a part of an earlier one: `pixels_hash` of that."""

    earlier_chain: str | None = None
    """The plan of the earlier picture, in model form."""

    place: tuple[int, int] = (0, 1)
    """Which of how many pictures it was in the call that drew it: in company last bits differ."""

    model: str = ""
    """Full name of the version, or the name of a folder."""

    weights_hash: str | None = None
    got: str = field(default_factory=lambda: _own_version())
    """Version of this package."""

    def to_json(self) -> str:
        """As it stands in the file."""
        number = FORMAT if self.earlier is None else FORMAT_EARLIER
        return json.dumps({"format": number, **asdict(self)}, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises NoNoteError for what cannot be used, naming the field."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NoNoteError(f"the note is no JSON: {error}") from error
        if not isinstance(found, dict) or found.get("format") not in (FORMAT, FORMAT_EARLIER):
            known = f"{FORMAT} or {FORMAT_EARLIER}"
            raise NoNoteError(f"the note is not of format {known}: a newer version of got has written it")
        return cls._checked({one.name: found[one.name] for one in fields(cls) if one.name in found})

    @classmethod
    def _checked(cls, given: dict[str, Any]) -> Self:
        fits: dict[str, Callable[[Any], bool]] = {
            **dict.fromkeys(("prompt", "chain", "model", "got"), lambda value: isinstance(value, str)),
            **dict.fromkeys(
                ("source", "earlier", "earlier_chain", "weights_hash"),
                lambda value: isinstance(value, str | None),
            ),
            "seed": lambda value: _whole(value, -(2**63), 2**64 - 1),
            "settings": lambda value: isinstance(value, dict),
            "place": _is_place,
        }
        missing = [name for name in ("prompt", "chain", "seed") if name not in given]
        wrong = [*missing, *(name for name, value in given.items() if not fits[name](value))]
        if wrong:
            raise NoNoteError(f"the note has no usable `{wrong[0]}`")
        return cls(**{**given, "place": tuple(given.get("place", (0, 1)))})

    def plan(self) -> Chain:
        """The plan. Raises NoNoteError for one that cannot be read."""
        return _read_chain(self.chain, "chain")

    def earlier_plan(self) -> Chain:
        """The plan of the earlier picture, empty where there is none. Raises NoNoteError."""
        return _read_chain(self.earlier_chain or "", "earlier chain")


def picture_bytes(
    image: Image.Image, note: PictureNote | None = None, kind: str = "png", quality: int | None = None
) -> bytes:
    """The bytes of a picture's file. `kind`: of CONTENT_TYPES; `quality`: of JPEG and WebP, 0 to 100."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {}
    if kind == "png" and note is not None:
        info = PngInfo()
        info.add_itxt(KEY, note.to_json(), zip=True)
        options = {"pnginfo": info}
    elif kind != "png" and quality is not None:
        options = {"quality": quality}
    image.save(buffer, format=kind.upper(), **options)
    return buffer.getvalue()


def read_note(data: bytes) -> PictureNote:
    """The note of a PNG's bytes. Raises NoNoteError."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise NoNoteError("it is no PNG: only those carry how they were drawn")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            text = picture.info.get(KEY)
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise NoNoteError(f"it cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(text, str):
        raise NoNoteError("it does not say how it was drawn: another program made it, or stripped its text")
    if len(text) > MAX_TEXT:
        raise NoNoteError(f"its note has more than {MAX_TEXT} characters")
    return PictureNote.from_json(text)


def pixels_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, RGB."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def _read_chain(text: str, what: str) -> Chain:
    try:
        return parse(text, "model")
    except ChainError as error:
        raise NoNoteError(f"the note's {what} cannot be read: {error}") from error


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_place(value: object) -> bool:
    """A number, and of how many."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return _whole(value[1], 1, MAX_TOGETHER) and _whole(value[0], 0, value[1] - 1)


def _own_version() -> str:
    try:
        return metadata.version("got")
    except metadata.PackageNotFoundError:  # the library as it goes along with a registry entry
        return "unknown"
