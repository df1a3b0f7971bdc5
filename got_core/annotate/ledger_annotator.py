"""The annotator that sends no requests: it answers from the ledger and collects the pending questions.

Belongs here: which questions a row still has. Not here: who answers them (`ray_batch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationError, Place
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.dispatch import answer_of, is_final
from got_core.annotate.ledger import Ledger, Question
from got_core.annotate.openai_annotator import ChatAnnotator
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import prompt
from got_core.annotate.request import Request, question_of, request_of
from got_core.chain.boxes import Box

T = TypeVar("T")


class Unanswered(AnnotationError):
    """The ledger has no answer to this question yet."""

    def __init__(self) -> None:
        super().__init__("unanswered", "the ledger has no answer to the question yet")


@dataclass(frozen=True)
class PendingQuestion:
    """A question without an answer, and all that its request is made of."""

    question: Question
    texts: Mapping[str, str]
    picture: Picture | None
    read: Callable[[str], Any]

    @property
    def vision(self) -> bool:
        """Whether a picture goes with it."""
        return self.picture is not None

    def request(self, config: OpenAIConfig) -> Request:
        """Its request; only now the picture is resized and encoded."""
        return request_of(config, self.question, self.texts, self.picture, self.read)


class LedgerAnnotator(ChatAnnotator):
    """Answers from the ledger. What a row gives is its answer only if `take_pending` is empty after it.

    A row goes on behind a pending question where no later question depends on it, so that as many as possible
    can be sent at once.

    Args:
        config: models and sampling, which are part of a question's key.
        ledger: answers of this shard.
    """

    def __init__(self, config: OpenAIConfig, ledger: Ledger) -> None:
        self.config, self.ledger = config, ledger
        self._pending: dict[str, PendingQuestion] = {}
        self._picture: Picture | None = None

    def take_pending(self) -> dict[str, PendingQuestion]:
        """The questions without an answer since the last call, by their keys."""
        taken, self._pending = self._pending, {}
        return taken

    def ground(self, image: Image.Image, phrase: str, occurrence: int = 0) -> Box | None:
        """As the interface says; None as long as there is no answer."""
        try:
            return super().ground(image, phrase, occurrence)
        except Unanswered:
            return None

    def _ground_together(self, image: Image.Image, places: Sequence[Place]) -> dict[Place, Box | None]:
        try:
            return super()._ground_together(image, places)
        except Unanswered:
            return dict.fromkeys(places)

    def describe(self, image: Image.Image, mention: str) -> str:
        """As the interface says; "" as long as there is no answer."""
        try:
            return super().describe(image, mention)
        except Unanswered:
            return ""

    def _answer(
        self, name: str, read: Callable[[str], T], image: Image.Image | None = None, **texts: str
    ) -> T:
        read = replies.bounded(read)
        picture = self._sent_picture(image) if image is not None else None
        question = question_of(self.config, prompt(name), texts, picture)
        record = self.ledger.get(question.key)
        if is_final(record, read):
            return answer_of(record, read)
        self._pending.setdefault(question.key, PendingQuestion(question, texts, picture, read))
        raise Unanswered

    def _is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> bool:
        picture = self._sent_picture(image) if image is not None else None
        question = question_of(self.config, prompt(name), texts, picture)
        return is_final(self.ledger.get(question.key), replies.bounded(read))

    def _size(self, image: Image.Image) -> tuple[int, int]:
        return self._sent_picture(image).size

    def _sent_picture(self, image: Image.Image) -> Picture:
        if self._picture is None or self._picture.image is not image:
            self._picture = Picture(image, self.config)
        return self._picture
