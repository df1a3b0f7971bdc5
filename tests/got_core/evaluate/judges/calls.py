"""Calls about small pictures, and a judge with short waits, for tests of judges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from got_core.evaluate.judges.call import Call, Shown
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.judge import Judge
from got_core.evaluate.judges.replies import read_scores
from got_core.storage import Storage

MODEL = "judge-1"
TWO = partial(read_scores, count=2, low=0, high=10)
TEMPLATE = "Rate how well $instruction was done."


def shown(number: int) -> Shown:
    """A picture of 8 x 8 pixels of its own."""
    colour = (number % 256, number // 256 % 256, 7)
    return Shown(sha256=f"{number:064x}", image=lambda: Image.new("RGB", (8, 8), colour))


def call(number: int, **changes: Any) -> Call:
    """A call about a source and an edited picture; its text ends with the number."""
    usual: dict[str, Any] = {
        "step": "test rating",
        "template": TEMPLATE,
        "parts": (shown(2 * number), shown(2 * number + 1), f"Rate edit {number}"),
        "max_tokens": 300,
    }
    return Call(**usual | changes)


def number_of(body: dict[str, Any]) -> int | None:
    """Which call a request is for; None for the plain one behind a refused one."""
    text = body["messages"][0]["content"][-1]["text"]
    return int(text.rpartition(" ")[2]) if text.startswith("Rate edit") else None


def attempt_of(body: dict[str, Any]) -> int:
    """Which reply to a call is asked for, from 1."""
    return (len(body["messages"]) + 1) // 2


def judge_at(url: str, home: Path, **settings: Any) -> Judge:
    """A judge whose ledger is in the home of a test."""
    usual: dict[str, Any] = {
        "model": MODEL,
        "concurrency": 4,
        "timeout": 20.0,
        "patience": 20.0,
        "first_wait": 0.01,
        "longest_wait": 0.05,
    }
    config = JudgeConfig(url=url, **usual | settings)
    return Judge(config, Storage(f"file://{home}"), "answers")


def entries(home: Path) -> Iterator[dict[str, Any]]:
    """Everything that the ledgers of a home hold."""
    for path in sorted(home.glob("answers/*/*.jsonl")):
        for line in path.read_bytes().splitlines():
            yield json.loads(line[9:])
