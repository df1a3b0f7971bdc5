"""A judge that looks: a chat server that reads drawings of plain shapes and gives log-probabilities."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image, ImageDraw
from scipy import ndimage

from tests.got_core.annotate.chat_server import completion, text_of

MODEL = "Qwen/Qwen3-VL-8B-Instruct"
COLOURS = {"red": (220, 20, 20), "green": (20, 140, 50), "blue": (30, 60, 200)}
SHAPES = ("circle", "square", "triangle")
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")

Group = tuple[int, str, str]
"""How many of which colour and shape."""


def drawing(groups: Sequence[Group], side: int = 256) -> Image.Image:
    """Shapes on white, none touching another."""
    image = Image.new("RGB", (side, side), "white")
    draw, step = ImageDraw.Draw(image), side // 4
    for place, (colour, shape) in enumerate((c, s) for count, c, s in groups for _ in range(count)):
        left, top = 8 + place % 4 * step, 8 + place // 4 * step
        _draw(draw, (left, top, left + step - 16, top + step - 16), COLOURS[colour], shape)
    return image


def _draw(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], fill: Any, shape: str) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=fill)


def seen(image: Image.Image) -> list[tuple[str, str]]:
    """Colour and shape of every blob."""
    levels = np.asarray(image.convert("RGB")).astype(int)
    labels, _ = ndimage.label(levels.min(axis=2) < 200)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == number
        shade = levels[box][inside].mean(axis=0)
        colour = min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - shade).sum())
        fill = inside.mean()
        found.append((colour, "square" if fill > 0.9 else "circle" if fill > 0.65 else "triangle"))
    return found


def answer_of(body: Mapping[str, Any]) -> str:
    """What a picture shows, for a question about shapes: Yes, No or a digit."""
    text, data = text_of(body), body["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    things = seen(Image.open(io.BytesIO(base64.b64decode(data))))
    shape = next(one for one in SHAPES if one in text)
    colour = next((one for one in COLOURS if one in text), None)
    found = [one for one in things if one[1] == shape]
    if text.startswith("How many"):
        return str(len(found))
    return "Yes" if found and all(colour in (None, one[0]) for one in found) else "No"


def spread(answer: str) -> dict[str, float]:
    """Probabilities of first tokens around an answer."""
    other = {"Yes": "No", "No": "Yes"}.get(answer, str(int(answer) + 1) if answer.isdigit() else "?")
    rest = {f"word{number}": 0.002 / 2**number for number in range(25)}
    small = {answer.lower(): 0.02} if answer.isalpha() else {}
    return {answer: 0.8, f" {answer}": 0.1, **small, other: 0.04, **rest}


def reply(body: Mapping[str, Any], probabilities: Mapping[str, float], **changes: Any) -> web.Response:
    """A response with the most likely tokens, as many as were asked for, and more fields or others."""
    if not body.get("logprobs"):  # the plain request behind a refused one
        return web.json_response(completion("a red disc on white"))
    ranked = sorted(probabilities.items(), key=lambda one: -one[1])
    entries = [
        {"token": token, "logprob": math.log(p) if p else -9999.0, "bytes": list(token.encode())}
        for token, p in ranked
    ]
    first = {**entries[0], "top_logprobs": entries[: body["top_logprobs"]]}
    whole = completion(ranked[0][0], tokens_out=1, finish="length")
    whole["choices"][0]["logprobs"] = {"content": [first]}
    return web.json_response({"model": body["model"], **whole, **changes})


def looking(body: dict[str, Any]) -> web.Response:
    """An honest judge."""
    if not body.get("logprobs"):
        return reply(body, {})
    return reply(body, spread(answer_of(body)))


def without_logprobs(body: dict[str, Any]) -> web.Response:
    """A server that knows nothing of log-probabilities and says nothing of it."""
    return web.json_response({"model": body["model"], **completion("Yes", finish="length")})


def in_self_test(body: Mapping[str, Any]) -> bool:
    """Whether a question is about one of the known drawings."""
    data = body["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data))).size == (448, 448)


def after_self_test(answer: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """An honest judge of the known drawings, and this one of all others."""
    return lambda body: looking(body) if in_self_test(body) else answer(body)


def question_in(body: Mapping[str, Any]) -> str:
    """The question of a request without the wording around it."""
    return re.split(r"(?<=\?)", text_of(body))[0]
