"""Judges the home of a test, and kills itself with SIGKILL after so many answers. For `test_judging`.

python -m tests.got_core.evaluate.geneval2.killed HOME URL ANSWERS
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import polars as pl

from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.usage import NOTHING, Usage
from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.storage import Storage
from tests.got_core.evaluate.geneval2.lists import SMALL, judge_at


def judge(home: Path, url: str) -> pl.DataFrame:
    """Answers about the folder `pictures`."""
    benchmark = GenEval2(config=SMALL)
    samples = benchmark.read(home / "list.jsonl")
    pictures = benchmark.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    return benchmark.judge(samples, pictures, judge_at(url), store=Storage(f"file://{home / 'store'}"))


def kill_after(most: int) -> None:
    """End the process when so many answers about pictures are kept."""
    finish, lock, kept = Ledger.finish, threading.Lock(), [0]

    def finish_and_die(self: Ledger, record: Record, lost: Usage = NOTHING) -> None:
        finish(self, record, lost)
        with lock:
            kept[0] += not record.step.endswith("self-test")
            if kept[0] >= most:
                os.kill(os.getpid(), signal.SIGKILL)

    Ledger.finish = finish_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    kill_after(int(sys.argv[3]))
    judge(Path(sys.argv[1]), sys.argv[2])
