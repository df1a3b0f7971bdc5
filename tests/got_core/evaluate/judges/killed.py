"""Judges the calls of a test until somebody kills it. For `test_judge_kills`.

python -m tests.got_core.evaluate.judges.killed HOME URL CALLS
"""

from __future__ import annotations

import sys
from pathlib import Path

from got_core.evaluate.judges.call import Verdict
from tests.got_core.evaluate.judges.calls import TWO, call, judge_at


def judged(home: Path, url: str, count: int) -> dict[int, Verdict]:
    """The verdict on each call."""
    with judge_at(url, home) as judge:
        return dict(judge.each([call(number) for number in range(count)], TWO))


if __name__ == "__main__":
    judged(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
