"""A judge behind a server that knows the canary's pairs, and moves as it is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from got_core.evaluate.judges.call import Call
from got_core.evaluate.judges.canary import canary_check
from got_core.evaluate.judges.canary_pairs import CanaryPair, canary_pairs
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judges.calls import TWO, judge_at

NAMES = ("success", "over-editing")


def put(pair: CanaryPair) -> Call:
    """A prompt of two scores that names the pair, so that a server without eyes can know it."""
    text = f"Rate the edit: {pair.instruction} ({pair.name})"
    return Call(
        step="toy", template="Rate the edit: {}", parts=(pair.source, pair.edited, text), max_tokens=99
    )


class Server:
    """A judge that is right about every pair, but for `shift` points, noise, and pairs that it refuses."""

    def __init__(self) -> None:
        self.shift, self.noise, self.refused = (0.0, 0.0), 0.0, 0
        self.dice = random.Random(3)
        self.known = {put(pair).parts[-1]: (k, pair) for k, pair in enumerate(canary_pairs())}

    def __call__(self, body: dict[str, Any]) -> str:
        number, pair = self.known[body["messages"][0]["content"][-1]["text"]]
        if number < self.refused:
            return "I'm sorry, but I can't assist with that."
        right = (8 if pair.done else 1, 8 if pair.kept else 2)
        shown = [one + by + self.dice.gauss(0, self.noise) for one, by in zip(right, self.shift, strict=True)]
        return json.dumps(
            {"score": [round(min(max(one, 0), 10), 3) for one in shown], "reasoning": pair.name}
        )


def checked(server: ChatServer, home: Path, **settings: Any) -> dict[str, Any]:
    with judge_at(server.url, home, **settings) as judge:
        return canary_check(judge, put, TWO, names=NAMES)
