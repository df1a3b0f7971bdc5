"""Drawings whose content is known, to try a judge on before it is believed.

Belongs here: the drawings and what is asked about them. Not here: asking, or the verdict on the judge
(`server`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from got_core.evaluate.geneval2.prompts import Question

SIDE = 448


@dataclass(frozen=True, kw_only=True)
class Known:
    """A question about a drawing, and whether its answer is right."""

    image: Image.Image
    shows: str
    question: Question
    right: bool


def known_questions() -> Sequence[Known]:
    """Each true statement with a false one of the same kind about the same drawing."""
    disc, squares, triangle = _disc(), _squares(), _triangle()
    red, two, three = "a red circle", "two green squares", "a blue triangle"
    return [
        _known(disc, red, "Is the circle red?", right=True),
        _known(disc, red, "Is the circle blue?", right=False),
        _known(triangle, three, "Are there any triangles in the image?", right=True),
        _known(triangle, three, "Are there any circles in the image?", right=False),
        _known(squares, two, "How many squares are in the image?", "two", right=True),
        _known(squares, two, "How many squares are in the image?", "five", right=False),
    ]


def _known(image: Image.Image, shows: str, text: str, answer: str = "Yes", *, right: bool) -> Known:
    question = Question(text=text, answer=answer, skill="object" if answer == "Yes" else "count")
    return Known(image=image, shows=shows, question=question, right=right)


def _sheet() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    return image, ImageDraw.Draw(image)


def _disc() -> Image.Image:
    image, draw = _sheet()
    draw.ellipse((112, 112, 336, 336), fill=(220, 20, 20))
    return image


def _squares() -> Image.Image:
    image, draw = _sheet()
    for left in (56, 256):
        draw.rectangle((left, 156, left + 136, 292), fill=(20, 140, 50))
    return image


def _triangle() -> Image.Image:
    image, draw = _sheet()
    draw.polygon([(224, 90), (90, 350), (358, 350)], fill=(30, 60, 200))
    return image
