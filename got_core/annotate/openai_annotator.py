"""The annotator that sends requests to vision and text models behind any OpenAI-compatible server.

Belongs here: the prompt of each question, and how its reply is read. Not here: requests and the ledger
(`dispatch`), the prompts themselves (`prompts/`), the forms of replies (`replies`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationError, AnnotationPaused, Place, Step
from got_core.annotate.client import Notice
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.daily_budget import DailyBudget
from got_core.annotate.dispatch import Dispatcher
from got_core.annotate.ledger import Ledger
from got_core.annotate.prompt_files import prompts_hash
from got_core.annotate.replies import Frame
from got_core.annotate.request import PLACES_TOGETHER, length_of, sampling
from got_core.annotate.slots import slots_path
from got_core.annotate.usage import Usage
from got_core.chain.boxes import Box

T = TypeVar("T")

VERSION = 3
"""Raise it when the same replies give other texts or boxes."""

TASKS = ("add", "remove", "replace", "attribute", "style", "environment")
"""Kinds of a single edit that are told apart; each has a prompt `edit_parse_*` of its own."""
_PARSED = {
    "add": ("object",),
    "remove": ("object",),
    "replace": ("old", "new"),
    "attribute": ("old", "new"),
    "style": ("part", "becomes"),
    "environment": ("part", "becomes"),
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def revision_of(config: OpenAIConfig) -> str:
    """Names models, prompts and settings that the answers depend on."""
    models = [config.model(vision=True), config.model(vision=False)]
    parts = [VERSION, models, prompts_hash(), config.attempts, vars(config.vision)]
    parts += sampling(config, length_of(config, ""))
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    name = config.vision_model.rstrip("/").rpartition("/")[2]
    return f"openai-{VERSION}-{name}-{digest}"


class ChatAnnotator(ABC):
    """Every question of the interface as a prompt and the reader of its reply; `_answer` gets the reply."""

    config: OpenAIConfig

    @property
    def revision(self) -> str:
        """Models, prompts and settings that the answers depend on."""
        return revision_of(self.config)

    @abstractmethod
    def _answer(
        self, name: str, read: Callable[[str], T], image: Image.Image | None = None, **texts: str
    ) -> T:
        """What `read` makes of the reply to the prompt of that name. Raises AnnotationError."""

    @abstractmethod
    def _is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> bool:
        """Whether `_answer` would need no request."""

    @abstractmethod
    def _size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of the image as the model is shown it, in pixels."""

    # The questions of text-to-image annotation

    def concise_prompt(self, image: Image.Image) -> str:
        """A short prompt, as a person would type it."""
        return self._answer("t2i_prompt", partial(replies.read_paragraph, max_characters=600), image)

    def detailed_caption(self, image: Image.Image, prompt: str) -> str:
        """One dense paragraph."""
        return self._answer("t2i_caption", replies.read_paragraph, image, prompt=prompt)

    def extract_entities(self, caption: str) -> list[str]:
        """Names in the caption's exact wording."""
        return self._answer("t2i_entities", partial(replies.read_entities, caption=caption), caption=caption)

    def ground(self, image: Image.Image, phrase: str, occurrence: int = 0) -> Box | None:
        """The box in thousandths, whatever unit the model gives it in."""
        read, texts = self._ground_question(image, phrase, occurrence)
        return self._answer("ground", read, image, **texts)

    def ground_all(self, image: Image.Image, places: Sequence[Place]) -> list[Box | None]:
        """The box of each place: with one request where the settings say so, what is left one by one."""
        found: dict[Place, Box | None] = {}
        if self.config.boxes == "together":
            for start in range(0, len(places), PLACES_TOGETHER):
                together = _whole_names(places[start : start + PLACES_TOGETHER])
                found |= self._ground_together(image, together) if len(together) > 1 else {}
        return [found[place] if place in found else self.ground(image, *place) for place in places]

    def _ground_together(self, image: Image.Image, places: Sequence[Place]) -> dict[Place, Box | None]:
        """The boxes that one request gives; none where the reply cannot be used.

        Where some of the places were asked one by one, the others are too: then a row that is done again has
        the same questions, and finds them answered.
        """
        frame = self._frame(image)
        read = partial(replies.read_boxes, frame=frame, wanted=tuple(places))
        texts = {"phrases": "\n".join(f"- {phrase}" for phrase, _ in places), "unit": _unit(frame)}
        known = self._is_answered("ground_together", read, image, **texts)
        if not known and any(self._is_grounded(image, place) for place in places):
            return {}
        try:
            return self._answer("ground_together", read, image, **texts)
        except AnnotationError as error:
            if error.reason not in ("bad_reply", "reply_too_large"):
                raise
            return {}

    def _is_grounded(self, image: Image.Image, place: Place) -> bool:
        read, texts = self._ground_question(image, *place)
        return self._is_answered("ground", read, image, **texts)

    def _ground_question(
        self, image: Image.Image, phrase: str, occurrence: int
    ) -> tuple[Callable[[str], Box | None], dict[str, str]]:
        """Reader and texts of the question for one box."""
        frame = self._frame(image)
        which = _ORDINALS[occurrence] if occurrence < len(_ORDINALS) else f"{occurrence + 1}th"
        read = partial(replies.read_box, frame=frame, occurrence=occurrence)
        return read, {"phrase": phrase, "which": which, "unit": _unit(frame)}

    # The questions of edit annotation

    def split_steps(self, instruction: str) -> list[str]:
        """The single edits, each worded so that it can stand alone."""
        steps = self._answer("edit_steps", replies.read_steps, instruction=instruction)
        return steps if len(steps) > 1 else [instruction]

    def parse_edit(self, instruction: str) -> tuple[str, list[str]]:
        """Task and entities. AnnotationError `unknown_task`: an edit of another kind."""
        tasks = (*TASKS, "other")
        task = self._answer("edit_task", partial(replies.read_task, tasks=tasks), instruction=instruction)
        if task == "other":
            raise AnnotationError("unknown_task", f"{instruction[:80]!r} is none of {', '.join(TASKS)}")
        read = partial(replies.read_named, keys=_PARSED[task])
        return task, self._answer(f"edit_parse_{task}", read, instruction=instruction)

    def describe(self, image: Image.Image, mention: str) -> str:
        """At most two sentences."""
        read = partial(replies.read_paragraph, max_characters=1200)
        if not mention:
            return self._answer("edit_describe_whole", read, image)
        return self._answer("edit_describe", read, image, mention=mention)

    def describe_crop(self, image: Image.Image, box: Box) -> str:
        """One sentence on the box's crop."""
        left, top, right, bottom = box.to_pixels(image.width, image.height)
        corners = int(left), int(top), max(round(right), int(left) + 1), max(round(bottom), int(top) + 1)
        read = partial(replies.read_paragraph, max_characters=600)
        return self._answer("edit_crop", read, image.crop(corners)).rstrip(" .")

    def rewrite(self, instruction: str) -> list[str]:
        """Three wordings."""
        return self._answer("edit_rewrite", replies.read_wordings, instruction=instruction)

    def edit_chain(
        self,
        instruction: str,
        source_text: str,
        target_text: str,
        boxes: Sequence[Box],
        object: str,
        task: str,
    ) -> str:
        """The numbered chain, with exactly these boxes."""
        return self._answer(
            "edit_chain",
            partial(replies.read_chain, boxes=[boxes]),
            instruction=instruction,
            source=source_text,
            target=target_text,
            box=", ".join(map(str, boxes)),
            object=object,
            task=task,
        )

    def multi_turn_chain(self, source_text: str, target_text: str, steps: Sequence[Step]) -> str:
        """The numbered chain, one item a step, with exactly these boxes."""
        step_lines = [
            f"{number}. task: {step.task}; instruction: {step.instruction}; object: {step.entity}; "
            f"box: {', '.join(map(str, step.boxes))}"
            for number, step in enumerate(steps, start=1)
        ]
        read = partial(replies.read_chain, boxes=[step.boxes for step in steps])
        return self._answer(
            "multi_turn_chain", read, source=source_text, target=target_text, steps="\n".join(step_lines)
        )

    def _frame(self, image: Image.Image) -> Frame:
        return Frame(*self._size(image), pixels=self.config.vision.box_unit == "pixels")


class OpenAIAnnotator(ChatAnnotator):
    """Sends each question once, keeps the answer, and counts what it costs. Safe to use from several threads.

    Close it, or use it in a `with` statement. Beside AnnotationError (reasons `bad_reply`, `refused`,
    `reply_too_large`, `server_error`, `unknown_task`), every question may raise AnnotationPaused: server
    gone, wrong settings, budget spent.

    Args:
        config: server, models, limits.
        ledger: answers of this shard; what it holds is not requested again.
        notice: called with a sentence when the server stops answering and when it is back.
        daily: the budget of the day, of all processes together.
        slots: folder by which all processes of the machine keep to `concurrency` together. None: each by
            itself.
    """

    def __init__(
        self,
        config: OpenAIConfig,
        ledger: Ledger,
        notice: Notice | None = None,
        daily: DailyBudget | None = None,
        slots: Path | None = None,
    ) -> None:
        self.config, self.ledger = config, ledger
        self.rows_at_once = 2 * config.concurrency
        """While a row is prepared, another one's question is under way."""
        self._notice, self._daily = notice, daily
        self._slots = slots_path(slots, f"{config.url} {config.text_url}") if slots else None
        self._opened: Dispatcher | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> OpenAIAnnotator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._opened.requests if self._opened else 0

    @property
    def reused(self) -> int:
        """Answers that were in the ledger."""
        return self._opened.reused if self._opened else 0

    @property
    def spent(self) -> Usage | None:
        """What the shard has cost so far, earlier runs included. None before the first question."""
        return self._opened.spent if self._opened else None

    def stop(self) -> None:
        """End what is under way; every later question raises AnnotationPaused."""
        self._stopped = True
        if self._opened:
            self._opened.stop()

    def close(self) -> None:
        """Close connections and the ledger."""
        if self._opened:
            self._opened.close()

    @property
    def _dispatcher(self) -> Dispatcher:
        """Opened with the first question: a step without any reads no ledger and starts nothing."""
        with self._lock:
            if self._opened is None:
                if self._stopped:
                    raise AnnotationPaused("annotation was stopped")
                self._opened = Dispatcher(self.config, self.ledger, self._notice, self._daily, self._slots)
            return self._opened

    def _answer(
        self, name: str, read: Callable[[str], T], image: Image.Image | None = None, **texts: str
    ) -> T:
        return self._dispatcher.answer(name, read, image, texts)

    def _is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> bool:
        return self._dispatcher.is_answered(name, read, image, texts)

    def _size(self, image: Image.Image) -> tuple[int, int]:
        return self._dispatcher.sent_size(image)


def _whole_names(places: Sequence[Place]) -> list[Place]:
    """The places of names whose first object is among them: a request counts objects from the first."""
    return [(name, number) for name, number in places if all((name, k) in places for k in range(number))]


def _unit(frame: Frame) -> str:
    """How coordinates are to be given, for the prompt."""
    if frame.pixels:
        return f"pixels of this image, which is {frame.width} wide and {frame.height} high"
    return "thousandths of the image's width and height, whole numbers from 0 to 999"
