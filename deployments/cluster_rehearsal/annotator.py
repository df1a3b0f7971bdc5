"""The annotator of a rehearsal: the server of `deployments.rehearsal` with a key, a pace and a memory.

Usage: ``GOT_ANNOTATOR_KEY=... python -m deployments.cluster_rehearsal.annotator HOST PORT``. It remembers
each request that it has answered, and counts those that it has to answer again; whoever has the key reads
the figures at ``/figures``.

Belongs here: these three, and answers for rendered scenes. Not here: HTTP and the other answers
(`deployments.rehearsal.server`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

from deployments.rehearsal.server import ANSWERS, Annotator, Given, Picture, send_json

KEY = "GOT_ANNOTATOR_KEY"
SECONDS = 0.3
"""For which each reply takes."""


class Remembering(Annotator):
    """The server."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._key = key
        self._times: Counter[str] = Counter()
        self._lost = 0
        self._counting = threading.Lock()
        super().__init__(host, port, ANSWERS | _OF_SCENES)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What takes requests of those who have the key."""
        return _handler(self, super().handler())

    def is_let_in(self, given: str | None) -> bool:
        """Whether a request's Authorization has the key."""
        return hmac.compare_digest((given or "").encode(), f"Bearer {self._key}".encode())

    def respond(self, body: Any) -> tuple[int, dict[str, Any]]:
        """As its base, at a model's pace."""
        time.sleep(SECONDS)
        return super().respond(body)

    def note(self, request: bytes, *, taken: bool) -> None:
        """An answer, and whether somebody was there to take it."""
        with self._counting:
            if taken:
                self._times[hashlib.sha256(request).hexdigest()] += 1
            else:
                self._lost += 1

    def figures(self) -> dict[str, int]:
        """Answers, those to a request that had been answered before, and those that nobody took any more."""
        with self._counting:
            answered = self._times.total()
            return {"answered": answered, "again": answered - len(self._times), "lost": self._lost}


def _handler(annotator: Remembering, base: type[BaseHTTPRequestHandler]) -> type[BaseHTTPRequestHandler]:
    class Handler(base):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:
            if annotator.is_let_in(self.headers["Authorization"]):
                send_json(self, 200, annotator.figures())
            else:
                send_json(self, 401, {"error": {"message": "it needs the key"}})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if not annotator.is_let_in(self.headers["Authorization"]):
                send_json(self, 401, {"error": {"message": "it needs the key"}})
                return
            status, response = annotator.respond(json.loads(data))
            if status == 200:
                annotator.note(data, taken=not self._is_left())
            send_json(self, status, response)

        def _is_left(self) -> bool:
            """Whether who asked has closed the connection, as is done for a process that is killed."""
            self.connection.setblocking(False)
            try:
                return self.connection.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True
            finally:
                self.connection.setblocking(True)

    return Handler


# -- answers for scenes -------------------------------------------------------------------------------


def _caption(given: Given, image: Picture) -> str:
    """One that no other picture has: questions about equal captions are equal."""
    own = hashlib.sha256(image.tobytes()).hexdigest()[:12]
    return f"{ANSWERS['t2i_caption'](given, image)} Its number is n{own}."


def _ground(given: Given, image: Picture) -> str:
    """What its base finds, else the same place for the same words."""
    found = json.loads(ANSWERS["ground"](given, image))
    if found["found"]:
        return json.dumps(found)
    left, top = (byte % 5 / 10 for byte in hashlib.sha256(given["phrase"].encode()).digest()[:2])
    shares = (left, top, left + 0.4, top + 0.4)
    sides = (image.width, image.height) * 2
    box = [round(edge * side) for edge, side in zip(shares, sides, strict=True)]
    return json.dumps({"found": True, "box": box})


_TASKS = {"add": "add", "remove": "remove", "replace": "replace", "change": "attribute"}
_WORDS = {
    "edit_parse_add": (r"add an? (\w+ \w+).*", ("object",)),
    "edit_parse_remove": (r"remove the (.+)", ("object",)),
    "edit_parse_replace": (r"replace the (.+) with an? (.+)", ("old", "new")),
}


def _task(given: Given, _: Picture) -> str:
    return json.dumps({"task": _TASKS.get(given["instruction"].split()[0].lower(), "other")})


def _parsed(name: str) -> Any:
    pattern, keys = _WORDS[name]

    def answer(given: Given, _: Picture) -> str:
        match = re.fullmatch(pattern, given["instruction"], re.IGNORECASE)
        return json.dumps(dict(zip(keys, match.groups(), strict=True)) if match else {})

    return answer


def _attribute(given: Given, _: Picture) -> str:
    match = re.fullmatch(r"change the (\w+ (\w+)) to (\w+)", given["instruction"], re.IGNORECASE)
    return json.dumps({"old": match[1], "new": f"{match[3]} {match[2]}"} if match else {})


_OF_SCENES = {
    "t2i_caption": _caption,
    "ground": _ground,
    "edit_task": _task,
    "edit_parse_attribute": _attribute,
    **{name: _parsed(name) for name in _WORDS},
}


if __name__ == "__main__":
    Remembering(sys.argv[1], int(sys.argv[2]), os.environ[KEY]).serve()
