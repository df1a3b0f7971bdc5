"""A ledger of 100,000 judged samples loaded and scored in one process: from the file to the mean.

As a table (`judges.export`): segments to rows, every reply read by the reader of two scores, the least of
them, their mean. As a judge finds them (`Judge.each`): a key for every call, the kept reply, the same reader.
`of it` are the parts. BENCH_CALLS sets the number of calls. The ledger has been written by the judge's own
code; one reply in ten is a refusal.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from got_core.annotate.ledger import Ledger, Record
from got_core.evaluate.judges.asking import ledger_scope
from got_core.evaluate.judges.call import REFUSED, SCORED, Call, Shown
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.export import ledger_table
from got_core.evaluate.judges.judge import Judge
from got_core.evaluate.judges.kept import Kept
from got_core.evaluate.judges.replies import read_scores
from got_core.storage import Storage

CALLS = int(os.environ.get("BENCH_CALLS", "100000"))
CONFIG = JudgeConfig(url="http://127.0.0.1:9/v1", model="judge", revision="1")
READ = partial(read_scores, count=2, low=0, high=10)
WORDS = "The edit shows what the instruction asks for, and the background has changed a little. " * 2


def main() -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(f"file://{folder}")
        calls = [call(number) for number in range(CALLS)]
        write_ledger(storage, calls)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        return {
            "calls": float(CALLS),
            "MB of ledger": size / 1e6,
            **as_table(storage),
            **as_judge(storage, calls),
        }


def call(number: int) -> Call:
    """A call about a source and an edited picture."""
    shown = [
        Shown(sha256=f"{number:062x}{side:02x}", image=lambda: Image.new("RGB", (8, 8))) for side in (0, 1)
    ]
    return Call(step="bench", template="Rate {}", parts=(*shown, f"Rate {number}"), max_tokens=300)


def write_ledger(storage: Storage, calls: list[Call]) -> None:
    """What a judge would have kept of them."""
    ledger = Ledger(storage, ledger_scope(CONFIG), "answers")
    rng = np.random.default_rng(7)
    with Judge(CONFIG, storage, "unused") as judge:
        for number, one in enumerate(calls):
            refused = number % 10 == 9
            reply = json.dumps({"score": rng.integers(0, 11, 2).tolist(), "reasoning": f"{WORDS}{number}"})
            kept = Kept("" if refused else reply, CONFIG.model, "2026-01-01T00:00:00+00:00")
            ledger.finish(
                Record(
                    key=judge.key(one),
                    step=one.step,
                    prompt=one.prompt,
                    model=CONFIG.model,
                    revision=CONFIG.revision,
                    image=" ".join(one.pictures),
                    text=kept.text(),
                    reason=REFUSED if refused else None,
                    detail="filtered" if refused else "",
                    tokens_in=1000,
                    tokens_out=60,
                    cost=0.001,
                )
            )
    ledger.close()


def as_table(storage: Storage) -> dict[str, float | str]:
    """Seconds from the ledger to the mean of a column of verdicts."""
    begun, cpu = time.perf_counter(), time.process_time()
    table = ledger_table(storage, "answers")
    loaded = time.perf_counter()
    replies = table.filter(state=SCORED)["reply"].to_list()
    mean = float(np.mean([min(READ(reply).values) for reply in replies])) / 10
    ended = time.perf_counter()
    return {
        "table: seconds to the score": ended - begun,
        "table: CPU seconds": time.process_time() - cpu,
        "table: of it loading": loaded - begun,
        "table: score": mean,
        "table: scored of all": f"{len(replies)} / {table.height}",
    }


def as_judge(storage: Storage, calls: list[Call]) -> dict[str, float | str]:
    """Seconds of a judge that has nothing to ask, opening its ledger included."""
    begun, cpu = time.perf_counter(), time.process_time()
    with Judge(CONFIG, storage, "answers") as judge:
        judge.is_answered(calls[0])
        loaded = time.perf_counter()
        least = [min(one.value.values) for _, one in judge.each(calls, READ) if one.state == SCORED]
        mean = float(np.mean(least)) / 10
        ended = time.perf_counter()
        requests = judge.requests
    return {
        "judge: seconds to the score": ended - begun,
        "judge: CPU seconds": time.process_time() - cpu,
        "judge: of it loading": loaded - begun,
        "judge: score": mean,
        "judge: requests": float(requests),
    }


if __name__ == "__main__":
    print(main())
