from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from got_core.corpus.ahead import ahead


class Work:
    """Counts what is under way, and what was begun."""

    def __init__(self, seconds: float = 0.005) -> None:
        self.seconds, self.now, self.most = seconds, 0, 0
        self.begun: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.begun.append(item)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds * (1 + item % 3))
        with self._lock:
            self.now -= 1
        if item == 13:
            raise ValueError("thirteen")
        return 10 * item


@pytest.mark.parametrize(("threads", "at_most"), [(1, None), (4, None), (4, 9), (8, 2)])
def test_results_come_in_order_and_never_too_many_are_ahead(threads: int, at_most: int | None) -> None:
    work = Work()
    limit = at_most or threads
    for number, result in enumerate(ahead(work, range(12), threads, at_most)):
        assert result == 10 * number
        assert len(work.begun) <= number + limit
    assert work.most == min(threads, limit) and sorted(work.begun) == [*range(12)]


def test_an_error_comes_in_its_items_place_and_ends_it() -> None:
    work, results = Work(), []
    with pytest.raises(ValueError, match="thirteen"), closing(ahead(work, range(100), 4)) as found:
        results.extend(found)
        pytest.fail("it should have been raised")
    assert max(work.begun) < 20 and work.now == 0


def test_closed_it_begins_nothing_more_and_items_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for k in range(1000):
            drawn.append(k)
            yield k

    work = Work()
    with closing(ahead(work, items(), 3)) as found:
        assert [next(found), next(found)] == [0, 10]
    assert work.now == 0 and len(drawn) <= 6
    assert list(ahead(work, [], 3)) == []
