"""What one call to a judge shows, and what became of it, as plain data.

Belongs here: pictures and texts of a call, and its verdict. Not here: asking (`judge`), or reading replies
(`replies`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from PIL import Image

from got_core.evaluate.protocol import text_sha256

State = Literal["scored", "refused", "unreadable", "unanswered"]

SCORED: Final = "scored"
REFUSED: Final = "refused"
UNREADABLE: Final = "unreadable"
"""States that are kept: a later run does not ask again."""

UNANSWERED: Final = "unanswered"
"""A fault that may pass: nothing is kept, and a later run asks again."""

STATES: tuple[State, ...] = (SCORED, REFUSED, UNREADABLE, UNANSWERED)

RECODED = "PNG in its own size"
"""How a picture is sent: without loss, in no other size."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture that questions are about."""

    sha256: str
    """Of its file, or of its pixels where there is none."""

    image: Callable[[], Image.Image]
    """Reads it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to a judge."""

    step: str
    """Name of the prompt, for people: `gedit semantics`."""

    template: str
    """The prompt's text before anything is filled in; its hash is part of the answer's key."""

    parts: tuple[str | Shown, ...]
    """Texts and pictures in the order in which they are shown; at least one text."""

    max_tokens: int
    """Tokens that the reply may have, reasoning that comes first not counted (`thinking_tokens`)."""

    @property
    def prompt(self) -> str:
        """16 hex digits of SHA-256 over the template."""
        return _prompt_hash(self.template)

    @property
    def pictures(self) -> tuple[str, ...]:
        """SHA-256 of the pictures, in order."""
        return tuple(part.sha256 for part in self.parts if isinstance(part, Shown))


@lru_cache(64)
def _prompt_hash(template: str) -> str:
    return text_sha256(template)[:16]


@dataclass(kw_only=True, slots=True)
class Verdict:
    """What became of a call: a value where its state is `scored`, else the reason why there is none."""

    state: State
    value: Any = None
    """What the reader made of the reply; None unless `scored`."""

    reason: str = ""
    """Why there is no value, in a sentence."""

    reply: str = ""
    """The judge's words that the verdict rests on."""

    model: str | None = None
    """What the server calls the model that replied."""

    asked: str | None = None
    """When, ISO 8601 in UTC."""

    calls: int = 0
    """Replies that it took, those that could not be read included."""

    tokens_in: int = 0
    """Of all replies together."""

    tokens_out: int = 0
    cost: float = 0.0


def data_url(image: Image.Image) -> str:
    """A picture in its own size, without loss: `data:image/png;base64,...`"""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
