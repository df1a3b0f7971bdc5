"""Whether a refused request is refused for what is in it: a plain request is sent behind it.

HTTP 400 and its like say "not this request", but servers say so too when a gateway is set up wrongly, a model
is being loaded, or a parameter is not known. So behind a refusal a plain request of the same kind (with a
picture, or without) is sent, one for all refusals before it; where that is answered, the refused request is
sent once more, and only what is refused then is a verdict on its row.

Belongs here: counting refusals and drawing the conclusion. Not here: sending (`dispatch`), what a refusal
says (`envelope`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationError, AnnotationPaused, AskingFailed
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import prompt
from got_core.annotate.request import Request, question_of, request_of

PROVEN = "the server answers other requests"
"""Stands behind the reason of a refusal that is the row's own."""
_SIDE = 256


@dataclass
class _Kind:
    """Requests to one model with a picture, or without."""

    in_a_row: int = 0
    """Refusals since the last answer."""
    answered_since: float = float("-inf")
    """When the latest plain request was sent that was answered."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Canary:
    """Judges refusals, within one event loop.

    Args:
        config: how many refusals in a row stop the shard, whatever a plain request says.
        ask: sends a request and returns its reply; raises what `ChatClient.complete` raises.
    """

    def __init__(self, config: OpenAIConfig, ask: Callable[[Request], Awaitable[str | None]]) -> None:
        self._config, self._ask = config, ask
        self._kinds: dict[tuple[str, bool], _Kind] = {}

    def answered(self, request: Request) -> None:
        """A request was answered."""
        self._kind(request).in_a_row = 0

    async def check(self, request: Request, refusal: AnnotationError) -> None:
        """Returns where the server answers a plain request behind the refused one.

        AnnotationPaused: it does not, or has refused too many in a row.
        """
        kind, refused = self._kind(request), time.monotonic()
        kind.in_a_row += 1
        if kind.in_a_row >= self._config.refusals_in_a_row:
            raise AnnotationPaused(self._too_many(kind.in_a_row, refusal))
        async with kind.lock:
            if kind.answered_since < refused:
                sent = time.monotonic()
                await self._prove(request, refusal)
                kind.answered_since = sent

    async def _prove(self, refused: Request, refusal: AnnotationError) -> None:
        try:
            fault = await self._ask(plain_request(self._config, refused.question.image is not None))
        except (AnnotationError, AskingFailed) as error:
            fault = str(error)
        if fault is not None:
            raise AnnotationPaused(
                f"{refused.url} refuses plain requests too, so this is no verdict on any row: "
                f"{refusal.detail or refusal}; look at the server and at the annotator's settings, then run "
                "the step again: what is answered is kept",
                retryable=True,
            ) from refusal

    def _too_many(self, count: int, refusal: AnnotationError) -> str:
        return (
            f"{count} requests in a row were refused, the last one: {refusal.detail or refusal}. If the "
            "server is right about all of them, raise GOT_ANNOTATOR_REFUSALS_IN_A_ROW, else correct its "
            "limits or the annotator's settings; then run the step again: what is answered is kept"
        )

    def _kind(self, request: Request) -> _Kind:
        key = request.url, request.question.image is not None
        return self._kinds.setdefault(key, _Kind())


def proven(refusal: AnnotationError) -> AnnotationError:
    """The verdict on the row of a request that is refused once more."""
    return AnnotationError(refusal.reason, f"{refusal.detail} ({PROVEN})", refusal.raw)


def plain_request(config: OpenAIConfig, vision: bool) -> Request:
    """A short question that every model can answer: about a red disc, or about one sentence."""
    if not vision:
        template, texts = prompt("edit_steps"), {"instruction": "make the ball red"}
        return request_of(config, question_of(config, template, texts, None), texts, None, replies.read_steps)
    image = Image.new("RGB", (_SIDE, _SIDE), "white")
    ImageDraw.Draw(image).ellipse((64, 64, 192, 192), fill="red")
    picture, template = Picture(image, config), prompt("t2i_prompt")
    question = question_of(config, template, {}, picture)
    return request_of(config, question, {}, picture, replies.read_paragraph)
