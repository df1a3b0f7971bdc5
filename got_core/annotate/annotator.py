"""The interface of what answers the questions of both annotation pipelines.

Belongs here: the questions, and the errors of those who cannot answer: a verdict on the row
(AnnotationError), or none (AskingFailed, AnnotationPaused). Not here: who answers them
(`scene_annotator`, `openai_annotator`) or the tables that the answers go to (`t2i`, `edit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from got_core.chain.boxes import Box


class AnnotationError(ValueError):
    """A row that cannot be annotated: `reason` is a short slug, `detail` a sentence for people.

    `raw` is the model's reply that could not be used, where there is one.
    """

    def __init__(self, reason: str, detail: str = "", raw: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.raw = raw

    def __reduce__(self) -> tuple[type[AnnotationError], tuple[str, str, str | None]]:
        return type(self), (self.reason, self.detail, self.raw)


class AnnotationPaused(RuntimeError):
    """Annotation of a whole shard stops here, for a reason that is no row's fault; finished answers are kept.

    Running the step again goes on where it stopped. `retryable`: that may help soon, without anybody's doing.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class AskingFailed(RuntimeError):
    """A question got no answer for a reason that is not the row's: no verdict on the row.

    The other rows of the shard go on; in the end the step fails with AnnotationPaused.
    """


@dataclass(frozen=True)
class Step:
    """One step of a multi-turn edit: its instruction, its kind, and where the object is."""

    instruction: str
    task: str
    entity: str
    """The object that the step acts on, as it looks by then."""
    boxes: tuple[Box, ...]
    """Its box before the step (where it appears, for add), and for a move the new one behind it."""


Place = tuple[str, int]
"""A phrase, and which object of that name (from 0)."""


class Annotator(Protocol):
    """Answers for one image or one text at a time; images are RGB. Each method may raise AnnotationError.

    An annotator with a number `rows_at_once` answers that many rows at the same time, from as many threads;
    its method `stop`, if it has one, then ends what is under way. AnnotationPaused stops the shard. One with
    a method `answer_rows` is given all rows of a step and the step's function instead. One with a method
    `ground_all(image, places)` is asked for all boxes of an image at once (`boxes_of`). One with a method
    `in_plain_words(image, instruction)` is asked first for instructions in words that name the objects of the
    image to edit; without it, the other questions about an instruction are asked in the words given.
    """

    @property
    def revision(self) -> str:
        """Names everything that the answers depend on: model, prompts, version. Part of every chain id."""
        ...

    def concise_prompt(self, image: Image.Image) -> str:
        """A short prompt for the image: what the trained model will be given."""
        ...

    def detailed_caption(self, image: Image.Image, prompt: str) -> str:
        """One paragraph on the image; a prompt that does not fit the image is ignored."""
        ...

    def extract_entities(self, caption: str) -> list[str]:
        """Groundable object names of a caption, in order, in its exact wording; repeated ones repeat."""
        ...

    def ground(self, image: Image.Image, phrase: str, occurrence: int = 0) -> Box | None:
        """Box of the phrase's object, the `occurrence`-th one (from 0) of that name; None: not found."""
        ...

    def split_steps(self, instruction: str) -> list[str]:
        """The single edits that an instruction asks for, in order: itself alone where it is one."""
        ...

    def parse_edit(self, instruction: str) -> tuple[str, list[str]]:
        """Task type of a single edit and the entities it is about (old one first, new one last)."""
        ...

    def describe(self, image: Image.Image, mention: str) -> str:
        """The image in at most two sentences that mention the object ("" where none has to be)."""
        ...

    def describe_crop(self, image: Image.Image, box: Box) -> str:
        """What the box shows, in one sentence or phrase."""
        ...

    def rewrite(self, instruction: str) -> list[str]:
        """Three free wordings of an instruction, the first one concise."""
        ...

    def edit_chain(
        self,
        instruction: str,
        source_text: str,
        target_text: str,
        boxes: Sequence[Box],
        object: str,
        task: str,
    ) -> str:
        """The numbered edit chain in data form."""
        ...

    def multi_turn_chain(self, source_text: str, target_text: str, steps: Sequence[Step]) -> str:
        """The numbered chain of an edit in several steps, in data form."""
        ...


def boxes_of(annotator: Annotator, image: Image.Image, places: Sequence[Place]) -> list[Box | None]:
    """The box of each place, None where it was not found; with one question, if the annotator takes such."""
    if ground_all := getattr(annotator, "ground_all", None):
        return ground_all(image, places)
    return [annotator.ground(image, phrase, occurrence) for phrase, occurrence in places]
