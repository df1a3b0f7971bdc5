"""An annotator of a rehearsal: an OpenAI-compatible server on this machine that answers from the pixels.

It answers every prompt of ``got_core.annotate`` as a model would, boxes in pixels as Qwen2.5-VL gives them,
and also as servers at times do: it is busy, replies with what does not parse, and refuses. Which requests
meet that follows from what they hold. Belongs here: HTTP, and one answer for each prompt. Not here: what a
picture shows (``eyes``).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from deployments.rehearsal import eyes
from got_core.annotate.prompt_files import prompt, prompt_names

MODEL = "Qwen2.5-VL-rehearsal"
"""The model's name: of a family that gives boxes in pixels."""
MOST_AREAS = 4
BUSY, GARBLED = 40, 15
"""Of so many requests, one is first answered with 503, or with a reply that does not parse."""
GREY = 2.0
"""Largest mean distance of a pixel's bands in a picture without colours, in which nothing is seen."""
PAGE = 0.8
"""Smallest share of such a picture that is bright where it is a page of text, which is refused."""


class Refusal(Exception):
    """The model will not answer."""


class Annotator:
    """The server; in a ``with`` statement it runs in a thread, at ``url``."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        answers: Mapping[str, Callable[[Given, Picture], str]] | None = None,
    ) -> None:
        self._host, self._answers = host, ANSWERS if answers is None else answers
        self.answered: Counter[str] = Counter()
        """Answers by prompt."""
        self.faults: Counter[str] = Counter()
        """What was answered otherwise: ``busy``, ``garbled``, ``refused``."""
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._server = _Server((host, port), self.handler())

    @property
    def url(self) -> str:
        """Base URL up to and with the version."""
        return f"http://{self._host}:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Annotator:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What takes requests."""
        return _handler(self)

    def serve(self) -> None:
        """Serve in this thread."""
        self._server.serve_forever()

    def respond(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and response of a request's body."""
        text, image = _parts(body)
        name, given = _asked(text)
        turn = int(hashlib.sha256(text.encode() + (image.tobytes() if image else b"")).hexdigest()[:8], 16)
        first = self._first(f"{turn}")
        if first and turn % BUSY == 0:
            return self._fault("busy", 503, {"error": {"message": "overloaded, try again"}})
        if len(body["messages"]) == 1 and turn % GARBLED == 0 and prompt(name).schema is not None:
            return self._fault("garbled", 200, _completion("Here you are: {"))
        try:
            reply = self._answers[name](given, image)
        except Refusal:
            return self._fault("refused", 200, _completion("", "content_filter"))
        with self._lock:
            self.answered[name] += 1
        return 200, _completion(reply)

    def _first(self, key: str) -> bool:
        with self._lock:
            new = key not in self._seen
            self._seen.add(key)
            return new

    def _fault(self, kind: str, status: int, response: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.faults[kind] += 1
        return status, response


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """An annotator opens all its connections at once."""


# -- requests -----------------------------------------------------------------------------------------


def send_json(handler: BaseHTTPRequestHandler, status: int, response: Any) -> None:
    """Answer a request."""
    reply = json.dumps(response).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(reply)))
    handler.end_headers()
    handler.wfile.write(reply)


def _handler(annotator: Annotator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            send_json(self, *annotator.respond(json.loads(data)))

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing."""

    return Handler


def _completion(text: str, finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": len(text) // 4 + 1},
    }


def _parts(body: Mapping[str, Any]) -> tuple[str, Image.Image | None]:
    """Prompt and picture of a request."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return content, None
    data = content[0]["image_url"]["url"].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return content[-1]["text"], image.convert("RGB")


def _asked(text: str) -> tuple[str, dict[str, str]]:
    """Name of a prompt, and what was filled in."""
    for name in prompt_names():
        if match := _pattern(name).fullmatch(text):
            return name, match.groupdict()
    raise ValueError(f"no prompt begins with {text[:80]!r}")


@cache
def _pattern(name: str) -> re.Pattern[str]:
    pieces, known = re.split(r"\$(\w+)", prompt(name).text), set()
    pattern = ""
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            pattern += re.escape(piece)
        else:
            pattern += f"(?P={piece})" if piece in known else f"(?P<{piece}>.*)"
            known.add(piece)
    return re.compile(pattern, re.DOTALL)


# -- answers ------------------------------------------------------------------------------------------


Given = Mapping[str, str]
Picture = Any
"""A PIL image; None for prompts about texts alone, whose answers do not look at it."""


def _seen(image: Picture) -> list[eyes.Found]:
    """What a picture shows, at most MOST_AREAS things; nothing of a picture without colours.

    Raises Refusal for a page of text.
    """
    pixels = np.asarray(image.resize((eyes.GRID, eyes.GRID)), dtype=float)
    if np.ptp(pixels, axis=-1).mean() < GREY:
        if (pixels.min(axis=-1) > 120).mean() > PAGE:
            raise Refusal
        return []
    return [*eyes.shapes(image), *eyes.areas(image)][:MOST_AREAS]


def _listed(names: list[str]) -> str:
    names = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _prompt(_: Given, image: Picture) -> str:
    seen = _seen(image)
    if not seen:
        return "a picture in shades of grey"
    return f"a photograph with {_listed([one.name for one in seen])}"


def _caption(_: Given, image: Picture) -> str:
    seen = _seen(image)
    if not seen:
        return "A picture in shades of grey, in which nothing stands out from the rest."
    places = ", ".join(f"{_listed([one.name])} {eyes.place_of(one.box)}" for one in seen)
    return f"The photograph shows {places}. It is sharp, and the light in it is even."


def _entities(given: Given, _: Picture) -> str:
    colours = "|".join(sorted({*eyes.COLOURS, *(name for _, name in eyes.HUES), "black", "white", "grey"}))
    found = re.findall(rf"\b(?:{colours}) (?:area|disc|square)\b", given["caption"])
    return json.dumps({"entities": list(dict.fromkeys(found))})


def _ground(given: Given, image: Picture) -> str:
    """The box in pixels of the picture that was sent."""
    found = eyes.find(image, given["phrase"])
    if found is None:
        return json.dumps({"found": False, "box": None})
    sides = (image.width, image.height) * 2
    return json.dumps(
        {"found": True, "box": [round(edge * side) for edge, side in zip(found.box, sides, strict=True)]}
    )


def _ground_together(given: Given, image: Picture) -> str:
    entries = []
    for name in re.findall(r"^- (.*)$", given["phrases"], re.M):
        box = json.loads(_ground({"phrase": name}, image))["box"]
        entries.append({"bbox_2d": box, "label": name})
    return json.dumps({"boxes": entries})


def _steps(given: Given, _: Picture) -> str:
    steps = given["instruction"].split(", then ")
    return json.dumps({"steps": [step[0].upper() + step[1:] for step in steps]})


VERBS = {
    "Add": "add",
    "Remove": "remove",
    "Replace": "replace",
    "Make": "attribute",
    "Turn": "style",
    "Let": "environment",
}


def _task(given: Given, _: Picture) -> str:
    return json.dumps({"task": VERBS.get(given["instruction"].split()[0], "other")})


def _named(pattern: str, *keys: str) -> Callable[[Given, Picture], str]:
    """An answer with the parts of an instruction that a pattern finds."""

    def answer(given: Given, _: Picture) -> str:
        match = re.fullmatch(pattern, given["instruction"])
        if match is None:
            return json.dumps({})
        return json.dumps(dict(zip(keys, match.groups(), strict=True)))

    return answer


def _attribute(given: Given, _: Picture) -> str:
    match = re.fullmatch(r"Make the (\w+ (\w+)) (\w+)", given["instruction"])
    return json.dumps({"old": match[1], "new": f"{match[3]} {match[2]}"} if match else {})


def _describe(given: Given, image: Picture) -> str:
    names = [one.name for one in _seen(image) if one.name != given["mention"]]
    beside = f", beside {_listed(names)}" if names else ""
    return f"The picture shows the {given['mention']}{beside}. It is a sharp photograph."


def _describe_whole(_: Given, image: Picture) -> str:
    names = [one.name for one in _seen(image)]
    return f"A sharp photograph with {_listed(names) if names else 'shades of grey alone'}."


def _crop(_: Given, image: Picture) -> str:
    seen = [*eyes.shapes(image), *eyes.areas(image)]
    return f"flat {seen[0].name}" if seen else "plain thing"


def _rewrite(given: Given, _: Picture) -> str:
    order = given["instruction"][0].lower() + given["instruction"][1:]
    wordings = [f"Please {order}", f"I would like you to {order}", f"In this picture, {order}"]
    return json.dumps({"instructions": wordings})


def _chain(given: Given, _: Picture) -> str:
    order = given["instruction"][0].lower() + given["instruction"][1:]
    lines = [given["source"], f"the {given['object']}", given["box"], order, given["target"]]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _multi_turn(given: Given, _: Picture) -> str:
    steps = re.findall(r"instruction: (.*); object: (.*); box: (.*)", given["steps"])
    turns = [f"the {thing} {box}, {order[0].lower() + order[1:]}" for order, thing, box in steps]
    lines = [given["source"], *turns, given["target"]]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


ANSWERS: dict[str, Callable[[Given, Picture], str]] = {
    "t2i_prompt": _prompt,
    "t2i_caption": _caption,
    "t2i_entities": _entities,
    "ground": _ground,
    "ground_together": _ground_together,
    "edit_steps": _steps,
    "edit_task": _task,
    "edit_parse_add": _named(r"Add an? (.+)", "object"),
    "edit_parse_remove": _named(r"Remove the (.+)", "object"),
    "edit_parse_replace": _named(r"Replace the (.+) with an? (.+)", "old", "new"),
    "edit_parse_attribute": _attribute,
    "edit_parse_style": _named(r"Turn the (.+) into an? (.+)", "part", "becomes"),
    "edit_parse_environment": _named(r"Let the (.+) become (.+)", "part", "becomes"),
    "edit_describe": _describe,
    "edit_describe_whole": _describe_whole,
    "edit_crop": _crop,
    "edit_rewrite": _rewrite,
    "edit_chain": _chain,
    "multi_turn_chain": _multi_turn,
}
"""One for each prompt."""
